//! Helpers that call `setns` twice, and methods on types of the standard library.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::{NET, enter, open, setns, spawns};

fn setns_again(file: &File) -> i32 {
    match unsafe { setns(file.as_raw_fd(), NET) } {
        -1 => unsafe { setns(file.as_raw_fd(), NET) },
        other => other,
    }
}

fn by_retry() {
    setns_again(&open("a"));
    spawns();
    setns_again(&open("b"));
}

fn chooses(first: bool) -> io::Result<()> {
    if first { enter(&open("a")) } else { enter(&open("b")) }
}

fn by_choice() {
    chooses(true).unwrap();
    spawns();
}

fn rolls_back(home: &File) -> io::Result<()> {
    enter(&open("a"))?;
    if let Err(error) = File::open("c") {
        enter(home)?;
        return Err(error);
    }
    Ok(())
}

fn by_roll_back() {
    rolls_back(&open("b")).unwrap();
    spawns();
}

/// It enters, works and leaves: its callers are outside.
fn leaves() -> io::Result<u64> {
    let home = File::open("b")?;
    enter(&open("a"))?;
    let length = open("c").metadata()?.len();
    enter(&home)?;
    println!("{length}");
    Ok(length)
}

fn calls_what_leaves() {
    leaves().unwrap();
    spawns();
}

fn restore(home: &File) -> io::Result<()> {
    enter(home)
}

/// It enters by one call fewer than it leaves by.
fn leaves_by_helper() -> io::Result<u64> {
    let home = File::open("b")?;
    enter(&open("a"))?;
    let length = open("c").metadata()?.len();
    restore(&home)?;
    Ok(length)
}

fn calls_what_leaves_by_helper() {
    leaves_by_helper().unwrap();
    spawns();
}

trait Enter {
    fn go(&self);
}

impl Enter for File {
    fn go(&self) {
        enter(self).unwrap();
    }
}

trait Within {
    fn within(&self);
}

impl Within for str {
    fn within(&self) {
        enter(&open(self)).unwrap();
        spawns();
        enter(&open("b")).unwrap();
    }
}

fn by_method_on_file() {
    open("a").go();
    spawns();
    open("b").go();
}

pub(crate) fn main() {
    by_retry();
    by_choice();
    by_roll_back();
    calls_what_leaves();
    calls_what_leaves_by_helper();
    by_method_on_file();
    "a".within();
}
