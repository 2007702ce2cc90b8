//! The model check of the poll rendezvous with loom: polls, wakes from any thread, and a drop of the poller at any
//! time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::poll_rendezvous::{Ended, PendingHost, PollBudget, pair};
use loom::cell::Cell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// A second poll follows within the poller's, at most one turn later.
const POLL_BUDGET: PollBudget = PollBudget { polls: 2, turns: 1, time: Duration::MAX, close_orders: 0 };

fn model(test: impl Fn() + Send + Sync + 'static) {
    crate::explorer().check(test);
}

/// The runtime's handling of a waker that must not be called on the host's thread.
#[allow(clippy::unnecessary_wraps)] // The signature is the runtime's.
fn wake_elsewhere(waker: Waker) -> Result<(), Waker> {
    ELSEWHERE.0.lock().unwrap().wakers.push(waker);
    ELSEWHERE.1.notify_one();
    Ok(())
}

/// The event that the model's first thread waits for.
#[derive(Default)]
struct Elsewhere {
    wakers: Vec<Waker>,
    is_ended: bool,
}

loom::lazy_static! {
    static ref ELSEWHERE: (Mutex<Elsewhere>, Condvar) = (Mutex::new(Elsewhere::default()), Condvar::new());
}

/// A loom thread that waits like a task.
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

/// The host's thread: it serves until the body has ended, and sleeps in between as a runtime does.
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
    host.finish(7, (), false)
}

/// A body that borrows a loom cell: loom detects any use while the poller does not wait.
#[derive(Clone, Copy)]
struct Lent<'a>(&'a Cell<u32>);
// SAFETY: the model checks that one thread at a time uses it.
unsafe impl Send for Lent<'_> {}

