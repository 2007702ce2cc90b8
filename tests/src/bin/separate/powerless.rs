//! Makes calls without `CAP_SYS_ADMIN`: each is refused, and no thread moved, so none may count as poisoned.
//!
//! Prints `KIND MESSAGE` for each refusal, and the counters of the pool.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::net::UdpSocket;

use in_netns::{
    Call, Error as NetNsError, NetNs, View, in_netns, pinned, pool_stats, walk, with_netns, with_netns_async,
};

#[in_netns(new)]
fn attributed() -> Result<(), NetNsError> {
    unreachable!("the body ran")
}

fn refused<R>(what: &str, result: Result<R, NetNsError>) {
    match result {
        Ok(_) => println!("{what}=allowed"),
        Err(error) => println!("{what}={:?} {error}", error.kind()),
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let home = NetNs::current()?;
    for _ in 0..3 {
        refused("new", NetNs::new());
    }
    refused("create_named", NetNs::create_named("powerless"));
    refused("attributed", attributed());
    refused("with_netns", with_netns(&home, || ()));
    refused("fresh", Call::new(&home).fresh().run(|| ()));
    refused("enter", pinned(|thread| thread.enter(&home).map(drop))?);
    refused(
        "unshare",
        pinned(|_| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET))?.map_err(|_| NetNs::new().unwrap_err()),
    );
    walk([&home, &home], |_| ())?.into_iter().for_each(|step| refused("walk", step));
    refused("worker", home.worker().run(|| ()));
    refused("async", futures::executor::block_on(with_netns_async(&home, || async {})));
    refused("view", home.view());
    refused("of_process", View::of_process(std::process::id()));
    refused("of_socket", NetNs::of_socket(UdpSocket::bind("127.0.0.1:0")?));
    refused("from_pid", NetNs::from_pid(std::os::unix::process::parent_id()));
    pinned(|_| ())?;
    let stats = pool_stats();
    println!("poisoned={} retired={} spawned={}", stats.poisoned_total, stats.retired_total, stats.spawned_total);
    Ok(())
}
