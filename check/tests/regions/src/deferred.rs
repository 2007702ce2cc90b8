//! Guards that leave by a closure, of a type that may hold any closure.

use std::fs::File;
use std::future::ready;

use executor::{Deferred, defer};

use crate::futures::poll;
use crate::{enter, open, spawns};

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

fn looks() {
    println!("{}", File::open("c").is_ok());
}

fn leaves_by_deferred() {
    let home = open("b");
    enter(&open("a")).unwrap();
    let _deferred = defer(|| enter(&home).unwrap());
    looks();
}

fn calls_what_leaves_by_deferred() {
    leaves_by_deferred();
    spawns();
}

fn leaves_by_own_deferred() {
    let home = open("b");
    enter(&open("a")).unwrap();
    let _deferred = OnDrop(|| enter(&home).unwrap());
    looks();
}

fn calls_what_leaves_by_own_deferred() {
    leaves_by_own_deferred();
    spawns();
}

fn gives_deferred() -> Deferred<impl FnOnce()> {
    let home = open("b");
    enter(&open("a")).unwrap();
    defer(move || enter(&home).unwrap())
}

fn by_deferred() {
    let _deferred = gives_deferred();
    spawns();
}

/// It enters nothing.
fn defers_something_else() {
    let _deferred = (defer(looks), OnDrop(looks));
    spawns();
}

async fn holds_deferred() {
    let home = open("b");
    let _deferred = defer(|| enter(&home).unwrap());
    enter(&open("a")).unwrap();
    ready(()).await;
}

async fn holds_deferred_before() {
    {
        let _deferred = gives_deferred();
        looks();
    }
    ready(()).await;
}

async fn holds_something_else() {
    let _deferred = (defer(looks), OnDrop(looks));
    ready(()).await;
}

pub(crate) fn main() {
    calls_what_leaves_by_deferred();
    calls_what_leaves_by_own_deferred();
    by_deferred();
    defers_something_else();
    poll(holds_deferred());
    poll(holds_deferred_before());
    poll(holds_something_else());
}
