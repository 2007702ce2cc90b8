//! Bodies that need no other library.

use std::panic::AssertUnwindSafe;
use std::thread;

use in_netns::with_netns;

fn clean() {
    println!("{:?}", with_netns("small", || std::env::args().count()));
}

fn spawns() {
    println!("{}", with_netns("small", || thread::spawn(|| ())).is_ok());
}

fn scoped() {
    println!(
        "{:?}",
        with_netns("small", || thread::scope(|scope| scope
            .spawn(|| 1)
            .join()
            .unwrap()))
    );
}

fn unknown(what: &(dyn Fn() -> u32 + Sync)) {
    println!("{:?}", with_netns("small", || what()));
}

fn watch() {
    drop(thread::spawn(|| ()));
}

fn listen() {
    drop(thread::spawn(|| ()));
}

fn allowed() {
    println!("{:?}", with_netns("small", watch_over));
    println!("{:?}", with_netns("small", || watch()));
}

fn watch_over() {
    watch();
}

fn half_allowed() {
    println!(
        "{:?}",
        with_netns("small", || {
            watch();
            listen();
        })
    );
}

fn opaque(body: fn() -> u32) {
    println!("{:?}", with_netns("small", body));
}

/// The type that is given is no closure, and has one in it.
fn wrapped() {
    println!(
        "{:?}",
        with_netns("small", AssertUnwindSafe(|| drop(thread::spawn(|| ()))))
    );
}

fn main() {
    wrapped();
    clean();
    spawns();
    scoped();
    unknown(&|| 1);
    allowed();
    half_allowed();
    opaque(|| 2);
}
