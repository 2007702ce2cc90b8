//! Async calls under an executor whose wakers poll the task immediately, on the thread that wakes it.
//!
//! Such a waker is foreign code on the call's own thread, because the runtime's timers and sockets wake from there. It
//! may poll the call's future there, drop it there, or run any other code.
#![allow(unsafe_code)]

use std::future::{Future, pending, poll_fn};
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use in_netns::{Call, NetNs, set_poison_hook, with_netns};
use in_netns_tests::{
    BOUND, alone, give_up_sys_admin, here, home, in_time, key, threads_in, tid, wait_until, wait_until_given_back,
};
use tokio::io::AsyncReadExt as _;
use tokio::task;
use tokio::time::sleep;

type Local<'f> = Pin<Box<dyn Future<Output = ()> + Send + 'f>>;

/// A task that may borrow, polled by [`run_inline`].
struct InlineTask {
    slot: Mutex<Slot>,
    ended: Condvar,
}

enum Slot {
    Idle(Local<'static>),
    Polling { woken: bool },
    Ended(thread::Result<()>),
    Taken,
}

impl Wake for InlineTask {
    fn wake(self: Arc<Self>) {
        let mut future = {
            let mut slot = self.slot.lock().unwrap();
            match std::mem::replace(&mut *slot, Slot::Polling { woken: true }) {
                Slot::Idle(future) => {
                    *slot = Slot::Polling { woken: false };
                    future
                }
                Slot::Polling { .. } => return,
                ended => {
                    *slot = ended;
                    return;
                }
            }
        };
        let waker = Waker::from(Arc::clone(&self));
        let outcome = loop {
            match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker)))) {
                Ok(Poll::Ready(())) => break Ok(()),
                Err(payload) => break Err(payload),
                Ok(Poll::Pending) => {}
            }
            let mut slot = self.slot.lock().unwrap();
            match std::mem::replace(&mut *slot, Slot::Polling { woken: false }) {
                Slot::Polling { woken: false } => {
                    *slot = Slot::Idle(future);
                    return;
                }
                Slot::Polling { woken: true } => {}
                _ => unreachable!("one thread polls"),
            }
        };
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(future)));
        *self.slot.lock().unwrap() = Slot::Ended(outcome.and(dropped));
        self.ended.notify_all();
    }
}

/// Runs a future that may borrow, on this thread and on each thread that wakes it. Returns after it has ended and is
/// dropped.
fn run_inline<'f>(future: impl Future<Output = ()> + Send + 'f) {
    let future: Local<'f> = Box::pin(future);
    // SAFETY: only the lifetime changes. This function returns after the future is dropped, and does not unwind before.
    let future = unsafe { std::mem::transmute::<Local<'f>, Local<'static>>(future) };
    let task = Arc::new(InlineTask { slot: Mutex::new(Slot::Idle(future)), ended: Condvar::new() });
    Arc::clone(&task).wake();
    let is_running = |slot: &mut Slot| matches!(slot, Slot::Idle(_) | Slot::Polling { .. });
    let (mut slot, time) = task
        .ended
        .wait_timeout_while(task.slot.lock().unwrap(), BOUND, is_running)
        .expect("nothing panics under the lock");
    if time.timed_out() {
        // The values that the future borrows must not be freed, so the process aborts.
        eprintln!("the task does not end");
        std::process::abort();
    }
    match std::mem::replace(&mut *slot, Slot::Taken) {
        Slot::Ended(outcome) => outcome.unwrap_or_else(|payload| panic::resume_unwind(payload)),
        _ => unreachable!("it has ended"),
    }
}

/// Polls a call until it is woken, and then drops it on the thread of the wake. Returns the thread of the drop, and
/// whether the body was gone when the drop returned.
async fn drop_when_woken<F: Future>(call: F, is_gone: &AtomicBool) -> (u32, bool) {
    let mut call = Some(Box::pin(call));
    let mut is_first = true;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_first, false) {
            let polled = call.as_mut().expect("not dropped yet").as_mut().poll(cx);
            assert!(polled.is_pending(), "the body waits for something");
            return Poll::Pending;
        }
        drop(call.take());
        Poll::Ready((tid(), is_gone.load(Ordering::SeqCst)))
    })
    .await
}

