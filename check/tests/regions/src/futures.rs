//! Futures that enter, and futures of named types.

use std::future::ready;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use crate::{enter, open, spawns};

async fn enters() {
    enter(&open("a")).unwrap();
}

async fn awaits_what_enters() {
    enters().await;
    spawns();
}

/// The executor may poll it anywhere.
fn gives_what_enters() {
    executor::run_elsewhere(enters());
    spawns();
}

struct Quiet;

impl Future for Quiet {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

struct Spawns;

impl Future for Spawns {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        spawns();
        Poll::Ready(())
    }
}

fn gives_two() {
    executor::run(Quiet);
    executor::run(Spawns);
}

fn gives_one_of_std() {
    executor::run(ready(1));
    executor::run(Spawns);
}

/// No executor: the check does not know it.
pub(crate) fn poll(future: impl Future) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

pub(crate) fn main() {
    poll(awaits_what_enters());
    gives_what_enters();
    gives_two();
    gives_one_of_std();
}
