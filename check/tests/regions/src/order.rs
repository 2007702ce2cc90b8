//! Functions that enter and leave by calls of the same function: what is between them.

use std::fs::File;
use std::future::ready;
use std::os::fd::AsRawFd;

use crate::futures::poll;
use crate::{NET, enter, open, setns, spawns};

fn looks() {
    println!("{}", File::open("c").is_ok());
}

fn leaves_after_a_sum(numbers: &[u32]) -> u32 {
    let home = open("b");
    enter(&open("a")).unwrap();
    let sum = numbers.iter().sum();
    enter(&home).unwrap();
    sum
}

fn calls_what_leaves_after_a_sum() {
    leaves_after_a_sum(&[1, 2]);
    spawns();
}

fn leaves_at_once() {
    let (inside, home) = (open("a"), open("b"));
    unsafe { setns(inside.as_raw_fd(), NET) };
    unsafe { setns(home.as_raw_fd(), NET) };
}

fn calls_what_leaves_at_once() {
    leaves_at_once();
    spawns();
}

/// Of the second call it is not known which kind of namespace it enters.
fn enters_twice() {
    let (inside, other) = (open("a"), open("b"));
    unsafe { setns(inside.as_raw_fd(), NET) };
    unsafe { setns(other.as_raw_fd(), 0) };
}

fn by_two_calls() {
    enters_twice();
    spawns();
}

async fn works() {
    ready(()).await;
}

async fn awaits_inside() {
    let home = open("b");
    enter(&open("a")).unwrap();
    works().await;
    enter(&home).unwrap();
}

async fn awaits_by_system_call() {
    let (inside, home) = (open("a"), open("b"));
    unsafe { setns(inside.as_raw_fd(), NET) };
    ready(()).await;
    unsafe { setns(home.as_raw_fd(), NET) };
}

async fn awaits_a_box(work: std::pin::Pin<Box<dyn Future<Output = ()>>>) {
    let home = open("b");
    enter(&open("a")).unwrap();
    work.await;
    enter(&home).unwrap();
}

async fn awaits_outside() {
    let home = open("b");
    ready(()).await;
    enter(&open("a")).unwrap();
    looks();
    enter(&home).unwrap();
    works().await;
}

async fn awaits_between() {
    let home = open("b");
    for _ in 0..3 {
        enter(&open("a")).unwrap();
        looks();
        enter(&home).unwrap();
        works().await;
        ready(()).await;
    }
}

pub(crate) fn main() {
    calls_what_leaves_after_a_sum();
    calls_what_leaves_at_once();
    by_two_calls();
    poll(awaits_inside());
    poll(awaits_by_system_call());
    poll(awaits_a_box(Box::pin(works())));
    poll(awaits_outside());
    poll(awaits_between());
}
