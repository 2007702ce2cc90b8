//! Async calls: the whole body runs inside, and leaves nothing behind. The tests count threads, so they take turns.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{
    Call, ErrorKind, NetNs, RetireReason, ThreadFate, pool_stats, retire_current_thread, set_poison_hook, with_netns,
    with_netns_async,
};
use in_netns_tests::{
    BOUND, all_descriptors, alone, give_up_sys_admin, here, home, is_alive, key, threads_in, threads_outside_home, tid,
    wait_until, wait_until_given_back,
};
use tokio::runtime::Handle;
use tokio::task;
use tokio::time::sleep;

fn outer() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Asserts that no thread is left in `ns` at this moment. A busy machine may give the thread of the call back later.
#[track_caller]
fn assert_left(ns: &NetNs) {
    assert_eq!(threads_in(ns), [] as [u32; 0]);
    wait_until_given_back();
}

#[test]
fn every_part_of_it_is_inside() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let caller = tid();
    block_on(with_netns_async(&ns, || async {
        let on = tid();
        assert_ne!(on, caller);
        assert_eq!(here(), inside);
        sleep(Duration::from_millis(1)).await;
        assert_eq!((tid(), here()), (on, inside));
        assert_eq!(task::spawn(async { (tid(), here()) }).await.unwrap(), (on, inside));
        assert_eq!(task::spawn_blocking(here).await.unwrap(), inside);
        let rc = Rc::new(7);
        let local = task::spawn_local({
            let rc = Rc::clone(&rc);
            async move { (*rc, tid(), here()) }
        });
        assert_eq!(local.await.unwrap(), (7, on, inside));
        let mut set = task::JoinSet::new();
        set.spawn(async { here() });
        set.spawn_blocking(here);
        set.spawn_local(async move { here() });
        assert_eq!(set.join_all().await, [inside; 3]);
        task::yield_now().await;
        assert_eq!((*rc, tid(), here()), (7, on, inside));
    }))
    .unwrap();
    assert_left(&ns);
    assert_eq!(here(), home());
}

/// Local tasks can be woken by the body, by each other, by a timer, by a task or by another thread.
#[test]
fn local_tasks_are_run() {
    async fn family(depth: u32, count: Rc<Cell<u32>>) {
        let on = tid();
        count.set(count.get() + 1);
        if depth > 0 {
            let children: Vec<_> = (0..3).map(|_| task::spawn_local(family(depth - 1, Rc::clone(&count)))).collect();
            task::yield_now().await;
            sleep(Duration::from_millis(1)).await;
            task::spawn_blocking(|| ()).await.unwrap();
            task::spawn(task::yield_now()).await.unwrap();
            for child in children {
                child.await.unwrap();
            }
        }
        assert_eq!(on, tid());
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let borrowed = block_on(ns.run_async(|| async {
        let count = Rc::new(Cell::new(0));
        family(4, Rc::clone(&count)).await;
        count.get()
    }));
    assert_eq!(borrowed.unwrap(), 121);
    let owned = block_on(ns.spawn_async(|| async {
        let (tell, told) = tokio::sync::oneshot::channel();
        // No code awaits this task, but the body waits for its message.
        task::spawn_local(async move {
            family(3, Rc::default()).await;
            tell.send(tid()).unwrap();
        });
        (told.await.unwrap(), tid())
    }));
    let (on, body) = owned.unwrap();
    assert_eq!(on, body);
    assert_left(&ns);
}

fn assert_send_sync<T: Send + Sync>(value: T) -> T {
    value
}

#[test]
fn it_may_borrow_and_need_not_be_send() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut words = vec!["borrowed".to_owned()];
    let text = String::from("text");
    let call = with_netns_async(&ns, || async {
        let not_send = Rc::new(Cell::new(1));
        task::yield_now().await;
        not_send.set(2);
        task::yield_now().await;
        words.push(text.clone());
        (not_send.get(), &text)
    });
    assert_eq!(block_on(assert_send_sync(call)).unwrap(), (2, &text));
    assert_eq!(words, ["borrowed", "text"]);
}

#[test]
fn a_call_that_is_never_polled_does_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let before = pool_stats();
    drop(ns.run_async(|| async { unreachable!("never polled") }));
    assert_eq!(pool_stats(), before);
}

