//! Functions that enter a namespace, each named for how it does that.

mod closures;
mod deferred;
mod flags;
mod futures;
mod guards;
mod helpers;
mod instances;
mod order;
mod values;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;

unsafe extern "C" {
    fn setns(fd: i32, kind: i32) -> i32;
    fn unshare(kind: i32) -> i32;
}

const NET: i32 = 0x4000_0000;
const MOUNT: i32 = 0x2_0000;

fn open(path: &str) -> File {
    File::open(path).unwrap()
}

/// One call: who calls it is inside.
fn enter(file: &File) -> io::Result<()> {
    match unsafe { setns(file.as_raw_fd(), NET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn spawns() {
    drop(thread::spawn(|| ()));
}

fn main() {
    closures::main();
    deferred::main();
    flags::main();
    futures::main();
    guards::main();
    helpers::main();
    instances::main();
    order::main();
    values::main();
}
