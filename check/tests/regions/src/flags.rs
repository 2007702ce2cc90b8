//! The kind of namespace.

use std::hint::black_box;
use std::os::fd::AsRawFd;

use crate::{MOUNT, NET, open, setns, spawns, unshare};

/// Zero: of any kind. The buffer's length is the flag of another kind.
fn of_any_kind() {
    unsafe { setns(open("a").as_raw_fd(), 0) };
    black_box(&mut [0_u8; 512]);
    spawns();
    unsafe { setns(open("b").as_raw_fd(), 0) };
}

fn of_given_kind(kind: i32) {
    unsafe { setns(open("a").as_raw_fd(), kind) };
    black_box(vec![0_u8; 0x2_0000]);
    spawns();
    unsafe { setns(open("b").as_raw_fd(), kind) };
}

fn of_two_kinds() {
    unsafe { unshare(NET | MOUNT) };
    spawns();
}

fn mount_only() {
    unsafe { unshare(MOUNT) };
    spawns();
}

fn unshare_kind(kind: i32) {
    unsafe { unshare(kind) };
}

fn mount_by_helper() {
    unshare_kind(MOUNT);
    spawns();
}

pub(crate) fn main() {
    of_any_kind();
    of_given_kind(NET);
    of_two_kinds();
    mount_only();
    mount_by_helper();
}