#[test]
fn a_panic_is_resumed_with_its_payload() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let poisoned_before = pool_stats().poisoned_total;
    let bodies: [fn() -> Result<(), in_netns::Error>; 2] = [
        || {
            block_on(with_netns_async(NetNs::new().unwrap(), || async {
                task::yield_now().await;
                std::panic::panic_any(42);
            }))
        },
        || {
            block_on(with_netns_async(NetNs::new().unwrap(), || {
                std::panic::panic_any(42);
                #[allow(unreachable_code)]
                async {}
            }))
        },
    ];
    for body in bodies {
        let payload = std::panic::catch_unwind(body).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&42));
        assert_left(&ns);
    }
    assert_eq!(pool_stats().poisoned_total, poisoned_before);
}

/// The session ends later than the body: a blocking closure still runs.
#[test]
fn a_panic_that_is_not_awaited_is_dropped_with_the_call() {
    struct Payload(Arc<AtomicUsize>);
    impl Drop for Payload {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (release, held) = mpsc::channel::<()>();
    let (is_over, payload) = (&AtomicBool::new(false), Payload(Arc::clone(&dropped)));
    let mut call = Box::pin(ns.run_async(|| async move {
        let (begun, beginning) = tokio::sync::oneshot::channel();
        task::spawn_blocking(move || {
            let _ = begun.send(());
            let _ = held.recv();
        });
        beginning.await.unwrap();
        is_over.store(true, Ordering::SeqCst);
        std::panic::panic_any(payload);
    }));
    while !is_over.load(Ordering::SeqCst) {
        assert!(call.as_mut().now_or_never().is_none(), "a blocking closure still runs");
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(call);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    drop(release);
    wait_until("the threads are gone", || threads_in(&ns).is_empty());
    wait_until_given_back();
}

#[test]
fn a_blocking_closure_that_begins_as_the_body_ends_does_not_block_the_executor() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for _ in 0..10 {
        let (release, held) = mpsc::channel::<()>();
        let (has_ended, end) = mpsc::channel();
        let mut call = Box::pin(ns.run_async(|| async move {
            // It is not awaited, so the body has ended before the closure's thread has begun.
            task::spawn_blocking(move || has_ended.send(held.recv_timeout(BOUND)));
        }));
        let polled = call.as_mut().now_or_never();
        drop(release);
        assert_ne!(end.recv(), Ok(Err(mpsc::RecvTimeoutError::Timeout)), "the poll has waited for the closure");
        if polled.is_none() {
            block_on(call).unwrap();
        }
    }
    assert_left(&ns);
}

#[test]
fn a_panic_of_a_child_stays_in_its_handle() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let error = block_on(ns.run_async(|| async {
        let error = task::spawn(async { panic!("child") }).await.unwrap_err();
        task::spawn_local(async { panic!("left alone") });
        task::yield_now().await;
        error
    }));
    assert!(error.unwrap().is_panic());
    assert_left(&ns);
}

