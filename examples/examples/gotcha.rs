//! The program from "Linux Namespaces and Go Don't Mix", in Rust.
//!
//! A body runs in a new network namespace and starts a thread there. In Go before 1.10 that child could run at home,
//! and unrelated goroutines could run in the namespace. Here the child is where its parent is, and afterwards every
//! thread is home.
//!
//! A second body makes its own restore impossible: its value arrives, and its thread is never used again.

use std::error::Error;
use std::fs;
use std::thread;

use in_netns::{NetNs, in_netns, pool_stats, set_poison_hook, with_netns};
use nix::unistd::gettid;

/// The namespace of the calling thread. (`/proc/self` would show that of the process's main thread.)
fn here() -> String {
    let link = fs::read_link("/proc/thread-self/ns/net").expect("/proc is mounted");
    link.display().to_string()
}

#[in_netns(ns)]
fn parent_and_child(ns: &NetNs) -> (String, String) {
    let child = thread::spawn(here);
    (here(), child.join().expect("the child does not panic"))
}

#[in_netns(ns)]
fn without_a_way_back(ns: &NetNs) -> i32 {
    caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).expect("a capability can be dropped");
    gettid().as_raw()
}

fn main() -> Result<(), Box<dyn Error>> {
    // Without root, this process becomes root of a user namespace of its own.
    in_netns::rootless::enter()?;

    let ns = NetNs::new()?;
    println!("home: {}", here());
    let (parent, child) = parent_and_child(&ns);
    println!("parent: {parent}");
    println!("child: {child}");
    println!("after: {}", here());

    println!();
    set_poison_hook(|poisoning| println!("reported: {poisoning}"));
    let tid = without_a_way_back(&ns);
    println!("value: thread {tid} ran the body and could not go home");
    println!("thread {tid} alive: {}", fs::exists(format!("/proc/self/task/{tid}"))?);
    println!("poisoned threads: {}", pool_stats().poisoned_total);
    println!("next call: {}, as it should be", with_netns(&ns, here)?);
    Ok(())
}
