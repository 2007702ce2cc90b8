//! The owned form: the body borrows nothing and runs independently. The tests count threads, so they take turns.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::future::{Future as _, pending};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{
    AbortHandle, Call, ErrorKind, JoinHandle, NetNs, pool_stats, set_poison_hook, set_stray_hook, with_netns,
};
use in_netns_tests::{
    BOUND, alone, descriptors, give_up_sys_admin, here, home, in_time, is_alive, key, limited, threads_in, tid,
    wait_until, wait_until_given_back,
};
use nix::sys::resource::Resource;
use tokio::task;

const _: () = {
    const fn assert_bounds<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static>() {}
    assert_bounds::<JoinHandle<Cell<u8>>>();
    assert_bounds::<AbortHandle>();
};

#[test]
fn it_runs_inside_under_any_executor() {
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
    wait_until_given_back();
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
    wait_until_given_back();
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
    wait_until_given_back();
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
    wait_until_given_back();
}

#[test]
fn a_panic_is_in_the_error() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let error = block_on(ns.spawn_async(|| async { std::panic::panic_any(42) })).unwrap_err();
    assert!(error.is_panic());
    assert_eq!(error.try_into_panic().unwrap().downcast_ref(), Some(&42));
    wait_until_given_back();
}

#[test]
fn a_failure_to_start_is_in_the_error() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // No descriptor is left for a runtime. The limit applies to the process, so the test runs alone.
    block_on(ns.spawn_async(|| async {})).unwrap();
    let open = descriptors();
    let lowest_free = (0..u32::MAX).find(|number| !open.contains_key(number)).unwrap();
    let limit = limited(Resource::RLIMIT_NOFILE, lowest_free.into());
    let outcome = block_on(ns.spawn_async(|| async { unreachable!("not made") }));
    drop(limit);
    assert_eq!(outcome.unwrap_err().entry().unwrap().kind(), ErrorKind::LimitReached);
    wait_until_given_back();
    assert_eq!(block_on(ns.spawn_async(|| async { 1 })).unwrap(), 1);
}

/// The observation of a hook: the thread that it was called for, the thread that it ran on, its namespace, and whether
/// the first thread still existed.
type Report = (u32, u32, (u64, u64), bool);

async fn poisons() -> u32 {
    task::yield_now().await;
    give_up_sys_admin();
    tid()
}

/// If no caller waits, there is no caller's thread to run the hook. The poisoned thread is inside and must not run it.
#[test]
fn a_failed_restore_of_a_body_that_nothing_awaits_is_reported_at_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (tell, told) = mpsc::channel::<Report>();
    set_poison_hook(move |poisoning| {
        let thread = poisoning.thread_id();
        tell.send((thread, tid(), here(), is_alive(thread))).unwrap();
    });
    let gate = Arc::new(tokio::sync::Notify::new());
    let (started, start) = mpsc::channel();
    let ways: [(&str, &dyn Fn()); 4] = [
        ("detached before its end", &|| {
            let handle = ns.spawn_async({
                let gate = Arc::clone(&gate);
                move || async move {
                    gate.notified().await;
                    poisons().await
                }
            });
            drop(handle);
            gate.notify_one();
        }),
        ("dropped after its end", &|| {
            let handle = ns.spawn_async(poisons);
            wait_until("it has ended", || handle.is_finished());
            drop(handle);
        }),
        ("aborted, and dropped", &|| {
            let started = started.clone();
            let handle = ns.spawn_async(move || async move {
                poisons().await;
                started.send(()).unwrap();
                pending::<()>().await;
            });
            start.recv().unwrap();
            handle.abort();
            drop(handle);
        }),
        ("a cancelled borrowed call", &|| {
            let is_poisoned = AtomicBool::new(false);
            let mut call = Box::pin(ns.run_async(|| async {
                poisons().await;
                is_poisoned.store(true, Ordering::SeqCst);
                pending::<()>().await;
            }));
            while !is_poisoned.load(Ordering::SeqCst) {
                assert!(call.as_mut().now_or_never().is_none());
            }
            drop(call);
        }),
    ];
    for (way, run) in ways {
        for _ in 0..10 {
            run();
            let (thread, by, at, is_there) = told.recv_timeout(BOUND).expect(way);
            assert_ne!(thread, by, "{way}: the hook runs on another thread");
            assert_eq!(at, home(), "{way}");
            assert!(!is_there, "{way}: the thread is gone when the hook is told");
        }
    }
    set_poison_hook(|_| {});
    wait_until_given_back();
}