impl Lent<'_> {
    fn add(self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A body that is pending `left` times, and is woken each time by a new thread.
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

/// Polls to the end, and then uses the cell again.
fn to_the_end(spin: u32, pending: u32, by_thread: bool, released: bool) {
    let cell = Cell::new(0);
    let lent = Lent(&cell);
    let (mut poller, pending_host) =
        pair(spin, POLL_BUDGET, wake_elsewhere, Box::new(move || Box::pin(Steps { lent, left: pending, by_thread })));
    let hosting = thread::spawn(move || host(pending_host, released));
    let (task, waker) = Task::new();
    loop {
        match poller.poll(&waker) {
            Poll::Ready(finished) => {
                assert_eq!(finished.unwrap().end, 7);
                break;
            }
            // Between two polls only this thread may use the cell.
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
    model(|| to_the_end(0, 1, true, false));
}

#[test]
fn a_wake_within_the_poll_is_not_lost() {
    model(|| to_the_end(0, 2, false, false));
}

#[test]
fn no_order_is_lost_while_the_host_waits_awake() {
    model(|| to_the_end(1, 1, true, false));
}

#[test]
fn a_slow_end_is_reported() {
    model(|| to_the_end(0, 0, false, true));
}

/// Drops the poller after this number of polls, while a wake may be in progress.
fn left_after(spin: u32, polls: u32, by_thread: bool) {
    let cell = Cell::new(0);
    let lent = Lent(&cell);
    let (mut poller, pending_host) =
        pair::<u32>(spin, POLL_BUDGET, wake_elsewhere, Box::new(move || Box::pin(Steps { lent, left: 2, by_thread })));
    let hosting = thread::spawn(move || host(pending_host, false));
    let (_task, waker) = Task::new();
    let mut over = false;
    for _ in 0..polls {
        over = poller.poll(&waker).is_ready();
        lent.add();
    }
    assert!(!over, "at most two polls of three are made");
    drop(poller);
    // The body is gone, and so is its borrow.
    lent.add();
    assert_eq!(hosting.join().unwrap(), Some(7));
}

#[test]
fn it_can_be_left_before_the_first_poll() {
    model(|| left_after(0, 0, false));
}

#[test]
fn it_can_be_left_between_two_polls() {
    model(|| left_after(0, 1, false));
}

#[test]
fn it_can_be_left_while_a_wake_is_under_way() {
    model(|| left_after(0, 1, true));
}

/// The poller is finished, released, or dropped before the end. The result stays with the host, or the poller takes it.
#[test]
fn it_can_be_left_while_the_host_ends() {
    model(|| {
        let cell = Cell::new(0);
        let lent = Lent(&cell);
        let (mut poller, pending_host) =
            pair(0, POLL_BUDGET, wake_elsewhere, Box::new(move || Box::pin(Steps { lent, left: 0, by_thread: false })));
        let hosting = thread::spawn(move || host(pending_host, true));
        let (_task, waker) = Task::new();
        let told = match poller.poll(&waker) {
            Poll::Ready(finished) => finished.ok().map(|finished| finished.end),
            Poll::Pending => poller.leave(Waker::wake).ended,
        };
        lent.add();
        drop(poller);
        let kept = hosting.join().unwrap();
        assert_eq!((told.or(kept), told.and(kept)), (Some(7), None));
    });
}

/// A host that cannot serve returns the body. The poller drops it, when it is notified or when it is dropped.
fn declined(poll_first: bool) {
    let cell = Cell::new(0);
    let body = Steps { lent: Lent(&cell), left: 0, by_thread: false };
    let (mut poller, pending_host) = pair(0, POLL_BUDGET, wake_elsewhere, Box::new(move || Box::pin(body)));
    let hosting = thread::spawn(move || pending_host.reject(7, (), false));
    let (task, waker) = Task::new();
    let mut told = None;
    while poll_first && told.is_none() {
        match poller.poll(&waker) {
            Poll::Ready(finished) => told = finished.ok().map(|finished| finished.end),
            Poll::Pending => task.wait(),
        }
    }
    let left = poller.leave(Waker::wake).ended;
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

/// Each poll may come from another thread, as with a stolen task. The last waker is woken.
#[test]
fn the_latest_waker_is_woken() {
    model(|| {
        let cell = Cell::new(0);
        let lent = Lent(&cell);
        let make = move || {
            let mut first = true;
            let mut steps = Steps { lent, left: 1, by_thread: true };
            poll_fn(move |cx| {
                if std::mem::replace(&mut first, false) {
                    return Poll::Pending;
                }
                Pin::new(&mut steps).poll(cx)
            })
        };
        let (mut poller, pending_host) =
            pair::<u32>(0, POLL_BUDGET, wake_elsewhere, Box::new(move || Box::pin(make())));
        let hosting = thread::spawn(move || host(pending_host, false));
        let (_stale, stale) = Task::new();
        assert!(poller.poll(&stale).is_pending(), "no thread has woken it");
        let (task, waker) = Task::new();
        while poller.poll(&waker).is_pending() {
            task.wait();
        }
        drop(poller);
        assert_eq!(hosting.join().unwrap(), None);
    });
}

/// An executor that polls its only task on the thread that wakes it, and may drop it there instead.
struct Inline {
    slot: Mutex<Slot>,
    cell: SharedCell,
    /// The number of polls after which it is dropped.
    polls: u32,
}

enum Slot {
    Idle(u32, Polled),
    Polling { woken: bool },
    Ended,
}

/// Polls the poller that it holds, and returns whether it is ready.
type Polled = Box<dyn FnMut(&Waker) -> bool + Send>;

/// Like [`Lent`], for a body whose executor requires `'static`.
#[derive(Clone)]
struct SharedCell(Arc<Cell<u32>>);
// SAFETY: the model checks that one thread at a time uses it.
unsafe impl Send for SharedCell {}
// SAFETY: the model checks that one thread at a time uses it.
unsafe impl Sync for SharedCell {}

impl SharedCell {
    fn add(&self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut slot = self.slot.lock().unwrap();
        let (mut polls, mut polled) = match std::mem::replace(&mut *slot, Slot::Polling { woken: true }) {
            Slot::Idle(polls, polled) => (polls, polled),
            Slot::Polling { .. } => return,
            Slot::Ended => {
                *slot = Slot::Ended;
                return;
            }
        };
        *slot = Slot::Polling { woken: false };
        drop(slot);
        loop {
            polls += 1;
            let is_dropped = polls > self.polls;
            if is_dropped || polled(&waker) {
                drop(polled);
                // The body is gone, and so is its borrow.
                self.cell.add();
                *self.slot.lock().unwrap() = Slot::Ended;
                ELSEWHERE.0.lock().unwrap().is_ended = true;
                ELSEWHERE.1.notify_one();
                return;
            }
            let mut slot = self.slot.lock().unwrap();
            match &mut *slot {
                Slot::Polling { woken } if *woken => *woken = false,
                slot => {
                    *slot = Slot::Idle(polls, polled);
                    return;
                }
            }
        }
    }
}

/// A body that its host's runtime wakes this number of times, on the host's thread.
struct Timer {
    cell: SharedCell,
    due: Arc<Mutex<Vec<Waker>>>,
    left: u32,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.cell.add();
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        self.due.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cell.add();
    }
}

/// The task is woken on the host's thread, and polled or dropped there.
fn woken_on_the_hosts_thread(left: u32, polls: u32, released: bool) {
    #[allow(clippy::arc_with_non_send_sync)] // `SharedCell` is `Send`: loom checks who uses the cell.
    let cell = SharedCell(Arc::new(Cell::new(0)));
    let due = Arc::new(Mutex::new(Vec::new()));
    let body = Timer { cell: cell.clone(), due: Arc::clone(&due), left };
    let (mut poller, pending_host) = pair::<u32>(0, POLL_BUDGET, wake_elsewhere, Box::new(move || Box::pin(body)));
    let hosting = thread::spawn(move || {
        let (task, waker) = Task::new();
        let mut host = pending_host.accept();
        let ended = loop {
            if let Poll::Ready(ended) = host.serve(&mut Context::from_waker(&waker)) {
                break ended;
            }
            task.wait();
            // Timers fire if there is nothing to poll.
            if let Poll::Ready(ended) = host.serve(&mut Context::from_waker(&waker)) {
                break ended;
            }
            let fired = std::mem::take(&mut *due.lock().unwrap());
            fired.into_iter().for_each(Waker::wake);
        };
        if ended == Ended::Finished && released {
            host.release();
        }
        host.finish(7, (), false)
    });
    let told = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let poll: Polled = Box::new({
        let told = Arc::clone(&told);
        move |waker| match poller.poll(waker) {
            Poll::Ready(finished) => {
                assert_eq!(finished.unwrap().end, 7);
                told.store(true, std::sync::atomic::Ordering::SeqCst);
                true
            }
            Poll::Pending => false,
        }
    });
    let task = Arc::new(Inline { slot: Mutex::new(Slot::Idle(0, poll)), cell: cell.clone(), polls });
    task.wake();
    loop {
        let mut elsewhere = ELSEWHERE.0.lock().unwrap();
        while elsewhere.wakers.is_empty() && !elsewhere.is_ended {
            elsewhere = ELSEWHERE.1.wait(elsewhere).unwrap();
        }
        if elsewhere.is_ended {
            break;
        }
        let wakers = std::mem::take(&mut elsewhere.wakers);
        drop(elsewhere);
        wakers.into_iter().for_each(Waker::wake);
    }
    cell.add();
    let kept = hosting.join().unwrap();
    assert_ne!(
        kept.is_some(),
        told.load(std::sync::atomic::Ordering::SeqCst),
        "the report is the poller's, or the host's"
    );
}

#[test]
fn a_waker_that_drops_inline_leaves_no_borrow_behind() {
    model(|| woken_on_the_hosts_thread(1, 1, false));
}

#[test]
fn a_waker_that_polls_inline_comes_to_the_end() {
    model(|| woken_on_the_hosts_thread(1, u32::MAX, false));
}

#[test]
fn a_waker_that_polls_inline_learns_of_a_slow_end() {
    model(|| woken_on_the_hosts_thread(0, u32::MAX, true));
}
