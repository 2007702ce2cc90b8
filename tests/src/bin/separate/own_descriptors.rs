//! Threads with a table of file descriptors of their own (`unshare(2)` with `CLONE_FILES`). The number of a descriptor
//! is another file in another table, and here it is a tenant's namespace. No call ends up there.
//!
//! A table is unshared before the template exists. Argument: a scenario.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread;

use futures::executor::block_on;
use in_netns::{
    Call, Error, ErrorKind, NetNs, Outcome, PinnedThread, RetireReason, ThreadFate, init, par_walk, pinned, walk,
};
use in_netns_tests::profiles::apply;
use in_netns_tests::{here, home, key};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use seccompiler::SeccompAction;

pub(crate) fn main() {
    crate::rootless();
    let scenario = crate::arguments().next().expect("a scenario");
    match scenario.as_str() {
        "entries" => entries(),
        "guards" => guards(),
        "worker" => worker(),
        "moved-caller" => moved_caller(),
        "without-kcmp" => without_kcmp(),
        "handle-of-another-table" => handle_of_another_table(),
        "late" => late(),
        "fate" => fate(),
        other => panic!("no scenario: {other}"),
    }
}

/// A namespace that this crate has not made.
fn tenant() -> File {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
        File::open("/proc/thread-self/ns/net").expect("a namespace")
    };
    thread::spawn(make).join().expect("a thread")
}

/// Fills the lowest free numbers of the calling thread's table with a tenant's namespace.
fn fill_with_tenant() -> Vec<File> {
    let mut files = vec![tenant()];
    files.extend((0..20).map(|_| files[0].try_clone().expect("a descriptor")).collect::<Vec<_>>());
    files
}

/// Runs a closure on a thread with a table of its own, with a handle that the main thread opened.
fn apart(closure: impl FnOnce(&NetNs) + Send) {
    let (unshared, is_unshared) = mpsc::channel();
    let (give, given) = mpsc::channel::<NetNs>();
    thread::scope(|scope| {
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_FILES).expect("unshare");
            unshared.send(()).expect("the main thread waits");
            let ns = given.recv().expect("a namespace");
            let tenants = fill_with_tenant();
            closure(&ns);
            drop(tenants);
            // Its number is no descriptor of this table.
            std::mem::forget(ns);
        });
        is_unshared.recv().expect("unshared");
        init().expect("the template");
        give.send(NetNs::new().expect("a namespace")).expect("the thread waits");
    });
}

#[track_caller]
fn assert_refused<T>(result: Result<T, Error>) {
    let error = result.map(|_| here()).expect_err("the thread has another table");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

fn entries() {
    apart(|ns| {
        assert_refused(ns.run(here));
        for seen in [walk([ns], |_| here()), par_walk([ns], 2, |_| here())] {
            assert_refused(seen.expect("a thread").remove(0));
        }
        let own = NetNs::from_fd(tenant().into()).expect("a namespace");
        let guards = |thread: &mut PinnedThread| {
            assert_refused(thread.enter(ns));
            let mut guard = thread.enter(&own).expect("it is of this table");
            assert_refused(guard.enter(ns));
            assert_refused(guard.move_to(ns));
            assert_eq!(here(), key(own.id()));
        };
        pinned(guards).expect("a thread");
        let seen = walk([ns, &own], |_| here()).expect("a thread");
        assert_eq!(seen[1].as_ref().expect("it is of this table"), &key(own.id()), "the walk goes on");
        assert_refused(ns.join());
        assert_eq!(here(), home());
    });
}

fn fate() {
    apart(|_| {
        let own = NetNs::from_fd(tenant().into()).expect("a namespace");
        let outcome = Call::new(&own).outcome(here).expect("a call");
        assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Fresh)), "{:?}", outcome.thread);
        // The numbers of the descriptors that tokio keeps for the process may be the tenant's files here.
        match block_on(Call::new(&own).outcome_async(async || here())) {
            Ok(Outcome { value, thread, .. }) => {
                assert_eq!(value.expect("no panic"), key(own.id()));
                assert!(matches!(thread, ThreadFate::Retired(RetireReason::Fresh)), "{thread:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.to_string().contains("a table of file descriptors of its own"), "{error}");
            }
        }
    });
}

