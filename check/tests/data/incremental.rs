//! Code whose verdicts need debug information, beside a module that changes.

use std::pin::pin;
use std::task::{Context, Waker};

mod changes;

unsafe extern "C" {
    fn setns(namespace: i32, kind: i32) -> i32;
}

struct Guard;

impl Guard {
    fn enter() -> Self {
        unsafe { setns(0, 0) };
        Self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        unsafe { setns(0, 0) };
    }
}

fn starts() {
    let _inside = Guard::enter();
    drop(std::thread::spawn(|| ()));
}

async fn waits() {
    let _inside = Guard::enter();
    std::future::ready(()).await;
}

fn main() {
    starts();
    println!("{:?}", pin!(waits()).poll(&mut Context::from_waker(Waker::noop())));
    println!("{}", changes::changes());
}
