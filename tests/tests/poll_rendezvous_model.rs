//! The model check of the poll hand-over: polls, wakes from any thread, and the poller's end at any time, by loom.
//!
//! The file under test is the runtime's own, with loom's locks, cells and threads in the place of `std`'s.
#![allow(missing_docs, unsafe_code, unreachable_pub, dead_code)]

#[path = "../../runtime/src/async_call/poll_rendezvous.rs"]
mod poll_rendezvous;

mod sync {
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

    /// No time passes in a model.
    #[derive(Clone, Copy)]
    pub(crate) struct Instant(std::time::Duration);

    impl Instant {
        pub(crate) fn now() -> Instant {
            Instant(std::time::Duration::ZERO)
        }

        pub(crate) fn elapsed(self) -> std::time::Duration {
            self.0
        }
    }
}

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use loom::cell::Cell;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use poll_rendezvous::{Ended, PendingHost, PollBudget, pair};

/// A second poll within the poller's, after a turn at most.
const POLL_BUDGET: PollBudget = PollBudget { polls: 2, turns: 1, time: Duration::MAX };

/// Every interleaving with up to four preemptions; bugs of this kind show with two or three. Each more takes six times as long.
fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(test);
}

/// A loom thread that waits, as a task.
struct Task {
    woken: Mutex<bool>,
    wakes: Condvar,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wakes.notify_one();
    }
}

impl Task {
    fn new() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task { woken: Mutex::new(false), wakes: Condvar::new() });
        (Arc::clone(&task), Waker::from(task))
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = self.wakes.wait(woken).unwrap();
        }
    }
}

/// The host's thread: serves until the body has ended, asleep in between as a runtime is.
fn host(pending_host: PendingHost<u32>, released: bool) -> Option<u32> {
    let (task, waker) = Task::new();
    let mut host = pending_host.accept();
    let ended = loop {
        if let Poll::Ready(ended) = host.serve(&mut Context::from_waker(&waker)) {
            break ended;
        }
        task.wait();
    };
    if ended == Ended::Finished && released {
        host.release();
    }
    host.finish(7)
}

/// Borrows a cell of loom's: whoever used it while the poller does not wait would be found out.
#[derive(Clone, Copy)]
struct Lent<'a>(&'a Cell<u32>);
// SAFETY: what the model checks is that one thread at a time uses it.
unsafe impl Send for Lent<'_> {}

impl Lent<'_> {
    fn add(self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Pending so many times, woken each time by a thread of its own.
struct Steps<'a> {
    lent: Lent<'a>,
    left: u32,
    by_thread: bool,
}

impl Future for Steps<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.lent.add();
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        let waker = cx.waker().clone();
        if self.by_thread {
            thread::spawn(move || waker.wake());
        } else {
            waker.wake();
        }
        Poll::Pending
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.lent.add();
    }
}

/// Polls to the end, and finds the cell its own again.
fn to_the_end(pending: u32, by_thread: bool, released: bool) {
    let cell = Cell::new(0);
    let lent = Lent(&cell);
    let (mut poller, pending_host) = pair(0, POLL_BUDGET, move || Steps { lent, left: pending, by_thread });
    let hosting = thread::spawn(move || host(pending_host, released));
    let (task, waker) = Task::new();
    loop {
        match poller.poll(&waker) {
            Poll::Ready(end) => {
                assert_eq!(end.unwrap(), 7);
                break;
            }
            // Between two polls the cell is nobody's but ours.
            Poll::Pending => lent.add(),
        }
        task.wait();
    }
    assert!(cell.get() >= pending + 2);
    drop(poller);
    assert_eq!(hosting.join().unwrap(), None);
}

#[test]
fn every_wake_leads_to_a_poll() {
    model(|| to_the_end(1, true, false));
}

#[test]
fn a_wake_within_the_poll_is_not_lost() {
    model(|| to_the_end(2, false, false));
}

#[test]
fn a_slow_end_is_told() {
    model(|| to_the_end(0, false, true));
}