#[test]
fn what_was_spawned_has_ended_when_the_call_has() {
    struct Noted<'n>(&'n AtomicUsize, (u64, u64));
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            assert_eq!(here(), self.1);
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let (release, held) = mpsc::channel::<()>();
    let call = ns.run_async(|| async move {
        for _ in 0..5 {
            let noted = Noted(&ENDED, inside);
            task::spawn(async move {
                let _noted = noted;
                std::future::pending::<()>().await;
            });
            let noted = Noted(&ENDED, inside);
            task::spawn_local(async move {
                let _noted = noted;
                std::future::pending::<()>().await;
            });
        }
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let noted = Noted(&ENDED, inside);
        task::spawn_blocking(move || {
            let _noted = noted;
            let _ = begun.send(());
            let _ = held.recv();
            // Code that did not wait for the task would have continued by now.
            std::thread::sleep(Duration::from_millis(20));
        });
        beginning.await.unwrap();
    });
    // The blocking closure does not block the executor.
    let mut call = std::pin::pin!(call);
    let polls = AtomicUsize::new(0);
    block_on(async {
        let body_over = std::future::poll_fn(|cx| {
            let ready = call.as_mut().poll(cx);
            polls.fetch_add(1, Ordering::SeqCst);
            assert!(ready.is_pending(), "a blocking closure still runs");
            if ENDED.load(Ordering::SeqCst) == 10 {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        body_over.await;
        release.send(()).unwrap();
        call.await.unwrap();
    });
    assert_eq!(ENDED.load(Ordering::SeqCst), 11);
    assert_left(&ns);
}

#[test]
fn a_failure_to_enter_is_an_error_and_the_body_is_never_made() {
    let _alone = alone();
    let error = block_on(with_netns_async("no-such-name", || {
        unreachable!("not made");
        #[allow(unreachable_code)]
        async {}
    }));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

/// At its end, the body makes a restore impossible.
async fn poisons<R>(value: R) -> R {
    task::yield_now().await;
    give_up_sys_admin();
    task::yield_now().await;
    value
}

#[test]
fn a_failed_restore_is_reported_and_the_value_arrives() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    set_poison_hook({
        let told = Arc::clone(&told);
        move |poisoning| {
            assert!(!is_alive(poisoning.thread_id()), "the hook runs after the thread has left");
            told.lock().unwrap().push((tid(), poisoning.thread_id(), poisoning.error().kind()));
        }
    });
    let forms: [fn(&NetNs) -> u32; 2] = [
        |ns| block_on(ns.run_async(|| async { poisons(tid()).await })).unwrap(),
        |ns| block_on(ns.spawn_async(|| async { poisons(tid()).await })).unwrap(),
    ];
    for run in forms {
        let before = pool_stats();
        let poisoned = run(&ns);
        assert_eq!(
            told.lock().unwrap().drain(..).collect::<Vec<_>>(),
            [(tid(), poisoned, ErrorKind::PermissionDenied)]
        );
        assert!(!is_alive(poisoned), "it is gone before the call's future was ready");
        assert_left(&ns);
        assert_eq!(pool_stats().poisoned_total, before.poisoned_total + 1);
        let next = block_on(ns.run_async(|| async { (tid(), here()) })).unwrap();
        assert_ne!(next.0, poisoned);
        assert_eq!(next.1, key(ns.id()));
    }
    // The body also panics: neither the panic nor the failure hides the other.
    let panics = std::panic::catch_unwind(|| {
        block_on(ns.run_async(|| async {
            poisons(()).await;
            std::panic::panic_any(42);
        }))
    });
    assert_eq!(panics.unwrap_err().downcast_ref(), Some(&42));
    assert_eq!(told.lock().unwrap().drain(..).count(), 1);
    // No code waits for the end.
    let poisoned = AtomicUsize::new(0);
    let mut cancelled = Box::pin(ns.run_async(|| async {
        poisons(()).await;
        poisoned.store(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }));
    while poisoned.load(Ordering::SeqCst) == 0 {
        assert!(cancelled.as_mut().now_or_never().is_none());
    }
    set_poison_hook({
        let told = Arc::clone(&told);
        move |poisoning| told.lock().unwrap().push((tid(), poisoning.thread_id(), poisoning.error().kind()))
    });
    drop(cancelled);
    wait_until("it is reported", || !told.lock().unwrap().is_empty());
    wait_until("the thread is gone", || threads_in(&ns).is_empty() && pool_stats().leased == 0);
    set_poison_hook(|_| {});
}

#[test]
fn an_outcome_contains_the_fate_of_the_thread() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let fate = |call: Call, body: fn()| {
        let outcome = block_on(call.outcome_async(|| async move {
            task::yield_now().await;
            body();
            tid()
        }));
        let outcome = outcome.unwrap();
        (outcome.value.unwrap(), outcome.thread)
    };
    let (reused, reusable) = fate(Call::new(&ns), || ());
    assert!(matches!(reusable, ThreadFate::Reusable));
    let (asked, retired) = fate(Call::new(&ns), || assert!(retire_current_thread()));
    assert_eq!(asked, reused);
    assert!(matches!(retired, ThreadFate::Retired(RetireReason::Asked)));
    let unshare = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
    let (changed, retired) = fate(Call::new(&ns), unshare);
    assert_ne!(changed, reused);
    assert!(matches!(retired, ThreadFate::Retired(RetireReason::Changed(_))), "{retired:?}");
    let (poisoned, retired) = fate(Call::new(&ns), give_up_sys_admin);
    assert_ne!(poisoned, changed);
    assert!(matches!(retired, ThreadFate::Retired(RetireReason::Poisoned(_))), "{retired:?}");
    let (_, retired) = fate(Call::new(&ns).fresh(), || ());
    assert!(matches!(retired, ThreadFate::Retired(RetireReason::Fresh)), "{retired:?}");
    let panicked = block_on(Call::new(&ns).outcome_async(|| async { std::panic::panic_any(42) })).unwrap();
    assert_eq!(panicked.value.unwrap_err().downcast_ref(), Some(&42));
    assert_left(&ns);
}

#[test]
fn a_thread_has_its_name_for_the_length_of_a_call() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let name = || std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    for call in [Call::new(&ns), Call::new(&ns).fresh()] {
        assert_eq!(block_on(call.thread_name("probe").run_async(|| async { name() })).unwrap(), "probe\n");
    }
    assert_eq!(block_on(ns.run_async(|| async { name() })).unwrap(), "in-netns\n");
}

#[test]
fn a_namespace_that_cannot_be_entered_is_an_error_in_every_form() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let dropped = AtomicUsize::new(0);
    // Entering requires a capability that threads of this process's pool lack, because they inherit from the thread
    // that starts them.
    let refused = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                give_up_sys_admin();
                let witness = scopeguard::guard((), |()| {
                    dropped.fetch_add(1, Ordering::SeqCst);
                });
                let borrowed = block_on(Call::new(&ns).fresh().run_async(|| {
                    let _witness = &witness;
                    unreachable!("not made");
                    #[allow(unreachable_code)]
                    async {}
                }));
                borrowed.unwrap_err().kind()
            })
            .join()
            .unwrap()
    });
    assert_eq!(refused, ErrorKind::PermissionDenied);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_left(&ns);
}