#[test]
fn a_stray_of_a_body_that_nothing_awaits_is_reported_at_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    set_stray_hook(move |stray| tell.lock().unwrap().send((stray.name.clone(), here(), tid())).unwrap());
    let (end, wait) = mpsc::channel::<()>();
    let (on, body) = mpsc::channel();
    drop(Call::new(&ns).audit().spawn_async(move || async move {
        let stays = move || wait.recv().unwrap_err();
        std::thread::Builder::new().name("forgotten".into()).spawn(stays).unwrap();
        on.send(tid()).unwrap();
    }));
    let (name, at, by) = told.recv_timeout(BOUND).unwrap();
    assert_eq!((name.as_str(), at), ("forgotten", home()));
    assert_ne!(by, body.recv().unwrap(), "the hook does not run on the call's thread");
    drop(end);
    set_stray_hook(|_| {});
    wait_until_given_back();
}

/// A waker whose clone and drop use the handle with which they are registered.
mod meddling {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{RawWaker, RawWakerVTable, Waker};

    pub(super) struct Meddler {
        pub(super) meddle: Box<dyn Fn() + Send + Sync>,
        pub(super) clones: AtomicUsize,
        pub(super) drops: AtomicUsize,
        pub(super) wakes: AtomicUsize,
    }

    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: the data is that of an `Arc` that a waker holds.
            let meddler = unsafe { Arc::from_raw(data.cast::<Meddler>()) };
            (meddler.meddle)();
            meddler.clones.fetch_add(1, Ordering::SeqCst);
            let clone = Arc::clone(&meddler);
            let _ = Arc::into_raw(meddler);
            RawWaker::new(Arc::into_raw(clone).cast(), &TABLE)
        },
        |data| {
            // SAFETY: the data is that of an `Arc`, and this waker is consumed.
            let meddler = unsafe { Arc::from_raw(data.cast::<Meddler>()) };
            meddler.wakes.fetch_add(1, Ordering::SeqCst);
            (meddler.meddle)();
        },
        |data| {
            // SAFETY: the data is that of an `Arc` that a waker holds.
            let meddler = unsafe { &*data.cast::<Meddler>() };
            meddler.wakes.fetch_add(1, Ordering::SeqCst);
            (meddler.meddle)();
        },
        |data| {
            // SAFETY: the data is that of an `Arc`, and this waker is consumed.
            let meddler = unsafe { Arc::from_raw(data.cast::<Meddler>()) };
            (meddler.meddle)();
            meddler.drops.fetch_add(1, Ordering::SeqCst);
        },
    );

    pub(super) fn waker(meddler: &Arc<Meddler>) -> Waker {
        let data = Arc::into_raw(Arc::clone(meddler)).cast();
        // SAFETY: the table treats the data as an `Arc`, and it is one.
        unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) }
    }
}

#[test]
fn a_waker_that_panics_when_it_is_dropped_keeps_no_output_from_its_owner() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut handle = ns.spawn_async(|| async { 7 });
    wait_until("it has ended", || handle.is_finished());
    let panics = Arc::new(AtomicBool::new(true));
    let meddle = {
        let (panics, clones) = (Arc::clone(&panics), AtomicUsize::new(0));
        // The clone is what the handle drops.
        move || assert!(!panics.load(Ordering::SeqCst) || clones.fetch_add(1, Ordering::SeqCst) == 0)
    };
    let meddler = Arc::new(meddling::Meddler {
        meddle: Box::new(meddle),
        clones: AtomicUsize::new(0),
        drops: AtomicUsize::new(0),
        wakes: AtomicUsize::new(0),
    });
    let waker = meddling::waker(&meddler);
    let polled = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
    panics.store(false, Ordering::SeqCst);
    assert!(matches!(polled, Poll::Ready(Ok(7))), "{polled:?}");
}

