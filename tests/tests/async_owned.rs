//! The owned form: a body that borrows nothing, at its own pace. The tests count threads, so they take turns.
#![allow(missing_docs)]

use std::future::pending;
use std::rc::Rc;
use std::sync::mpsc;

use futures::executor::block_on;
use in_netns::{Call, ErrorKind, JoinHandle, NetNs, pool_stats};
use in_netns_tests::{alone, descriptors, here, key, limited, threads_in, tid, wait_until};
use nix::sys::resource::Resource;
use tokio::task;

in_netns::rootless!();

#[test]
fn it_runs_inside_whoever_awaits() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let seen = block_on(ns.spawn_async(|| async {
        let on = Rc::new(tid());
        task::yield_now().await;
        assert_eq!(*on, tid());
        let blocking = task::spawn_blocking(here).await.unwrap();
        (here(), blocking, task::spawn_local(async { here() }).await.unwrap())
    }));
    assert_eq!(seen.unwrap(), (inside, inside, inside));
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
    assert_eq!(pool_stats().leased, 0);
}

#[test]
fn it_has_options() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let name = || std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    for call in [Call::new(&ns), Call::new(&ns).fresh()] {
        let seen = block_on(call.thread_name("probe").spawn_async(move || async move { (here(), name()) }));
        assert_eq!(seen.unwrap(), (key(ns.id()), "probe\n".into()));
    }
    let error = block_on(Call::new("no-such-name").spawn_async(|| async { unreachable!("not made") })).unwrap_err();
    assert_eq!(error.entry().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(pool_stats().leased, 0);
}

#[test]
fn it_goes_on_without_its_handle() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (tell, told) = mpsc::channel();
    drop(ns.spawn_async(move || async move {
        task::yield_now().await;
        tell.send(here()).unwrap();
    }));
    assert_eq!(told.recv().unwrap(), key(ns.id()));
    wait_until("the thread is given back", || pool_stats().leased == 0);
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
}

#[test]
fn an_abort_drops_the_body_inside() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (tell, told) = mpsc::channel();
    let (arrive, arrival) = mpsc::channel();
    let handle: JoinHandle<()> = ns.spawn_async(move || async move {
        let _witness = scopeguard::guard((), |()| tell.send((tid(), here())).unwrap());
        arrive.send(tid()).unwrap();
        pending::<()>().await;
    });
    let on = arrival.recv().unwrap();
    assert!(!handle.is_finished());
    handle.abort_handle().abort();
    assert!(block_on(handle).unwrap_err().is_cancelled());
    assert_eq!(told.recv().unwrap(), (on, key(ns.id())));
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
    assert_eq!(pool_stats().leased, 0);
}

#[test]
fn a_panic_is_in_the_error() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let error = block_on(ns.spawn_async(|| async { std::panic::panic_any(42) })).unwrap_err();
    assert!(error.is_panic());
    assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&42));
    assert_eq!(pool_stats().leased, 0);
}

#[test]
fn a_failure_to_start_is_in_the_error() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // No descriptor is left for a runtime. The limit is the process's, so the test is alone.
    block_on(ns.spawn_async(|| async {})).unwrap();
    let limit = limited(Resource::RLIMIT_NOFILE, descriptors().len() as u64);
    let outcome = block_on(ns.spawn_async(|| async { unreachable!("not made") }));
    drop(limit);
    assert_eq!(outcome.unwrap_err().entry().unwrap().kind(), ErrorKind::LimitReached);
    assert_eq!(pool_stats().leased, 0);
    assert_eq!(block_on(ns.spawn_async(|| async { 1 })).unwrap(), 1);
}
