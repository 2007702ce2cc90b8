//! Regions that call what their callers give them as a value.

use std::cell::RefCell;

use crate::futures::poll;
use crate::{enter, open, spawns};

fn calls_trait_object(body: &mut dyn FnMut()) {
    enter(&open("a")).unwrap();
    body();
    enter(&open("b")).unwrap();
}

fn calls_pointer(body: fn()) {
    enter(&open("a")).unwrap();
    body();
    enter(&open("b")).unwrap();
}

fn calls_box(body: Box<dyn FnOnce() + Send>) {
    enter(&open("a")).unwrap();
    body();
    enter(&open("b")).unwrap();
}

trait Handler {
    fn handle(&self);
}

struct Spawning;

impl Handler for Spawning {
    fn handle(&self) {
        spawns();
    }
}

struct Task {
    run: Box<dyn Fn()>,
}

fn closure_calls_box(body: Box<dyn FnOnce()>) {
    let run = || {
        enter(&open("a")).unwrap();
        body();
        enter(&open("b")).unwrap();
    };
    run();
}

fn closure_calls_handler(handler: &dyn Handler) {
    let run = || {
        enter(&open("a")).unwrap();
        handler.handle();
        enter(&open("b")).unwrap();
    };
    run();
}

fn closure_calls_field(task: Task) {
    let run = move || {
        enter(&open("a")).unwrap();
        (task.run)();
        enter(&open("b")).unwrap();
    };
    run();
}

/// It does not call it.
fn closure_keeps_handler(handler: &dyn Handler) -> bool {
    let run = || {
        enter(&open("a")).unwrap();
        println!("{}", open("c").metadata().is_ok());
        enter(&open("b")).unwrap();
        std::ptr::from_ref(handler).is_null()
    };
    run()
}

async fn future_calls_handler(handler: &dyn Handler) {
    enter(&open("a")).unwrap();
    handler.handle();
    enter(&open("b")).unwrap();
}

fn block_calls_box(body: Box<dyn Fn()>) -> impl Future<Output = ()> {
    async move {
        enter(&open("a")).unwrap();
        body();
        enter(&open("b")).unwrap();
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Fn()>>> = const { RefCell::new(Vec::new()) };
}

/// It does not call it.
fn keeps_box_in_thread_local(body: Box<dyn Fn()>) {
    enter(&open("a")).unwrap();
    KEPT.try_with(|kept| kept.borrow_mut().push(body)).unwrap();
    enter(&open("b")).unwrap();
}

/// It does not call it.
async fn future_keeps_handler(handler: &dyn Handler) -> bool {
    enter(&open("a")).unwrap();
    println!("{}", open("c").metadata().is_ok());
    enter(&open("b")).unwrap();
    std::ptr::from_ref(handler).is_null()
}

/// It does not call it.
fn keeps_pointer(body: fn()) -> fn() {
    enter(&open("a")).unwrap();
    println!("{}", open("c").metadata().is_ok());
    enter(&open("b")).unwrap();
    body
}

/// No region.
fn named_by_option(body: fn()) {
    body();
}

pub(crate) fn main() {
    calls_trait_object(&mut spawns);
    calls_pointer(spawns);
    calls_box(Box::new(spawns));
    keeps_pointer(|| ())();
    named_by_option(spawns);
    closure_calls_box(Box::new(spawns));
    closure_calls_handler(&Spawning);
    closure_calls_field(Task { run: Box::new(spawns) });
    closure_keeps_handler(&Spawning);
    poll(future_calls_handler(&Spawning));
    poll(block_calls_box(Box::new(spawns)));
    keeps_box_in_thread_local(Box::new(spawns));
    poll(future_keeps_handler(&Spawning));
}
