//! A kernel that lacks some kinds of namespace, like gVisor: their files are missing, and `setns(2)` refuses them.
//!
//! The library reads those files through the C library's functions. This program defines functions with the same names.
//! They answer for such a kernel, and pass every other call to the real one.
//!
//! Arguments: `pidfd`, without thread descriptors too; `watches`, in place of all this a kernel where no watch of
//! `epoll(7)` is left for the first calls.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::executor::block_on;
use in_netns::{Call, ErrorKind, NetNs, ThreadFate, with_netns};
use in_netns_tests::{here, key, threads_in, tid};
use nix::errno::Errno;
use nix::libc;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

in_netns::rootless!();

const MISSING: [(&str, c_int); 3] =
    [("pid_for_children", libc::CLONE_NEWPID), ("cgroup", libc::CLONE_NEWCGROUP), ("ipc", libc::CLONE_NEWIPC)];

/// Whether the kernel has watches of `epoll(7)`.
static HAS_WATCHES: AtomicBool = AtomicBool::new(true);

/// # Safety
///
/// As `epoll_ctl(2)`.
#[allow(unsafe_code)] // As a function of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int {
    if operation == libc::EPOLL_CTL_ADD && !HAS_WATCHES.load(Ordering::Relaxed) {
        Errno::ENOSPC.set();
        return -1;
    }
    // SAFETY: the caller keeps the contract of this function.
    let result = unsafe { libc::syscall(libc::SYS_epoll_ctl, epoll, operation, fd, event) };
    c_int::try_from(result).expect("0 or -1")
}

/// # Safety
///
/// As `strlen(3)`.
#[allow(unsafe_code)]
unsafe fn is_missing(path: *const c_char) -> bool {
    // SAFETY: the caller keeps the contract of this function.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    MISSING.iter().any(|(name, _)| path.ends_with([b"/ns/", name.as_bytes()].concat().as_slice()))
}

/// # Safety
///
/// As `open(2)`.
#[allow(unsafe_code)] // As a function of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the caller keeps the contract of this function.
    if unsafe { is_missing(path) } {
        Errno::ENOENT.set();
        return -1;
    }
    // SAFETY: the caller keeps the contract of this function.
    let result = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) };
    c_int::try_from(result).expect("a descriptor, or -1")
}

/// # Safety
///
/// As `readlink(2)`.
#[allow(unsafe_code)] // As a function of the C library.
#[unsafe(no_mangle)]
unsafe extern "C" fn readlink(path: *const c_char, buffer: *mut c_char, size: usize) -> isize {
    // SAFETY: the caller keeps the contract of this function.
    if unsafe { is_missing(path) } {
        Errno::ENOENT.set();
        return -1;
    }
    // SAFETY: the caller keeps the contract of this function.
    let result = unsafe { libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, path, buffer, size) };
    isize::try_from(result).expect("a length, or -1")
}

/// What tokio makes once for the process cannot be made in the first call. A later call makes it.
fn without_watches() {
    HAS_WATCHES.store(false, Ordering::Relaxed);
    let ns = NetNs::new().expect("a namespace");
    for _ in 0..2 {
        let error = block_on(ns.run_async(|| async {})).expect_err("no watch is left");
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        assert!(error.to_string().contains("max_user_watches"), "{error}");
    }
    let error = NetNs::watch().expect_err("no watch is left");
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("/proc/sys/fs/epoll"), "{error}");
    HAS_WATCHES.store(true, Ordering::Relaxed);
    assert_eq!(block_on(ns.run_async(|| async { here() })).expect("a call"), key(ns.id()));
}

fn main() {
    if std::env::args().any(|argument| argument == "watches") {
        return without_watches();
    }
    let of_kind = |flag: c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let condition = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag);
        SeccompRule::new(vec![condition.expect("a condition")]).expect("a rule")
    };
    let rules = BTreeMap::from([(libc::SYS_setns, MISSING.map(|(_, flag)| of_kind(flag)).to_vec())]);
    let invalid = SeccompAction::Errno((Errno::EINVAL as i32).unsigned_abs());
    in_netns_tests::profiles::apply(rules, SeccompAction::Allow, invalid);
    if std::env::args().any(|argument| argument == "pidfd") {
        let rules = BTreeMap::from([(libc::SYS_pidfd_open, vec![])]);
        in_netns_tests::profiles::apply(rules, SeccompAction::Allow, SeccompAction::Errno(22));
    }
    for (name, _) in MISSING {
        std::fs::read_link(format!("/proc/thread-self/ns/{name}")).expect_err("it is missing");
    }

    let ns = NetNs::new().expect("a namespace");
    let outcome = Call::new(&ns).outcome(|| (here(), tid())).expect("a call");
    assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    let (at, thread) = outcome.value.expect("no panic");
    assert_eq!(at, key(ns.id()));
    assert_eq!(with_netns(&ns, tid).expect("a call"), thread, "a warm call uses its thread again");
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
}