#[test]
fn a_waker_may_use_the_handle_that_it_waits_for() {
    let _alone = alone();
    in_time("the handle is awaited by wakers that use it", || {
        let ns = NetNs::new().unwrap();
        for abort in [false, true] {
            let (end, wait) = tokio::sync::oneshot::channel::<()>();
            let mut handle = ns.spawn_async(|| async { wait.await.is_ok() });
            let aborting = handle.abort_handle();
            let meddle: Box<dyn Fn() + Send + Sync> = Box::new(move || {
                if abort {
                    aborting.abort();
                }
                let _ = aborting.is_finished();
            });
            let [clones, drops, wakes] = [const { AtomicUsize::new(0) }; 3];
            let meddler = Arc::new(meddling::Meddler { meddle, clones, drops, wakes });
            // Two wakers, of which the second replaces the first.
            let mut ready = None;
            for _ in 0..2 {
                let registered = meddling::waker(&meddler);
                if ready.is_none() {
                    match Pin::new(&mut handle).poll(&mut Context::from_waker(&registered)) {
                        Poll::Ready(outcome) => ready = Some(outcome),
                        Poll::Pending => {}
                    }
                }
            }
            if abort {
                let outcome = ready.unwrap_or_else(|| block_on(handle));
                assert!(outcome.unwrap_err().is_cancelled());
            } else {
                end.send(()).unwrap();
                wait_until("it is woken", || meddler.wakes.load(Ordering::SeqCst) > 0);
                assert!(block_on(handle).unwrap());
            }
        }
        // The same for a borrowed call, whose wakers may run any code.
        let meddle: Box<dyn Fn() + Send + Sync> = Box::new(|| {
            let _ = pool_stats();
        });
        let [clones, drops, wakes] = [const { AtomicUsize::new(0) }; 3];
        let meddler = Arc::new(meddling::Meddler { meddle, clones, drops, wakes });
        let mut call = Box::pin(ns.run_async(|| tokio::time::sleep(Duration::from_millis(5))));
        loop {
            let registered = meddling::waker(&meddler);
            if call.as_mut().poll(&mut Context::from_waker(&registered)).is_ready() {
                break;
            }
        }
    });
    wait_until_given_back();
}

/// An output that no code awaits is dropped on the call's thread. The thread is not idle before that is done.
#[test]
fn an_output_that_nothing_awaits_may_make_calls_when_it_is_dropped() {
    struct CallsWhenDropped(NetNs, mpsc::Sender<(u64, u64)>);
    impl Drop for CallsWhenDropped {
        fn drop(&mut self) {
            self.1.send(with_netns(&self.0, here).unwrap()).unwrap();
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for _ in 0..20 {
        let (tell, told) = mpsc::channel();
        let output = CallsWhenDropped(ns.clone(), tell);
        drop(ns.spawn_async(move || async move {
            task::yield_now().await;
            output
        }));
        assert_eq!(told.recv_timeout(BOUND).expect("the drop makes its call"), key(ns.id()));
    }
    wait_until_given_back();
}

#[test]
fn panics_of_destructors_are_reported_and_end_no_process() {
    struct PanicsWhenDropped(&'static str);
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                std::panic::panic_any(self.0);
            }
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let caught = |run: &dyn Fn()| {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err("it panics");
        *payload.downcast::<&'static str>().expect("its own payload")
    };
    // A payload whose destructor panics, in addition to a body whose destructor panics.
    let both = caught(&|| {
        block_on(ns.run_async(|| async {
            let _captured = PanicsWhenDropped("the body");
            task::yield_now().await;
            std::panic::panic_any("first");
        }))
        .unwrap();
    });
    assert_eq!(both, "first");
    // An output that is dropped because the body's destructor panicked.
    let captured = caught(&|| {
        let held = PanicsWhenDropped("the body");
        let body = move || {
            std::future::poll_fn(move |_| {
                let _ = &held;
                Poll::Ready(PanicsWhenDropped("the output"))
            })
        };
        block_on(ns.run_async(body)).map(std::mem::forget).unwrap();
    });
    assert_eq!(captured, "the body");
    wait_until_given_back();
}