/// A value that a body holds: when it is dropped, it reads the borrowed text and records the drop.
struct Witness<'s> {
    text: &'s str,
    dropped: &'s AtomicBool,
    on: &'s Mutex<Option<(u32, (u64, u64))>>,
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        assert_eq!(self.text, "borrowed");
        *self.on.lock().unwrap() = Some((tid(), here()));
        self.dropped.store(true, Ordering::SeqCst);
    }
}

/// Makes a body wait in one way, again and again, in a call that is dropped when the body is woken. The body must be
/// gone when the task is.
///
/// A wake within the first poll is for the body, which then waits again. A wake after it is for the task.
fn dropped_where_it_is_woken<Fut: Future>(ns: &NetNs, wait: impl Fn() -> Fut + Sync + Send) -> (u32, u32) {
    // The text is on the heap, so that AddressSanitizer detects a read after the scope.
    let text = String::from("borrowed");
    let (dropped, on) = (AtomicBool::new(false), Mutex::new(None));
    let dropped_by = Mutex::new((0, false));
    run_inline(async {
        let witness = Witness { text: &text, dropped: &dropped, on: &on };
        let call = ns.run_async(|| async {
            let _witness = witness;
            loop {
                wait().await;
            }
        });
        let by = drop_when_woken(call, &dropped).await;
        *dropped_by.lock().unwrap() = by;
    });
    let (dropped_by, is_gone_at_once) = *dropped_by.lock().unwrap();
    if !is_gone_at_once {
        // The body may still use what it borrows. A panic would free that, so the process aborts.
        eprintln!("the call was dropped, and its body that borrows was not");
        std::process::exit(1);
    }
    let (on, at) = on.lock().unwrap().expect("the witness recorded its drop");
    assert_eq!(at, key(ns.id()), "the body is dropped inside");
    (on, dropped_by)
}

/// Repeats an attempt until the call was dropped on its own thread. Another thread drops it where that one polls at the
/// moment of the wake.
fn assert_dropped_on_its_own_thread(attempt: impl Fn() -> (u32, u32)) {
    wait_until("the call is dropped on its own thread", || {
        let (body, call) = attempt();
        body == call
    });
}

fn wait_until_ended(ns: &NetNs) {
    wait_until_given_back();
    // Threads that a body started hold the namespace for a moment after they were joined.
    wait_until("no thread is in the namespace", || threads_in(ns).is_empty());
}

#[test]
fn a_call_dropped_by_its_own_timer_is_gone_before_the_scope_ends() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert_dropped_on_its_own_thread(|| dropped_where_it_is_woken(&ns, || sleep(Duration::from_millis(1))));
    wait_until_ended(&ns);
}

#[test]
fn a_call_dropped_by_its_own_socket_is_gone_before_the_scope_ends() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let wait = || async {
        let (mut far, near) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut near = tokio::net::UnixStream::from_std(near).unwrap();
        // The write happens while the body waits.
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            far.write_all(b"x").unwrap();
        });
        near.read_u8().await.unwrap();
        writer.join().unwrap();
    };
    assert_dropped_on_its_own_thread(|| dropped_where_it_is_woken(&ns, wait));
    wait_until_ended(&ns);
}

#[test]
fn a_call_dropped_by_a_task_of_its_own_is_gone_before_the_scope_ends() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for local in [false, true] {
        let wait = || async move {
            let (tell, told) = tokio::sync::oneshot::channel();
            let child = async {
                sleep(Duration::from_millis(1)).await;
                tell.send(()).unwrap();
            };
            if local {
                task::spawn_local(child);
            } else {
                task::spawn(child);
            }
            told.await.unwrap();
        };
        assert_dropped_on_its_own_thread(|| dropped_where_it_is_woken(&ns, wait));
        wait_until_ended(&ns);
    }
}

#[test]
fn a_call_dropped_by_a_blocking_thread_is_gone_before_the_scope_ends() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (body, call) = dropped_where_it_is_woken(&ns, || async {
        let (tell, told) = tokio::sync::oneshot::channel();
        task::spawn_blocking(|| {
            thread::sleep(Duration::from_millis(5));
            tell.send(()).unwrap();
        });
        told.await.unwrap();
    });
    assert_ne!(body, call, "the blocking thread waits for the call's own");
    wait_until_ended(&ns);
}