#[test]
fn task_locals_stay_with_their_task() {
    tokio::task_local! {
        static OURS: u8;
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let seen = outer().block_on(OURS.scope(7, async {
        let inside = ns.run_async(|| async { OURS.try_with(|ours| *ours).ok() }).await.unwrap();
        // The value can be copied into the body.
        let ours = OURS.get();
        let carried = ns.run_async(|| OURS.scope(ours, async { OURS.get() })).await.unwrap();
        (inside, carried)
    }));
    assert_eq!(seen, (None, 7));
}

#[test]
fn a_child_that_does_not_yield_delays_the_poll() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let stalls = &*Box::leak(Box::new(AtomicBool::new(false)));
    let (start, started) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let mut call = Box::pin(ns.run_async(|| async move {
        task::spawn(async move {
            stalls.store(true, Ordering::SeqCst);
            start.send(()).unwrap();
            // A task should not block like this.
            held.recv().unwrap();
        })
        .await
        .unwrap();
    }));
    let released = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            started.recv().unwrap();
            released.store(true, Ordering::SeqCst);
            release.send(()).unwrap();
        });
        loop {
            let stalled = stalls.load(Ordering::SeqCst);
            let ready = call.as_mut().now_or_never();
            if stalled || ready.is_some() {
                assert!(released.load(Ordering::SeqCst), "that poll has waited for the child");
                break ready.unwrap_or_else(|| block_on(call)).unwrap();
            }
        }
    });
}

/// The executor waits for only one poll of such a body, even if the body yields many times.
#[test]
fn a_body_that_computes_is_polled_once_a_poll() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let polls = AtomicUsize::new(0);
    let mut call = Box::pin(ns.run_async(|| async {
        loop {
            polls.fetch_add(1, Ordering::SeqCst);
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(1) {}
            task::yield_now().await;
        }
    }));
    for poll in 1..=5 {
        let ready: Option<Result<(), _>> = call.as_mut().now_or_never();
        assert!(ready.is_none());
        assert_eq!(polls.load(Ordering::SeqCst), poll);
    }
}

/// The body also uses a blocking closure, whose thread must have exited too.
#[test]
fn case_7_nothing_is_left_in_the_target_the_moment_an_async_call_is_ready() {
    async fn body() {
        task::spawn_blocking(|| ()).await.unwrap();
        drop(task::spawn(std::future::pending::<()>()));
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let forms: [&dyn Fn(); 4] = [
        &|| block_on(ns.run_async(|| async {})).unwrap(),
        &|| block_on(ns.run_async(body)).unwrap(),
        &|| block_on(ns.spawn_async(body)).unwrap(),
        &|| block_on(Call::new(&ns).fresh().run_async(body)).unwrap(),
    ];
    for form in forms {
        for _ in 0..2_500 {
            form();
            assert_eq!(threads_in(&ns), [] as [u32; 0]);
        }
    }
}

/// Has the calling thread exit slowly. tokio waits only for `join`, which returns before the kernel has released the
/// thread's namespaces. In between the kernel closes the thread's descriptors, and here the thread has many of its own.
pub(crate) fn exit_slowly() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let many: Vec<_> = std::iter::from_fn(|| null.try_clone().ok()).take(10_000).collect();
    std::mem::forget(many);
}

