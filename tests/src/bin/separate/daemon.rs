//! A process that changes its ids or capabilities after its first call. A body has exactly the privileges that the
//! process has at the time of the call.
//!
//! The argument is the change.

use std::fs;
use std::thread;
use std::time::Duration;

use caps::{CapSet, Capability, CapsHashSet};
use in_netns::{Call, ErrorKind, NetNs, PoolStats, pinned, pool_stats, set_keep_alive, with_netns};
use in_netns_tests::{here, key, threads, threads_in, threads_outside_home, tid, wait_until};
use nix::sys::resource::{Resource, setrlimit};

fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a map");
    nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn keep_capabilities() {
    nix::sys::prctl::set_keepcaps(true).expect("prctl");
}

/// Changes all threads, as setuid(2) of the C library does.
fn become_user(id: u32) {
    let (user, group) = (nix::unistd::Uid::from_raw(id), nix::unistd::Gid::from_raw(id));
    nix::unistd::setresgid(group, group, group).expect("setresgid");
    nix::unistd::setresuid(user, user, user).expect("setresuid");
}

fn kept() -> CapsHashSet {
    [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN].into()
}

/// Changes only the calling thread.
fn keep_only(kept: &CapsHashSet) {
    caps::set(None, CapSet::Effective, kept).expect("capset");
    caps::set(None, CapSet::Permitted, kept).expect("capset");
}

fn of(set: CapSet) -> CapsHashSet {
    caps::read(None, set).expect("capget")
}

/// The effective and permitted capabilities, and the user id.
fn mine() -> (CapsHashSet, CapsHashSet, u32) {
    (of(CapSet::Effective), of(CapSet::Permitted), nix::unistd::geteuid().as_raw())
}

/// Asserts that calls of all kinds work, that warm calls reuse their threads, and that bodies have the caller's
/// privileges.
fn calls_work(ns: &NetNs) {
    let expected = mine();
    for _ in 0..5 {
        assert_eq!(with_netns(ns, || (here(), mine())).expect("a call"), (key(ns.id()), expected.clone()));
    }
    assert_eq!(pinned(|_| mine()).expect("a lease"), expected);
    assert_eq!(Call::new(ns).fresh().run(mine).expect("a call"), expected);
    let outcome = Call::new(ns).outcome(mine).expect("a call");
    assert!(matches!(outcome.thread, in_netns::ThreadFate::Reusable), "{:?}", outcome.thread);
    let spawned = in_netns::pool_stats().spawned_total;
    for _ in 0..20 {
        with_netns(ns, here).expect("a call");
    }
    assert_eq!(in_netns::pool_stats().spawned_total, spawned, "warm calls use their threads again");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(in_netns::with_netns_async(ns, async || mine())).expect("an async call"), expected);
    assert_eq!(threads_in(ns), [] as [u32; 0]);
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}