#[test]
fn a_call_dropped_when_its_body_yields_is_gone_before_the_scope_ends() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // The wake happens within the poll, and then from outside.
    dropped_where_it_is_woken(&ns, || {
        poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
    });
    dropped_where_it_is_woken(&ns, || {
        poll_fn(move |cx| {
            // A wake that comes while the poll is under way is for the body, which then waits for another.
            let waker = cx.waker().clone();
            thread::spawn(move || waker.wake());
            Poll::<()>::Pending
        })
    });
    wait_until_ended(&ns);
}

/// A waker that is the only owner of the task: waking drops the task.
#[test]
fn a_call_dropped_with_its_waker_is_gone_before_the_scope_ends() {
    struct Holder {
        call: Mutex<Option<Local<'static>>>,
        gone: mpsc::Sender<u32>,
    }
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Holder {
        fn drop(&mut self) {
            drop(self.call.get_mut().unwrap().take());
            self.gone.send(tid()).unwrap();
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert_dropped_on_its_own_thread(|| {
        let text = String::from("borrowed");
        let (dropped, on) = (AtomicBool::new(false), Mutex::new(None));
        let (gone, told) = mpsc::channel();
        let witness = Witness { text: &text, dropped: &dropped, on: &on };
        let call: Local<'_> = Box::pin(async {
            let outcome = ns.run_async(|| async {
                let _witness = witness;
                loop {
                    sleep(Duration::from_millis(20)).await;
                }
            });
            outcome.await.unwrap();
        });
        // SAFETY: only the lifetime changes. The test waits below for the holder's drop.
        let call = unsafe { std::mem::transmute::<Local<'_>, Local<'static>>(call) };
        let holder = Arc::new(Holder { call: Mutex::new(Some(call)), gone });
        let waker = Waker::from(Arc::clone(&holder));
        {
            let mut call = holder.call.lock().unwrap();
            assert!(call.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop((holder, waker));
        let by = told.recv_timeout(BOUND).expect("the waker is its last owner");
        if !dropped.load(Ordering::SeqCst) {
            eprintln!("the call is dropped, and its body is not");
            std::process::exit(1);
        }
        let (on, at) = on.lock().unwrap().expect("the witness recorded its drop");
        assert_eq!(at, key(ns.id()), "the body is dropped inside");
        (on, by)
    });
    wait_until_ended(&ns);
}

/// Waits in every way, and is polled to the end on the thread that wakes it.
async fn every_wait() -> (u64, u64) {
    sleep(Duration::from_millis(1)).await;
    task::spawn(async { sleep(Duration::from_millis(1)).await }).await.unwrap();
    task::spawn_local(async { task::yield_now().await }).await.unwrap();
    let blocking = task::spawn_blocking(here).await.unwrap();
    assert_eq!(blocking, here());
    for _ in 0..200 {
        task::yield_now().await;
    }
    here()
}

#[test]
fn a_call_polled_where_it_is_woken_comes_to_its_end() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for fresh in [false, true] {
        let call = || if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
        let seen = Mutex::new(Vec::new());
        run_inline(async {
            let borrowed = call().run_async(every_wait).await.unwrap();
            seen.lock().unwrap().push(borrowed);
            let owned = call().spawn_async(every_wait).await.unwrap();
            seen.lock().unwrap().push(owned);
        });
        assert_eq!(*seen.lock().unwrap(), [key(ns.id()); 2]);
        wait_until_ended(&ns);
    }
}

/// A body yields until one of its own tasks has run. Its polls must not starve that task.
#[test]
fn a_body_that_yields_does_not_starve_its_tasks_where_it_is_polled_inline() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    run_inline(async {
        ns.run_async(|| async {
            let done = Arc::new(AtomicBool::new(false));
            let child = Arc::clone(&done);
            task::spawn(async move {
                sleep(Duration::from_millis(2)).await;
                child.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                task::yield_now().await;
            }
        })
        .await
        .unwrap();
    });
    wait_until_ended(&ns);
}

/// The task continues after the call on the thread that woke it. That thread is not idle, so no call gets it.
#[test]
fn a_task_that_goes_on_where_the_call_woke_it_can_make_calls() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let seen = Mutex::new(Vec::new());
    run_inline(async {
        for _ in 0..3 {
            // Blocking work delays the end, so that the task is woken for it.
            let slow = || async {
                task::spawn_blocking(|| thread::sleep(Duration::from_millis(2)));
                here()
            };
            let inside = ns.run_async(slow).await.unwrap();
            let again = with_netns(&ns, here).unwrap();
            seen.lock().unwrap().push((inside, again));
            let inside = ns.spawn_async(slow).await.unwrap();
            let again = with_netns(&ns, here).unwrap();
            seen.lock().unwrap().push((inside, again));
        }
    });
    assert_eq!(*seen.lock().unwrap(), [(key(ns.id()), key(ns.id())); 6]);
    wait_until_ended(&ns);
}

