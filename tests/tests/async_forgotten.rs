//! The future of an async call is forgotten. The test has its own process, because one of its threads never returns.
#![allow(missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{NetNs, pool_stats};
use in_netns_tests::{here, key};

in_netns::rootless!();

/// No code may touch the body of a forgotten call, not even to drop it: what it borrows may be gone.
#[test]
fn the_body_of_a_forgotten_call_is_not_touched() {
    let ns = NetNs::new().unwrap();
    let touched = Arc::new(AtomicUsize::new(0));
    let wakers = Arc::new(Mutex::new(Vec::new()));
    {
        let touched = Arc::clone(&touched);
        let on_stack = [7; 64];
        let borrowed = &on_stack;
        let wakers = Arc::clone(&wakers);
        let mut call = Box::pin(ns.run_async(move || async move {
            let _witness = scopeguard::guard((), |()| assert_eq!(*borrowed, [7; 64], "dropped"));
            std::future::poll_fn(|cx| {
                wakers.lock().unwrap().push(cx.waker().clone());
                touched.fetch_add(borrowed.len(), Ordering::SeqCst);
                Poll::<()>::Pending
            })
            .await;
        }));
        assert!(call.as_mut().now_or_never().is_none());
        std::mem::forget(call);
    }
    assert_eq!(touched.load(Ordering::SeqCst), 64);
    wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    // Other calls are not affected.
    for _ in 0..100 {
        assert_eq!(block_on(ns.run_async(|| async { here() })).unwrap(), key(ns.id()));
    }
    assert_eq!(touched.load(Ordering::SeqCst), 64);
    assert_eq!(pool_stats().leased, 1, "its thread is counted and not reused");
}