#[test]
fn a_blocking_thread_that_is_slow_to_go_is_waited_for() {
    let _alone = alone();
    let _descriptors = all_descriptors();
    let ns = NetNs::new().unwrap();
    for _ in 0..20 {
        block_on(ns.run_async(|| async { task::spawn_blocking(exit_slowly).await.unwrap() })).unwrap();
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
    }
}

/// A handle of the call's runtime can be used from home. What it starts runs inside, or does not start.
#[test]
fn a_handle_that_is_carried_out_starts_nothing_at_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (give, given) = mpsc::channel::<(Handle, tokio::sync::oneshot::Sender<()>)>();
    let abroad = std::thread::spawn(move || {
        let (handle, done) = given.recv().unwrap();
        let places = block_on(async {
            [handle.spawn_blocking(here).await.unwrap(), handle.spawn(async { here() }).await.unwrap()]
        });
        done.send(()).unwrap();
        (handle, places, here())
    });
    block_on(ns.run_async(|| async {
        let (done, is_done) = tokio::sync::oneshot::channel();
        give.send((Handle::current(), done)).unwrap();
        is_done.await.unwrap();
    }))
    .unwrap();
    let (handle, places, there) = abroad.join().unwrap();
    assert_eq!(there, home());
    assert_eq!(places, [key(ns.id()); 2]);
    assert_left(&ns);
    // The call has ended.
    assert!(block_on(handle.spawn_blocking(here)).unwrap_err().is_cancelled());
}

/// Each of these keeps the runtime of the call, and the functions that the runtime was built with.
#[test]
fn a_handle_that_is_carried_out_does_not_keep_the_namespace() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // Before Linux 6.18 there is nothing to compare.
    let Ok(weak) = ns.downgrade() else { return };
    let kept = block_on(with_netns_async(ns, || async {
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        let timer = Box::pin(tokio::time::sleep(BOUND));
        (Handle::current(), tokio::spawn(std::future::pending::<()>()), timer)
    }));
    // Another program that lists namespaces may hold it for a moment.
    wait_until("it is gone", || weak.upgrade().unwrap().is_none());
    drop(kept);
}

/// The call is dropped after each possible number of polls.
#[test]
fn it_can_be_cancelled_at_every_await() {
    const AWAITS: usize = 12;
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for polls in 0..=AWAITS {
        let dropped = AtomicUsize::new(0);
        let reached = AtomicUsize::new(0);
        let mut call = Box::pin(ns.run_async(|| async {
            let on = tid();
            let inside = here();
            let _witness = scopeguard::guard((), |()| {
                assert_eq!((tid(), here()), (on, inside));
                dropped.fetch_add(1, Ordering::SeqCst);
            });
            for step in 0..AWAITS {
                reached.store(step + 1, Ordering::SeqCst);
                let mut first = true;
                std::future::poll_fn(|_| {
                    if std::mem::replace(&mut first, false) {
                        std::task::Poll::Pending
                    } else {
                        std::task::Poll::Ready(())
                    }
                })
                .await;
            }
        }));
        for _ in 0..polls {
            assert!(call.as_mut().now_or_never().is_none());
        }
        assert_eq!(reached.load(Ordering::SeqCst), polls);
        drop(call);
        assert_eq!(dropped.load(Ordering::SeqCst), usize::from(polls > 0), "after {polls} polls");
        wait_until_given_back();
        assert_left(&ns);
    }
}

#[test]
fn cancelling_leaves_blocking_work_to_end_inside() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let (release, held) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let runtime = outer();
    runtime.block_on(async {
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let call = with_netns_async(&ns, || async move {
            task::spawn_blocking(move || {
                begun.send(()).unwrap();
                held.recv().unwrap();
                tell.send(here()).unwrap();
            })
            .await
        });
        tokio::select! {
            biased;
            _ = call => unreachable!("it is held"),
            begun = beginning => begun.unwrap(),
        }
    });
    assert_eq!(pool_stats().leased, 1, "counted while the closure runs");
    assert_eq!(threads_in(&ns).len(), 2, "the pinned thread, and the blocking one");
    release.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), inside);
    wait_until_given_back();
    assert_left(&ns);
}