/// A task may make a call of its own in the same poll, next to the call that woke it.
#[test]
fn a_task_can_make_calls_before_it_polls_the_call_that_woke_it() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    run_inline(async {
        for owned in [false, true] {
            let slow = || async {
                task::spawn_blocking(|| thread::sleep(Duration::from_millis(2)));
            };
            let mut call: Local<'_> = if owned {
                let handle = ns.spawn_async(slow);
                Box::pin(async { handle.await.unwrap() })
            } else {
                Box::pin(async { ns.run_async(slow).await.unwrap() })
            };
            poll_fn(|cx| {
                assert_eq!(with_netns(&ns, here).unwrap(), key(ns.id()));
                call.as_mut().poll(cx)
            })
            .await;
        }
    });
    wait_until_ended(&ns);
}

/// A panic in a waker belongs to its executor: the call's thread continues.
#[test]
fn a_waker_that_panics_harms_no_call() {
    struct Panics(AtomicBool);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
            panic!("a waker's panic");
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for owned in [false, true] {
        let woken = Arc::new(Panics(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let slow = || async {
            sleep(Duration::from_millis(1)).await;
            task::spawn_blocking(|| thread::sleep(Duration::from_millis(2)));
            6 * 7
        };
        let mut call: Pin<Box<dyn Future<Output = i32> + '_>> = if owned {
            let handle = ns.spawn_async(slow);
            Box::pin(async { handle.await.unwrap() })
        } else {
            Box::pin(async { ns.run_async(slow).await.unwrap() })
        };
        let value = loop {
            match call.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => break value,
                Poll::Pending => wait_until("it is woken", || woken.0.swap(false, Ordering::SeqCst)),
            }
        };
        assert_eq!(value, 42);
        drop(call);
        wait_until_ended(&ns);
    }
}

/// The poison hook runs at home, and never on the thread that could not be restored, wherever the task is polled.
#[test]
fn a_poisoned_thread_runs_no_hook_where_the_task_is_polled_inline() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    set_poison_hook({
        let told = Arc::clone(&told);
        move |poisoning| told.lock().unwrap().push((poisoning.thread_id(), tid(), here()))
    });
    let after = Mutex::new(Vec::new());
    let poisons = || async {
        task::spawn_blocking(|| thread::sleep(Duration::from_millis(2)));
        sleep(Duration::from_millis(1)).await;
        give_up_sys_admin();
        tid()
    };
    run_inline(async {
        for owned in [false, true] {
            let poisoned =
                if owned { ns.spawn_async(poisons).await.unwrap() } else { ns.run_async(poisons).await.unwrap() };
            after.lock().unwrap().push((poisoned, tid(), here()));
        }
    });
    set_poison_hook(|_| {});
    let (told, after) = (told.lock().unwrap(), after.lock().unwrap());
    assert_eq!(told.len(), 2);
    for (poisoned, by, at) in told.iter().chain(after.iter()) {
        assert_ne!(poisoned, by);
        assert_eq!(*at, home());
    }
    wait_until_ended(&ns);
}

/// The thread of the inner call wakes the task, which is polled there: both the outer body and the inner one are on
/// threads that would wait for each other.
#[test]
fn nested_calls_end_where_the_task_is_polled_in_a_waker() {
    let _alone = alone();
    let (outer, inner) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let text = String::from("borrowed");
    for _ in 0..10 {
        run_inline(async {
            let value = in_netns::with_netns_async(&outer, async || {
                let value = in_netns::with_netns_async(&inner, async || {
                    sleep(Duration::from_millis(2)).await;
                    assert_eq!(here(), key(inner.id()));
                    text.as_str()
                });
                let value = value.await.unwrap();
                assert_eq!(here(), key(outer.id()));
                value
            });
            assert_eq!(value.await.unwrap(), "borrowed");
        });
    }
}