/// Left after so many polls, while a wake may be under way.
fn left_after(poll_rendezvous: u32, by_thread: bool) {
    let cell = Cell::new(0);
    let lent = Lent(&cell);
    let (mut poller, pending_host) = pair::<_, _, u32>(0, POLL_BUDGET, move || Steps { lent, left: 2, by_thread });
    let hosting = thread::spawn(move || host(pending_host, false));
    let (_task, waker) = Task::new();
    let mut over = false;
    for _ in 0..poll_rendezvous {
        over = poller.poll(&waker).is_ready();
        lent.add();
    }
    assert!(!over, "two poll_rendezvous at most, of three");
    drop(poller);
    // The body is gone, and with it its borrow.
    lent.add();
    assert_eq!(hosting.join().unwrap(), Some(7));
}

#[test]
fn it_can_be_left_before_the_first_poll() {
    model(|| left_after(0, false));
}

#[test]
fn it_can_be_left_between_two_polls() {
    model(|| left_after(1, false));
}

#[test]
fn it_can_be_left_while_a_wake_is_under_way() {
    model(|| left_after(1, true));
}

/// Finished, released, and left before the end: the host keeps what it has to say, or the poller takes it along.
#[test]
fn it_can_be_left_while_the_host_ends() {
    model(|| {
        let cell = Cell::new(0);
        let lent = Lent(&cell);
        let (mut poller, pending_host) = pair(0, POLL_BUDGET, move || Steps { lent, left: 0, by_thread: false });
        let hosting = thread::spawn(move || host(pending_host, true));
        let (_task, waker) = Task::new();
        let told = match poller.poll(&waker) {
            Poll::Ready(end) => end.ok(),
            Poll::Pending => poller.leave(false).ended,
        };
        lent.add();
        drop(poller);
        let kept = hosting.join().unwrap();
        assert_eq!((told.or(kept), told.and(kept)), (Some(7), None));
    });
}

/// A host that cannot be one gives the body back: its poller drops it, when it is told or when it leaves.
fn declined(poll_first: bool) {
    let cell = Cell::new(0);
    let body = Steps { lent: Lent(&cell), left: 0, by_thread: false };
    let (mut poller, pending_host) = pair(0, POLL_BUDGET, move || body);
    let hosting = thread::spawn(move || pending_host.reject(7));
    let (task, waker) = Task::new();
    let mut told = None;
    while poll_first && told.is_none() {
        match poller.poll(&waker) {
            Poll::Ready(end) => told = end.ok(),
            Poll::Pending => task.wait(),
        }
    }
    let left = poller.leave(false).ended;
    drop(poller);
    assert_eq!(cell.get(), 1, "dropped, and not made");
    assert_eq!((told.or(left), told.and(left)), (Some(7), None));
    hosting.join().unwrap();
}

#[test]
fn a_body_that_is_declined_is_dropped_by_its_owner() {
    model(|| declined(true));
}

#[test]
fn a_call_that_is_declined_can_be_left() {
    model(|| declined(false));
}

/// Whoever polls may change from poll to poll, as a task does that is stolen: the last waker is woken.
#[test]
fn the_latest_waker_is_woken() {
    model(|| {
        let cell = Cell::new(0);
        let lent = Lent(&cell);
        let (mut poller, pending_host) = pair::<_, _, u32>(0, POLL_BUDGET, move || {
            let mut first = true;
            let mut steps = Steps { lent, left: 1, by_thread: true };
            poll_fn(move |cx| {
                if std::mem::replace(&mut first, false) {
                    return Poll::Pending;
                }
                Pin::new(&mut steps).poll(cx)
            })
        });
        let hosting = thread::spawn(move || host(pending_host, false));
        let (_stale, stale) = Task::new();
        assert!(poller.poll(&stale).is_pending(), "nobody has woken it");
        let (task, waker) = Task::new();
        while poller.poll(&waker).is_pending() {
            task.wait();
        }
        drop(poller);
        assert_eq!(hosting.join().unwrap(), None);
    });
}