fn guards() {
    apart(|_| {
        let own = NetNs::from_fd(tenant().into()).expect("a namespace");
        let at_home = |thread: &mut PinnedThread| {
            thread.enter(&own).expect("it is of this table").restore().expect("it goes home");
            assert_eq!(here(), home());
            drop(thread.enter(&own).expect("it is of this table"));
            assert_eq!(here(), home());
            assert!(!thread.is_poisoned());
        };
        pinned(at_home).expect("a thread");
    });
}

fn worker() {
    init().expect("the template");
    let worker = NetNs::new().expect("a namespace").worker();
    worker.run(|| ()).expect("the worker moves in");
    let apart = || {
        unshare(CloneFlags::CLONE_FILES).expect("unshare");
        let files: Vec<_> = (0..20).map(|_| File::open("/dev/null").expect("a file")).collect();
        assert_refused(worker.run(|| UdpSocket::bind("127.0.0.1:0")));
        for file in &files {
            file.metadata().expect("the file is open");
        }
    };
    thread::scope(|scope| scope.spawn(apart).join().expect("the thread's own checks hold"));
    worker.run(|| ()).expect("the worker goes on");
}

fn moved_caller() {
    init().expect("the template");
    let ns = NetNs::new().expect("a namespace");
    let apart = || {
        unshare(CloneFlags::CLONE_FILES).expect("unshare");
        unshare(CloneFlags::CLONE_NEWUTS).expect("unshare");
        ns.join().expect("the thread moves");
        let uts = || std::fs::read_link("/proc/thread-self/ns/uts").expect("a namespace");
        let (net, begun_in) = pinned(|_| (here(), uts())).expect("a thread");
        assert_eq!(net, home());
        assert_ne!(begun_in, uts());
        assert_eq!(here(), key(ns.id()), "the caller never moves");
    };
    thread::scope(|scope| scope.spawn(apart).join().expect("the thread's own checks hold"));
}

fn without_kcmp() {
    let rules = BTreeMap::from([(libc::SYS_kcmp, vec![])]);
    apply(rules, SeccompAction::Allow, SeccompAction::Errno(Errno::EPERM as u32));
    // A thread with a table of its own cannot make the first call.
    let first = || {
        unshare(CloneFlags::CLONE_FILES).expect("unshare");
        assert_refused(pinned(|_| ()));
    };
    thread::scope(|scope| scope.spawn(first).join().expect("the thread's own checks hold"));
    apart(|ns| {
        assert_refused(ns.run(here));
        let own = NetNs::new().expect("a namespace");
        assert_eq!(own.run(here).expect("it is of this table"), key(own.id()));
    });
}

/// A thread with a table of its own opens a handle, and another thread uses it.
fn handle_of_another_table() {
    init().expect("the template");
    let open = || {
        unshare(CloneFlags::CLONE_FILES).expect("unshare");
        let _used = fill_with_tenant();
        NetNs::from_fd(tenant().into()).expect("a namespace")
    };
    let ns = thread::spawn(open).join().expect("a thread");
    let tenants = [fill_with_tenant(), fill_with_tenant()];
    let worker = ns.worker();
    for _ in 0..2 {
        assert_refused(ns.run(here));
        assert_refused(Call::new(&ns).fresh().run(here));
        assert_refused(worker.run(here));
        let error = ns.command("true").status().expect_err("the thread has another table");
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
    }
    assert_refused(walk([&ns], |_| here()).expect("a thread").remove(0));
    drop(tenants);
    drop(worker);
    // Its number is no descriptor of this table.
    std::mem::forget(ns);
}

/// A thread unshares its table after its first call, at which the crate checks the table.
fn late() {
    let apart = || {
        pinned(|_| ()).expect("a first call");
        unshare(CloneFlags::CLONE_FILES).expect("unshare");
        let _tenants = fill_with_tenant();
        let own = NetNs::from_fd(tenant().into()).expect("a namespace");
        let call = || Call::new(&own).fresh().run(|| (here(), UdpSocket::bind("127.0.0.1:0")));
        let (place, socket) = call().expect("it is of this table");
        assert_eq!(place, key(own.id()));
        assert_eq!(NetNs::of_socket(socket.expect("a socket")).expect("its namespace"), own);
    };
    thread::scope(|scope| scope.spawn(apart).join().expect("the thread's own checks hold"));
}