/// Asserts that a call is refused, as a plain setns(2) is.
fn calls_are_refused(ns: &NetNs) {
    for _ in 0..3 {
        let error = with_netns(ns, here).expect_err("as by hand");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        let error = Call::new(ns).fresh().run(here).expect_err("as by hand");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    assert_eq!(pinned(|_| mine()).expect("a lease"), mine());
}

/// Becomes a user who may have more threads only while the thread that starts them has a capability.
fn drops_root_beside_processes_of_that_user(ns: &NetNs) {
    set_keep_alive(Duration::ZERO);
    with_netns(ns, here).expect("a call");
    wait_until("no thread is idle", || pool_stats().threads == 0);
    setrlimit(Resource::RLIMIT_NPROC, 1, 1).expect("setrlimit");
    keep_capabilities();
    become_user(1000);
    keep_only(&kept());
    thread::spawn(|| ()).join().expect("a thread by hand");
    for _ in 0..3 {
        with_netns(ns, here).expect("a call");
    }
    set_keep_alive(Duration::from_secs(5));
    calls_work(ns);
}

/// Drops root while two workers have threads in the namespace, and keeps some capabilities.
fn keeps_its_worker(ns: &NetNs) {
    let (worker, unused) = (ns.worker(), ns.worker());
    let (on, of_unused) = (worker.run(tid).expect("a run"), unused.run(tid).expect("a run"));
    keep_capabilities();
    become_user(1000);
    keep_only(&kept());
    let (expected, before) = (mine(), pool_stats());
    let (now_on, place, privileges) = worker.run(|| (tid(), here(), mine())).expect("a run");
    assert_ne!(now_on, on);
    assert_eq!((place, privileges), (key(ns.id()), expected));
    assert!(!threads().contains_key(&on), "the thread without privileges is gone");
    assert_eq!(worker.run(tid).expect("a run"), now_on);
    drop(unused);
    drop(worker);
    assert_gone(ns, of_unused, before);
    calls_work(ns);
}

/// Drops root while a worker has a thread in the namespace, and keeps nothing. The thread stays.
fn keeps_its_worker_without_privileges(ns: &NetNs) {
    let worker = ns.worker();
    let on = worker.run(tid).expect("a run");
    become_user(65534);
    let (expected, before) = (mine(), pool_stats());
    for _ in 0..3 {
        assert_eq!(worker.run(|| (tid(), here(), mine())).expect("a run"), (on, key(ns.id()), expected.clone()));
    }
    drop(worker);
    assert_gone(ns, on, before);
    calls_are_refused(ns);
}

/// Asserts that a worker's thread has left without a failure to restore.
fn assert_gone(ns: &NetNs, thread: u32, before: PoolStats) {
    assert!(!threads().contains_key(&thread), "{thread} is there");
    assert_eq!(threads_in(ns), [] as [u32; 0]);
    assert_eq!(pool_stats().poisoned_total, before.poisoned_total);
    assert!(pool_stats().retired_total > before.retired_total);
}

pub(crate) fn main() {
    crate::rootless();
    let scenario = crate::arguments().next().expect("a scenario");
    let changes_user = ["drops-root", "gives-everything-up", "has-a-worker"];
    if !is_real_root() && changes_user.iter().any(|change| scenario.starts_with(change)) {
        eprintln!("this user namespace has no second id, so `{scenario}` cannot be tried");
        return;
    }
    let ns = NetNs::new().expect("a namespace");
    calls_work(&ns);
    match scenario.as_str() {
        "drops-root" => {
            keep_capabilities();
            become_user(1000);
            keep_only(&kept());
            calls_work(&ns);
            assert!(in_netns::privileges().can_enter());
        }
        "drops-root-beside-processes-of-that-user" => drops_root_beside_processes_of_that_user(&ns),
        // The effective set is the same as before, bit for bit.
        "drops-root-and-keeps-few" => {
            let mut few = kept();
            few.extend([Capability::CAP_SETUID, Capability::CAP_SETGID]);
            keep_only(&few);
            calls_work(&ns);
            let before = of(CapSet::Effective);
            keep_capabilities();
            become_user(1000);
            caps::set(None, CapSet::Effective, &before).expect("capset");
            calls_work(&ns);
        }
        // The change comes from a thread other than the main one, and only that thread keeps its capabilities.
        "drops-root-in-a-thread" => thread::scope(|scope| {
            scope.spawn(|| {
                keep_capabilities();
                become_user(1000);
                keep_only(&kept());
                calls_work(&ns);
            });
        }),
        "gives-everything-up" => {
            become_user(65534);
            calls_are_refused(&ns);
        }
        "has-a-worker" => keeps_its_worker(&ns),
        "has-a-worker-in-a-thread" => thread::scope(|scope| {
            scope.spawn(|| keeps_its_worker(&ns));
        }),
        "has-a-worker-and-gives-everything-up" => keeps_its_worker_without_privileges(&ns),
        "raises-around-a-call" => {
            caps::clear(None, CapSet::Effective).expect("capset");
            calls_are_refused(&ns);
            for _ in 0..3 {
                caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).expect("capset");
                calls_work(&ns);
                caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).expect("capset");
                calls_are_refused(&ns);
            }
        }
        // The pinned thread spins, and enters while the caller reads its capabilities.
        "changes-between-close-calls" => {
            for change in [caps::drop, caps::raise].into_iter().cycle().take(100) {
                for _ in 0..200 {
                    with_netns(&ns, || ()).expect("a call");
                }
                change(None, CapSet::Effective, Capability::CAP_NET_RAW).expect("capset");
                assert_eq!(with_netns(&ns, mine).expect("a call"), mine());
            }
            calls_work(&ns);
        }
        // A thread raises for itself a capability that the main thread has lowered.
        "raises-in-a-thread" => {
            caps::clear(None, CapSet::Effective).expect("capset");
            calls_are_refused(&ns);
            thread::scope(|scope| {
                scope.spawn(|| {
                    caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).expect("capset");
                    calls_work(&ns);
                });
            });
            calls_are_refused(&ns);
        }
        "keeps-few" => {
            keep_only(&kept());
            calls_work(&ns);
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).expect("capset");
            calls_work(&ns);
            keep_only(&CapsHashSet::new());
            calls_are_refused(&ns);
        }
        // A privilege that only one thread gives up still belongs to the process.
        "sandboxes-a-thread" => {
            let process = mine();
            thread::scope(|scope| {
                let sandboxed = || {
                    keep_only(&CapsHashSet::new());
                    assert_eq!(with_netns(&ns, mine).expect("a call"), process);
                    Call::new(&ns).fresh().run(mine).expect_err("a fresh thread is in the sandbox")
                };
                let error = scope.spawn(sandboxed).join().expect("the thread's own checks hold");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            });
            calls_work(&ns);
        }
        other => panic!("what is {other}?"),
    }
}
