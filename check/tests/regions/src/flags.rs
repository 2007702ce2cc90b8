//! The kind of namespace.

use std::hint::black_box;
use std::ops::BitOr;
use std::os::fd::AsRawFd;

use crate::{MOUNT, NET, open, setns, spawns, unshare};

const PROCESS: i32 = 0x2000_0000;

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

fn of_chosen_kind(file: i32, name: &str) {
    let kind = match name {
        "net" => NET,
        "mnt" => MOUNT,
        _ => return,
    };
    unsafe { setns(file, kind) };
    spawns();
}

/// The mode is the flag of another kind.
fn of_given_kind_beside_a_mode(file: i32, kind: i32) {
    let mode = 0o1000_u32;
    unsafe { setns(file, kind) };
    spawns();
    println!("{mode}");
}

fn of_a_kind_and_another(kind: i32) {
    unsafe { unshare(kind | MOUNT) };
    spawns();
}

#[derive(Clone, Copy)]
struct CloneFlags(i32);

impl BitOr for CloneFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

fn of_flags_and_another(flags: CloneFlags) {
    unsafe { unshare((flags | CloneFlags(MOUNT)).0) };
    spawns();
}

fn mount_and_process() {
    unsafe { unshare((CloneFlags(MOUNT) | CloneFlags(PROCESS)).0) };
    spawns();
}

pub(crate) fn main() {
    of_chosen_kind(0, "net");
    of_given_kind_beside_a_mode(0, NET);
    of_a_kind_and_another(NET);
    of_flags_and_another(CloneFlags(NET));
    mount_and_process();
    of_any_kind();
    of_given_kind(NET);
    of_two_kinds();
    mount_only();
    mount_by_helper();
}
