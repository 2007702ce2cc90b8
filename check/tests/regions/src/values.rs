//! Regions that call what their callers give them as a value.

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
}