#[test]
fn a_panic_while_it_is_cancelled_is_seen() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut call = Box::pin(ns.run_async(|| async {
        let _bomb = scopeguard::guard((), |()| std::panic::panic_any("bomb"));
        std::future::pending::<()>().await;
    }));
    assert!(call.as_mut().now_or_never().is_none());
    let payload = std::panic::catch_unwind(AssertUnwindSafe(|| drop(call))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"bomb"));
    wait_until_given_back();
    assert_left(&ns);
}

#[test]
fn a_call_is_dropped_while_its_thread_unwinds() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut call = Box::pin(ns.run_async(std::future::pending::<()>));
    assert!(call.as_mut().now_or_never().is_none());
    std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _call = call;
        panic!("on");
    }))
    .unwrap_err();
    wait_until_given_back();
    assert_left(&ns);
}

#[test]
fn calls_nest() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let seen = block_on(a.run_async(|| async {
        let before = here();
        let within = b.run_async(|| async { (here(), with_netns(&a, here).unwrap()) }).await.unwrap();
        (before, within, here())
    }));
    let (a, b) = (key(a.id()), key(b.id()));
    assert_eq!(seen.unwrap(), (a, (b, a), a));
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}

#[test]
fn a_socket_is_handed_out() -> io::Result<()> {
    let _alone = alone();
    let ns = NetNs::new()?;
    let socket = block_on(ns.run_async(|| async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
        socket.into_std()
    }))??;
    assert_eq!(NetNs::of_socket(&socket)?, ns);
    let to = socket.local_addr()?;
    outer().block_on(async {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        ns.run(|| UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", to))??;
        let mut buffer = [0; 8];
        assert_eq!(socket.recv(&mut buffer).await?, 5);
        Ok(())
    })
}

/// Without optimisation a future is copied in each function that it passes through, and the stack of a pinned thread is
/// 2 MiB.
#[test]
#[allow(clippy::large_stack_arrays, reason = "they are what is tested")]
fn an_async_body_may_hold_more_than_fits_the_stack_many_times() {
    async fn holds_a_buffer() -> u8 {
        let mut buffer = [7_u8; 256 << 10];
        tokio::task::yield_now().await;
        buffer.reverse();
        buffer[0]
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert_eq!(block_on(with_netns_async(&ns, holds_a_buffer)).unwrap(), 7);
    assert_eq!(block_on(ns.spawn_async(holds_a_buffer)).unwrap(), 7);
}

/// The closure and the output of an async call may be large: the pinned thread's stack holds a few copies. The caller
/// has the stack of a main thread, because executors have copies of outputs too.
mod large {
    #![allow(
        clippy::large_stack_arrays,
        clippy::large_stack_frames,
        clippy::large_types_passed_by_value,
        reason = "they are what is tested"
    )]

    use std::thread;

    use in_netns::{in_netns, walk_async};

    use super::*;

    const BYTES: usize = 400 << 10;
    type Large = [u8; BYTES];

    fn is_filled(value: &Large) -> bool {
        value.iter().all(|byte| *byte == 7)
    }

    fn on_a_large_stack(test: impl FnOnce() + Send) {
        let _alone = alone();
        thread::scope(|scope| {
            thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, test).unwrap();
        });
    }

    #[test]
    fn captures_and_outputs_of_a_borrowed_call() {
        on_a_large_stack(|| {
            let ns = NetNs::new().unwrap();
            let large = [7; BYTES];
            let call = with_netns_async(&ns, move || async move {
                task::yield_now().await;
                large
            });
            assert!(is_filled(&block_on(call).unwrap()));
        });
    }

    #[test]
    fn captures_and_outputs_of_a_started_body() {
        on_a_large_stack(|| {
            let ns = NetNs::new().unwrap();
            let large = [7; BYTES];
            let started = ns.spawn_async(move || async move {
                task::yield_now().await;
                large
            });
            assert!(is_filled(&block_on(started).unwrap()));
        });
    }

    #[test]
    fn captures_and_outputs_of_calls_with_options() {
        on_a_large_stack(|| {
            let ns = NetNs::new().unwrap();
            let large = [7; BYTES];
            assert!(is_filled(&block_on(Call::new(&ns).fresh().run_async(move || async move { large })).unwrap()));
            let outcome = block_on(Call::new(&ns).outcome_async(move || async move { large })).unwrap();
            assert!(is_filled(&outcome.value.unwrap()));
        });
    }

    #[test]
    fn captures_and_outputs_of_a_started_body_on_a_fresh_thread() {
        on_a_large_stack(|| {
            let ns = NetNs::new().unwrap();
            let large = [7; BYTES];
            let started = Call::new(&ns).fresh().spawn_async(move || async move { large });
            assert!(is_filled(&block_on(started).unwrap()));
        });
    }

    #[test]
    fn captures_and_outputs_of_a_walk() {
        on_a_large_stack(|| {
            let pods = [NetNs::new().unwrap(), NetNs::new().unwrap()];
            let large = [7; BYTES];
            let seen = block_on(walk_async(&pods, 2, move |_| async move { large }));
            assert!(seen.iter().all(|value| is_filled(value.as_ref().unwrap())));
        });
    }

    #[in_netns(ns)]
    async fn borrowing(ns: &NetNs, large: Large) -> Large {
        task::yield_now().await;
        large
    }

    #[in_netns(ns)]
    async fn owning(ns: NetNs, large: Large) -> Large {
        task::yield_now().await;
        large
    }

    #[test]
    fn arguments_and_outputs_of_annotated_functions() {
        on_a_large_stack(|| {
            let ns = NetNs::new().unwrap();
            assert!(is_filled(&block_on(borrowing(&ns, [7; BYTES]))));
        });
        on_a_large_stack(|| {
            let ns = NetNs::new().unwrap();
            assert!(is_filled(&block_on(owning(ns, [7; BYTES]))));
        });
    }

    #[test]
    fn futures_and_outputs_of_a_runtime_in_a_namespace() {
        on_a_large_stack(|| {
            let service = NetNs::new().unwrap().tokio_builder().worker_threads(1).build().unwrap();
            let large = [7; BYTES];
            let future = async move {
                task::yield_now().await;
                large
            };
            assert!(is_filled(&service.block_on(future).unwrap()));
        });
    }
}

