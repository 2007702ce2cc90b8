//! A kernel without `PIDFD_THREAD` (before 6.9), or without `kcmp(2)`: a seccomp filter makes this kernel answer as
//! those do. Every promise is kept.
//!
//! Arguments: `pidfd`, `kcmp`.

use std::fs::DirEntry;

use in_netns::{Call, Change, NetNs, RetireReason, ThreadFate, pool_stats, set_poison_hook, with_netns};
use in_netns_tests::{give_up_sys_admin, here, is_alive, key, profiles, threads_in, threads_outside_home, tid};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// Makes the kernel answer `errno` to a syscall that matches the rules.
fn answer(syscall: i64, rules: Vec<SeccompRule>, errno: Errno) {
    let refuse = SeccompAction::Errno((errno as i32).unsigned_abs());
    profiles::apply([(syscall, rules)].into(), SeccompAction::Allow, refuse);
}

/// The descriptors of the calling thread whose files have paths that begin with `path`, as files of `/proc`.
fn descriptors_on(path: &str) -> impl Iterator<Item = DirEntry> {
    let table = std::fs::read_dir("/proc/thread-self/fd").expect("the table").flatten();
    table.filter(move |entry| {
        std::fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with(path))
    })
}

/// Replaces each descriptor of a file whose path begins with `path` by one of another file.
fn replace_descriptors_on(path: &str) {
    let other = std::fs::File::open("/dev/zero").expect("a file");
    for entry in descriptors_on(path) {
        let number: i32 = entry.file_name().to_string_lossy().parse().expect("a number");
        // SAFETY: the table belongs to the calling thread alone, and the thread exits. No value of this process has
        // that descriptor.
        #[allow(unsafe_code)]
        unsafe {
            nix::unistd::dup2_raw(&other, number).map(std::mem::forget).expect("dup2");
        }
    }
}

/// Opens and closes each open file whose path begins with `path`.
fn reopen_descriptors_on(path: &str) {
    for entry in descriptors_on(path) {
        std::fs::File::open(entry.path()).map(drop).expect("a file");
    }
}

/// A thread is used again unless it has unshared its table of descriptors.
fn assert_table_is_compared(ns: &NetNs) {
    let outcome = Call::new(ns).outcome(tid).expect("a call");
    assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    let outcome = Call::new(ns).outcome(|| unshare(CloneFlags::CLONE_FILES).expect("unshare")).expect("a call");
    assert!(
        matches!(outcome.thread, ThreadFate::Retired(RetireReason::Changed(Change::FileTable))),
        "{:?}",
        outcome.thread
    );
}

pub(crate) fn main() {
    crate::rootless();
    let without: Vec<String> = crate::arguments().collect();
    let lacks = |what: &str| without.iter().any(|missing| missing == what);
    if lacks("pidfd") {
        let flag = u64::from(libc::O_EXCL.unsigned_abs());
        let thread_flag =
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag).expect("a condition");
        answer(libc::SYS_pidfd_open, vec![SeccompRule::new(vec![thread_flag]).expect("a rule")], Errno::EINVAL);
    }
    if lacks("kcmp") {
        answer(libc::SYS_kcmp, vec![], Errno::ENOSYS);
    }
    set_poison_hook(|_| {});

    let ns = NetNs::new().expect("a namespace");
    for _ in 0..500 {
        assert_eq!(with_netns(&ns, here).expect("a call"), key(ns.id()));
        assert_eq!(threads_in(&ns), [] as [u32; 0], "P3");
    }

    // Without `kcmp`, the thread inspects itself by other means.
    assert_table_is_compared(&ns);

    // Another file may have the number of the descriptor that marks the table.
    let outcome = Call::new(&ns).outcome(|| {
        unshare(CloneFlags::CLONE_FILES).expect("unshare");
        replace_descriptors_on("/memfd:in-netns");
    });
    let fate = outcome.expect("a call").thread;
    assert!(matches!(fate, ThreadFate::Retired(RetireReason::Changed(Change::FileTable))), "{fate:?}");

    // The mark is gone when a thread closes another descriptor of the file.
    reopen_descriptors_on("/memfd:in-netns");
    assert_table_is_compared(&ns);

    let uts = || std::fs::read_link("/proc/thread-self/ns/uts").expect("a namespace");
    let home = with_netns(&ns, uts).expect("a call");
    with_netns(&ns, || unshare(CloneFlags::CLONE_NEWUTS)).expect("a call").expect("unshare");
    assert_eq!(with_netns(&ns, uts).expect("a call"), home, "the UTS namespace is left behind, or the thread is");

    let outcome = Call::new(&ns).outcome(|| unshare(CloneFlags::CLONE_NEWNS).expect("unshare")).expect("a call");
    assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Changed(_))), "{:?}", outcome.thread);

    let poisoned = pool_stats().poisoned_total;
    for _ in 0..100 {
        let on = with_netns(&ns, || {
            give_up_sys_admin();
            tid()
        })
        .expect("a call");
        assert!(!is_alive(on), "P3: gone before the call returns");
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
    }
    assert_eq!(pool_stats().poisoned_total, poisoned + 100);
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
    with_netns(&ns, || ()).expect("the next call works");
}
