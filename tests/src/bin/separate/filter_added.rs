//! A process has a seccomp filter, and adds another one that kills for a system call. The library does not make that
//! call on a thread that has the second filter.
//!
//! Arguments: who has the second one (`body`, `caller` or `all`), and the system call. Or `refused` and the system
//! call: there is one filter, before the first call, and it refuses. Or `unadoptable`: capset(2) is refused.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use futures::executor::block_on;
use in_netns::{Call, Change, ErrorKind, NetNs, NetNsPool, RetireReason, ThreadFate, pool_stats, with_netns};
use in_netns_tests::{BOUND, is_asleep, profiles, threads, tid, wait_until};
use nix::sched::{CloneFlags, unshare};
use seccompiler::SeccompAction;

/// The answer to one system call.
fn rules(call: i64) -> BTreeMap<i64, Vec<seccompiler::SeccompRule>> {
    BTreeMap::from([(call, vec![])])
}

/// Kills the process for a system call of the calling thread.
fn add(call: i64) {
    profiles::apply_here(rules(call), SeccompAction::Allow, SeccompAction::KillProcess);
}

/// Whether every other thread sleeps.
fn others_sleep() -> bool {
    threads().into_keys().filter(|thread| *thread != tid()).all(is_asleep)
}

/// Threads that leave the table of descriptors leave none of theirs in it.
fn leave_the_table(ns: &NetNs) {
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let before = descriptors().count();
    for _ in 0..200 {
        // After short bodies the caller spins, and does a part of the inspection of the next one.
        (0..20).for_each(|_| with_netns(ns, || ()).expect("a call"));
        with_netns(ns, || unshare(CloneFlags::CLONE_FILES)).expect("a call").expect("unshare");
        Call::new(ns).fresh().run(|| unshare(CloneFlags::CLONE_FILES)).expect("a call").expect("unshare");
    }
    // A thread may find no other thread to close a descriptor until the next call, and each that lives has one open.
    let start = std::time::Instant::now();
    while descriptors().count() > before + pool_stats().threads {
        with_netns(ns, || ()).expect("a call");
        let files: Vec<_> = descriptors().filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        assert!(start.elapsed() < BOUND, "{files:?}; {:?}", pool_stats());
        thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn refuse(call: i64) {
    profiles::apply(rules(call), SeccompAction::Allow, SeccompAction::Errno(libc::EPERM.unsigned_abs()));
}

/// The filter forbids what tokio needs for a runtime. Other calls have nothing to do with that.
fn tokio_is_refused(call: i64) {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    std::panic::set_hook(Box::new(|_| _ = PANICS.fetch_add(1, Ordering::Relaxed)));
    refuse(call);
    let ns = NetNs::new().expect("a namespace");
    let error = block_on(ns.run_async(async || ())).expect_err("there is no runtime");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("seccomp"), "{error}");
    let spawned = pool_stats().spawned_total;
    for _ in 0..20 {
        with_netns(&ns, nix::unistd::getppid).expect("a call");
    }
    assert_eq!(pool_stats().spawned_total, spawned, "warm calls use their thread again");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

/// The process has fewer capabilities than its pinned threads, which cannot give theirs up. Every call is an error.
fn no_thread_is_fit(call: i64) {
    thread::spawn(|| {
        thread::sleep(BOUND);
        eprintln!("a call does not end: {:?}", pool_stats());
        std::process::exit(1);
    });
    let ns = NetNs::new().expect("a namespace");
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::drop(None, set, caps::Capability::CAP_SYS_TIME).expect("a capability can always be dropped");
    }
    refuse(call);
    let unfit = |error: in_netns::Error| {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("capset"), "{error}");
    };
    unfit(ns.run(|| ()).expect_err("no thread is fit"));
    unfit(block_on(ns.run_async(async || ())).expect_err("no thread is fit"));
    let error = block_on(ns.spawn_async(async || ())).expect_err("no thread is fit");
    assert!(error.to_string().contains("capset"), "{error}");
    let pool = NetNsPool::builder().build().expect("it does not wait");
    unfit(pool.take().expect_err("no thread is fit"));
    unfit(pool.take().expect_err("no thread is fit"));
}

pub(crate) fn main() {
    crate::rootless();
    let arguments: Vec<String> = crate::arguments().collect();
    let [who, call] = arguments.as_slice() else { panic!("who, and a system call") };
    let call = i64::from(call.parse::<syscalls::Sysno>().expect("a system call").id());
    match who.as_str() {
        "refused" => return tokio_is_refused(call),
        "unadoptable" => return no_thread_is_fit(call),
        _ => {}
    }
    // It refuses a system call that nothing makes.
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    profiles::apply(rules(9999), SeccompAction::Allow, refused);

    let ns = NetNs::new().expect("a namespace");
    let calls = || {
        for _ in 0..3 {
            with_netns(&ns, nix::unistd::getppid).expect("a call");
            Call::new(&ns).outcome(nix::unistd::getppid).expect("a call");
            Call::new(&ns).fresh().outcome(nix::unistd::getppid).expect("a call");
        }
        drop(ns.holders().expect("the holders"));
    };
    calls();
    match who.as_str() {
        "body" => {
            let of_pool = Call::new(&ns).outcome(|| add(call)).expect("a call");
            let fresh = Call::new(&ns).fresh().outcome(|| add(call)).expect("a call");
            for fate in [of_pool.thread, fresh.thread] {
                assert!(matches!(fate, ThreadFate::Retired(RetireReason::Changed(Change::Seccomp))), "{fate:?}");
            }
            with_netns(&ns, || add(call)).expect("a call");
            calls();
        }
        "caller" => thread::scope(|scope| {
            scope.spawn(|| {
                add(call);
                calls();
            });
        }),
        "all" => {
            // Nothing is promised of a thread to which another one adds a filter while it runs.
            wait_until("every inspection has ended", others_sleep);
            profiles::apply(rules(call), SeccompAction::Allow, SeccompAction::KillProcess);
            calls();
            // The threads that were cloned from the template have both filters from the start. Without kcmp(2), which
            // was there when the template started, each of them tells by itself whether it is pristine.
            let spawned = pool_stats().spawned_total;
            for _ in 0..20 {
                with_netns(&ns, nix::unistd::getppid).expect("a call");
            }
            assert_eq!(pool_stats().spawned_total, spawned, "warm calls use their thread again");
        }
        "table" => leave_the_table(&ns),
        other => panic!("{other}?"),
    }
    calls();
}