/// A waker of a reactor that is not the body's, and panics there.
struct PanicsWhenWoken;

impl std::task::Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any("the waker panics");
    }
}

/// Has the call's reactor call a waker that panics, and waits.
async fn panics_in_the_reactor(dropped: Arc<Mutex<Option<(u64, u64)>>>) {
    struct Witness(Arc<Mutex<Option<(u64, u64)>>>);
    impl Drop for Witness {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = Some(here());
        }
    }
    let _witness = Witness(dropped);
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = tokio::net::UnixStream::from_std(near).unwrap();
    let waker = std::task::Waker::from(Arc::new(PanicsWhenWoken));
    assert!(near.poll_read_ready(&mut std::task::Context::from_waker(&waker)).is_pending());
    std::io::Write::write_all(&mut &far, b"!").unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn a_panic_in_the_runtime_of_a_call_is_the_panic_of_the_call() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for fresh in [false, true] {
        let call = || if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
        let dropped = Arc::new(Mutex::new(None));
        let body = || panics_in_the_reactor(Arc::clone(&dropped));
        let run = AssertUnwindSafe(|| block_on(call().run_async(body)));
        let payload = std::panic::catch_unwind(run).expect_err("it panics");
        assert_eq!(payload.downcast_ref(), Some(&"the waker panics"));
        assert_eq!(dropped.lock().unwrap().take(), Some(key(ns.id())), "the body is dropped inside");
        let body = {
            let dropped = Arc::clone(&dropped);
            || panics_in_the_reactor(dropped)
        };
        let error = block_on(call().spawn_async(body)).unwrap_err();
        let payload = error.try_into_panic().expect("a panic");
        assert_eq!(payload.downcast_ref(), Some(&"the waker panics"));
        assert_eq!(dropped.lock().unwrap().take(), Some(key(ns.id())), "the body is dropped inside");
    }
    assert_left(&ns);
    // A guard that is leaked makes the runtime panic after the body has ended.
    let leaks = async || {
        std::mem::forget(tokio::runtime::Handle::current().enter());
        7
    };
    assert_eq!(block_on(ns.run_async(leaks)).unwrap(), 7);
    assert_eq!(block_on(ns.spawn_async(leaks)).unwrap(), 7);
    assert_left(&ns);
}