#[test]
fn nested_calls_are_gone_where_the_task_is_dropped_in_a_waker() {
    let _alone = alone();
    let namespaces = [(); 3].map(|()| NetNs::new().unwrap());
    let [outer, middle, inner] = &namespaces;
    let text = String::from("borrowed");
    for depth in [2, 3] {
        for _ in 0..10 {
            let (dropped, on) = (AtomicBool::new(false), Mutex::new(None));
            run_inline(async {
                let waits = async || {
                    let _witness = Witness { text: &text, dropped: &dropped, on: &on };
                    sleep(Duration::from_millis(2)).await;
                    std::future::pending::<()>().await;
                };
                let nested = async || {
                    if depth == 2 {
                        in_netns::with_netns_async(inner, waits).await.unwrap();
                    } else {
                        let deeper = async || in_netns::with_netns_async(inner, waits).await.unwrap();
                        in_netns::with_netns_async(middle, deeper).await.unwrap();
                    }
                };
                let call = in_netns::with_netns_async(outer, nested);
                let (_, is_gone) = drop_when_woken(call, &dropped).await;
                assert!(is_gone, "{depth}");
            });
            let (_, where_it_was) = on.lock().unwrap().expect("the body was dropped");
            assert_eq!(where_it_was, key(inner.id()));
        }
    }
    for ns in &namespaces {
        wait_until("no thread is inside", || threads_in(ns).is_empty());
    }
}

#[test]
fn a_walk_in_a_call_ends_where_the_task_is_polled_in_a_waker() {
    let _alone = alone();
    let namespaces = [(); 3].map(|()| NetNs::new().unwrap());
    let [outer, others @ ..] = &namespaces;
    run_inline(async {
        let visited = in_netns::with_netns_async(outer, async || {
            in_netns::walk_async(others, None, async |ns: &NetNs| {
                sleep(Duration::from_millis(2)).await;
                key(ns.id()) == here()
            })
            .await
        });
        assert!(visited.await.unwrap().into_iter().all(Result::unwrap));
    });
}

/// A waker that blocks, and then unparks the thread that waits for it.
struct BlocksWhereItIsWoken<B> {
    block: B,
    waiter: thread::Thread,
}

impl<B: Fn() + Send + Sync + 'static> Wake for BlocksWhereItIsWoken<B> {
    fn wake(self: Arc<Self>) {
        (self.block)();
        self.waiter.unpark();
    }
}

/// Runs a future on this thread, with a waker that calls `block`.
fn run_with_blocking_waker<F: Future>(future: F, block: impl Fn() + Send + Sync + 'static) -> F::Output {
    let waker = Waker::from(Arc::new(BlocksWhereItIsWoken { block, waiter: thread::current() }));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(BOUND),
        }
    }
}

