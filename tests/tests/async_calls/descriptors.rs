//! Bodies that leave the table of file descriptors that the threads of the process share. What the call itself holds is
//! closed in that table all the same.

use std::future::{Future, pending};
use std::{fs, thread};

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{Call, NetNs, WeakNetNs, with_netns_async};
use in_netns_tests::{alone, descriptors, wait_until};
use nix::sched::{CloneFlags, unshare};
use tokio::net::UdpSocket;
use tokio::task;

const ROUNDS: usize = 5;

fn leave() {
    unshare(CloneFlags::CLONE_FILES).unwrap();
}

/// Asserts that no descriptor is left of calls that are made in a new namespace each. The namespaces are given away.
#[track_caller]
fn leaves_none<F: Future<Output = ()>>(call: impl Fn(NetNs) -> F) {
    let _alone = alone();
    // What the process keeps is made by the first call.
    block_on(with_netns_async(NetNs::new().unwrap(), async || ())).unwrap();
    let before = descriptors();
    let mut given = Vec::<WeakNetNs>::new();
    for _ in 0..ROUNDS {
        let ns = NetNs::new().unwrap();
        // Before Linux 6.18 the descriptors alone are compared.
        given.extend(ns.downgrade());
        block_on(call(ns));
    }
    let left = || {
        let now = descriptors();
        now.into_iter().filter(|(number, _)| !before.contains_key(number)).collect::<Vec<_>>()
    };
    // Those of an idle thread of the pool may be new.
    wait_until(&format!("closed: {:?}", left()), || left().len() < ROUNDS);
    wait_until("no namespace is held", || given.iter().all(|weak| weak.upgrade().unwrap().is_none()));
}

/// As [`leaves_none`], for a caller with a table of its own.
#[track_caller]
fn leaves_none_in_a_table_of_the_caller<F: Future<Output = ()>>(call: impl Fn(NetNs) -> F + Sync) {
    let _alone = alone();
    block_on(with_netns_async(NetNs::new().unwrap(), async || ())).unwrap();
    let caller = || {
        leave();
        let thread = nix::unistd::gettid();
        let descriptors = || fs::read_dir(format!("/proc/self/task/{thread}/fd")).unwrap().count();
        let before = descriptors();
        let mut given = Vec::<WeakNetNs>::new();
        for _ in 0..ROUNDS {
            let ns = NetNs::new().unwrap();
            given.extend(ns.downgrade());
            block_on(call(ns));
        }
        wait_until("they are closed", || descriptors() == before);
        wait_until("no namespace is held", || given.iter().all(|weak| weak.upgrade().unwrap().is_none()));
    };
    thread::scope(|scope| scope.spawn(caller).join()).unwrap();
}

#[test]
fn a_body_may_leave_the_table_of_its_caller() {
    leaves_none_in_a_table_of_the_caller(async |ns| {
        let inside = ns.id();
        let body = async || {
            task::spawn(pending::<()>());
            task::spawn_blocking(|| ()).await.unwrap();
            leave();
            task::yield_now().await;
            NetNs::current().unwrap().id()
        };
        assert_eq!(Call::new(ns).audit().run_async(body).await.unwrap(), inside);
    });
}

#[test]
fn a_body_that_is_cancelled_may_have_left_the_table_of_its_caller() {
    leaves_none_in_a_table_of_the_caller(async |ns| {
        let body = async || {
            leave();
            pending::<()>().await;
        };
        let mut call = Box::pin(with_netns_async(ns, body));
        assert!((&mut call).now_or_never().is_none());
    });
}

#[test]
fn a_body_that_is_started_may_leave_the_table_of_its_caller() {
    leaves_none_in_a_table_of_the_caller(async |ns| ns.spawn_async(async || leave()).await.unwrap());
    leaves_none_in_a_table_of_the_caller(async |ns| drop(ns.spawn_async(async || leave())));
}

#[test]
fn a_body_may_leave_its_table_before_it_waits() {
    leaves_none(async |ns| {
        let body = async || {
            leave();
            task::yield_now().await;
        };
        with_netns_async(ns, body).await.unwrap();
    });
}

#[test]
fn a_body_may_leave_its_table_with_tasks_that_run() {
    leaves_none(async |ns| {
        let body = async || {
            let socket = async || UdpSocket::bind("127.0.0.1:0").await.unwrap().recv(&mut [0]).await;
            task::spawn(async move { socket().await });
            task::yield_now().await;
            leave();
            task::yield_now().await;
        };
        Call::new(ns).audit().run_async(body).await.unwrap();
    });
}

#[test]
fn a_body_that_is_cancelled_may_have_left_its_table() {
    leaves_none(async |ns| {
        let body = async || {
            leave();
            pending::<()>().await;
        };
        let mut call = Box::pin(with_netns_async(ns, body));
        assert!((&mut call).now_or_never().is_none());
    });
}

#[test]
fn a_blocking_closure_may_leave_its_table() {
    leaves_none(async |ns| with_netns_async(ns, async || task::spawn_blocking(leave).await.unwrap()).await.unwrap());
}

#[test]
fn a_body_that_is_started_may_leave_its_table() {
    leaves_none(async |ns| ns.spawn_async(async || leave()).await.unwrap());
    // Nothing awaits it, so its own thread has the last reference to all that it has.
    leaves_none(async |ns| drop(ns.spawn_async(async || leave())));
}

#[test]
fn a_blocking_closure_of_a_service_may_leave_its_table() {
    leaves_none(async |ns| {
        let service = ns.tokio_builder().worker_threads(1).build().unwrap();
        service.spawn_blocking(leave).await.unwrap();
    });
}
