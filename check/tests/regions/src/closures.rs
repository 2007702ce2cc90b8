//! Closures that enter, and closures that are given to what enters.

use std::fs::File;
use std::io;
use std::thread;

use crate::{enter, open, spawns};

fn in_and_then() -> io::Result<()> {
    File::open("a").and_then(|file| enter(&file))?;
    spawns();
    File::open("b").and_then(|file| enter(&file))
}

fn in_function_given_to_and_then() -> io::Result<()> {
    fn enter_by_value(file: File) -> io::Result<()> {
        enter(&file)
    }
    File::open("a").and_then(enter_by_value)?;
    spawns();
    Ok(())
}

fn in_local_closure() {
    let go = |path: &str| enter(&open(path)).unwrap();
    go("a");
    spawns();
    go("b");
}

/// Its own thread stays where it is.
fn on_another_thread() {
    thread::spawn(|| enter(&open("a")).unwrap()).join().unwrap();
    thread::scope(|scope| drop(scope.spawn(|| enter(&open("a")).unwrap())));
    spawns();
}

/// So it does where a library starts the thread.
fn on_thread_of_library() {
    executor::elsewhere(|| enter(&open("a")).unwrap());
    spawns();
}

fn takes_a_closure<R>(body: impl FnOnce() -> R) -> R {
    enter(&open("a")).unwrap();
    spawns();
    let result = body();
    enter(&open("b")).unwrap();
    result
}

fn gives_a_closure() {
    takes_a_closure(|| 1);
}

pub(crate) fn main() {
    in_and_then().unwrap();
    in_function_given_to_and_then().unwrap();
    in_local_closure();
    on_another_thread();
    on_thread_of_library();
    gives_a_closure();
}