#[test]
fn a_waker_may_block_on_another_call() {
    let _alone = alone();
    let (outer, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let [wakes, ended] = [const { AtomicU32::new(0) }; 2].map(Arc::new);
    in_time("calls whose wakers block on other calls end", {
        let (outer, other, wakes, ended) = (outer.clone(), other.clone(), Arc::clone(&wakes), Arc::clone(&ended));
        move || {
            let block = move || {
                wakes.fetch_add(1, Ordering::SeqCst);
                let call = other.run_async(async || {
                    sleep(Duration::from_millis(1)).await;
                    assert_eq!(here(), key(other.id()));
                    // A call of its own, whose thread wakes that of this one.
                    other.run_async(|| sleep(Duration::from_millis(1))).await.unwrap();
                });
                futures::executor::block_on(call).unwrap();
                ended.fetch_add(1, Ordering::SeqCst);
            };
            for _ in 0..5 {
                run_with_blocking_waker(outer.run_async(every_wait), block.clone()).unwrap();
            }
        }
    });
    let wakes = wakes.load(Ordering::SeqCst);
    assert!(wakes > 0, "the wakers were called");
    wait_until("each call of a waker ends", || ended.load(Ordering::SeqCst) == wakes);
    wait_until_ended(&outer);
}

/// What a waker that is called on a call's own thread takes, and gives to `block`. `make` gets how long the call is to
/// wait.
fn given_to_its_waker<T, R>(make: impl Fn(Duration) -> T, block: impl Fn(T) -> R + Send + Sync + Clone + 'static) -> R
where
    T: Future + Unpin + Send + 'static,
    R: Send + 'static,
{
    // The waker may come before it is given anything. Then the next call waits longer.
    for wait in [20, 200, 2000] {
        let given: Arc<Mutex<Option<T>>> = Arc::default();
        let (tell, told) = mpsc::channel();
        let take = {
            let (given, block) = (Arc::clone(&given), block.clone());
            move || {
                let taken = given.lock().unwrap().take();
                tell.send(taken.map(&block)).unwrap_or_default();
            }
        };
        let mut future = make(Duration::from_millis(wait));
        let waker = Waker::from(Arc::new(BlocksWhereItIsWoken { block: take, waiter: thread::current() }));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        *given.lock().unwrap() = Some(future);
        if let Some(result) = told.recv_timeout(BOUND).expect("the waker returns") {
            return result;
        }
    }
    panic!("the wakers were called too soon");
}

/// Gives a call to a waker that is called on the call's own thread and blocks on it, and expects a panic.
fn panics_where_its_waker_blocks(make: impl Fn(Duration) -> Local<'static> + Send + 'static) {
    in_time("a call that its own waker blocks on ends", move || {
        let outcome = given_to_its_waker(make, |call| {
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| futures::executor::block_on(call)));
            outcome.map_err(|payload| payload.downcast_ref::<&str>().copied())
        });
        let message = outcome.expect_err("it panics").expect("with a message");
        assert!(message.contains("a waker must not block"), "{message}");
    });
}

/// The call's own thread is in the waker, so the call cannot go on.
#[test]
fn a_waker_that_blocks_on_its_own_call_panics() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = ns.clone();
    panics_where_its_waker_blocks(move |wait| {
        let inside = inside.clone();
        Box::pin(async move { inside.run_async(|| sleep(wait)).await.unwrap() })
    });
    wait_until_ended(&ns);
}

/// The body hands its own call to a task, which runs on the call's own thread.
#[test]
fn a_task_of_a_call_that_awaits_that_call_panics() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (give, given) = tokio::sync::oneshot::channel::<Local<'static>>();
    let (tell, told) = mpsc::channel();
    let inside = ns.clone();
    let mut call: Local<'static> = Box::pin(async move {
        let body = async move || {
            task::spawn(async move {
                let mut own = given.await.unwrap();
                let polled = poll_fn(move |cx| {
                    panic::catch_unwind(AssertUnwindSafe(|| own.as_mut().poll(cx)))
                        .map_or_else(|payload| Poll::Ready(Some(payload)), |polled| polled.map(|()| None))
                });
                let message = polled.await.and_then(|payload| payload.downcast::<&str>().ok());
                tell.send(message.map(|message| *message)).unwrap();
            });
            pending::<()>().await;
        };
        inside.run_async(body).await.unwrap();
    });
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(give.send(call).is_ok());
    let message = told.recv_timeout(BOUND).unwrap().expect("it panics");
    assert!(message.contains("a task of a call must not await that call"), "{message}");
    wait_until_ended(&ns);
}

/// The thread of the inner call is in the waker, so the outer one cannot go on either.
#[test]
fn a_waker_that_blocks_on_a_call_that_awaits_its_own_panics() {
    let _alone = alone();
    let (outer, inner) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let (outside, inside) = (outer.clone(), inner.clone());
    panics_where_its_waker_blocks(move |wait| {
        let (outside, inside) = (outside.clone(), inside.clone());
        Box::pin(async move {
            let nested = async || inside.run_async(|| sleep(wait)).await.unwrap();
            outside.run_async(nested).await.unwrap();
        })
    });
    wait_until_ended(&outer);
    wait_until_ended(&inner);
}

/// The body has ended, so there is nothing to wait for.
#[test]
fn a_waker_may_block_on_the_handle_that_it_waits_for() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    in_time("a handle that its own waker blocks on is ready", {
        let ns = ns.clone();
        move || {
            let start = |wait| {
                ns.spawn_async(move || async move {
                    sleep(wait).await;
                    here()
                })
            };
            let outcome = given_to_its_waker(start, futures::executor::block_on);
            assert_eq!(outcome.unwrap(), key(ns.id()));
        }
    });
    wait_until_ended(&ns);
}
