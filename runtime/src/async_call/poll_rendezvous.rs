//! The poll hand-over: a borrowed future that lives on another thread and is touched there only while its poller waits.
//!
//! **Promised:** from [`Poller`]'s first poll to its end, the body (the closure, the future that it makes, and what they borrow) is
//! used on the host's thread alone, and only while the poller is inside [`Poller::poll`] or [`Poller::leave`]. So a body may borrow
//! whatever outlives the poller, need not be `Send` once it is made, and is gone when the poller is.
//!
//! ```text
//! poller:  poll ─ order: POLL ─ wait ──────────── pending      drop ─ order: DROP ─ wait ──── gone
//! host:          (driving its runtime)  poll body ─ served              drop body ─ served
//! anyone: wake ─▶ relay ─▶ the poller's executor ─▶ poll
//! ```
//!
//! **Repr not a channel:** what it carries is `'static`. **Repr not [`handover`](crate::thread::rendezvous):** its callee sleeps between two jobs; here it
//! goes on driving a runtime, whose timers and sockets the body waits for, and an order is one more thing that wakes it.
//!
//! **What breaks otherwise:** a body that its host polled at its own pace could use what its forgotten poller borrowed.
//! `mem::forget` of an [`Poller`] is harmless: no more orders come, so the body is never touched again, not even dropped. The model
//! check is `tests/tests/polls_model.rs`, this very file with loom's types in place of `std`'s.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::sync::{AtomicBool, Condvar, Instant, Mutex, MutexGuard, Ordering, spin_loop};

type Body<'b> = Pin<Box<dyn Future<Output = ()> + 'b>>;
type Make<'b> = Box<dyn FnOnce() -> Body<'b> + Send + 'b>;

/// What the two sides share. `E` is what the host has to say when everything has ended.
struct Line<E> {
    state: Mutex<State<E>>,
    served: Condvar,
    /// That no order is under way: for a poller that watches before it sleeps.
    idle: AtomicBool,
    relay: Arc<WakerRelay>,
    budget: PollBudget,
    spin: u32,
}

struct State<E> {
    order: Option<Order>,
    /// The body is gone, finished or dropped: there will be no more orders.
    over: bool,
    /// Wakes the host, while it waits for an order.
    host: Option<Waker>,
    /// From the host, at the very end.
    ended: Option<E>,
    /// The host is gone, be it without a word.
    host_gone: bool,
    owner_gone: bool,
    /// What the body's destructor threw.
    thrown: Option<Box<dyn Any + Send>>,
    /// The body, not made, for its poller to drop: see [`PendingHost::reject`].
    returned: Option<Make<'static>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Poll,
    Drop,
}

impl<E> Line<E> {
    fn state(&self) -> MutexGuard<'_, State<E>> {
        // Nothing unwinds while it holds the lock.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives an order, and waits until it is served or the host is gone. The poller's side.
    fn order<'l>(&'l self, mut state: MutexGuard<'l, State<E>>, order: Order) -> MutexGuard<'l, State<E>> {
        // Unwinding from here would free what the host still uses.
        let no_unwinding = AbortOnUnwind;
        self.idle.store(false, Ordering::Relaxed);
        state.order = Some(order);
        let host = state.host.take();
        drop(state);
        if let Some(host) = host {
            host.wake();
        }
        for _ in 0..self.spin {
            if self.idle.load(Ordering::Acquire) {
                break;
            }
            spin_loop();
        }
        let mut state = self.state();
        while state.order.is_some() && !state.host_gone {
            // Not `park`: an executor may count on its thread's token.
            state = self.served.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        std::mem::forget(no_unwinding);
        state
    }

    /// The host's side: the order has been served.
    fn serve(&self, mut state: MutexGuard<'_, State<E>>) {
        state.order = None;
        drop(state);
        self.idle.store(true, Ordering::Release);
        self.served.notify_one();
    }
}

/// From the body's wakers to the task that polls the poller, wherever that is by then.
struct WakerRelay(Mutex<Wakes>);

#[derive(Default)]
struct Wakes {
    poller: Option<Waker>,
    /// The poller waits while the host goes on: a wake is for the host to see.
    held: bool,
    woken: bool,
}

impl WakerRelay {
    fn wakes(&self) -> MutexGuard<'_, Wakes> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, waker: Waker) {
        let before = self.wakes().poller.replace(waker);
        // Somebody else's destructor: not under the lock.
        drop(before);
    }

    /// Keeps wakes for the host, until [`WakerRelay::forward`].
    fn hold(&self) {
        let mut wakes = self.wakes();
        wakes.held = true;
        wakes.woken = false;
    }

    fn is_woken(&self) -> bool {
        self.wakes().woken
    }

    /// Passes wakes on to the poller again, and the one that came meanwhile.
    fn forward(self: &Arc<Self>) {
        let mut wakes = self.wakes();
        wakes.held = false;
        let woken = std::mem::replace(&mut wakes.woken, false);
        drop(wakes);
        if woken {
            self.wake_by_ref();
        }
    }
}

impl Wake for WakerRelay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Once for each poll is enough: the next one sets the waker anew.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut wakes = self.wakes();
        wakes.woken = true;
        let poller = if wakes.held { None } else { wakes.poller.take() };
        drop(wakes);
        if let Some(poller) = poller {
            poller.wake();
        }
    }
}

/// How far one poll of the poller goes.
///
/// A body that is pending may be woken the next moment: it has only yielded, or what it waits for is in the same runtime. Crossing to the
/// poller's executor and back costs some thirty turns of the host's runtime, so the host takes a few turns first. The poller's executor
/// waits meanwhile, so it is polls that take no time that are added up.
#[derive(Clone, Copy)]
pub(crate) struct PollBudget {
    /// Polls of the body, at most; at least one.
    pub(crate) polls: u32,
    /// Turns without a wake, at most.
    pub(crate) turns: u32,
    /// After so long nothing more is begun.
    pub(crate) time: Duration,
}

/// What is left of it.
#[derive(Clone, Copy)]
struct BudgetLeft {
    polls: u32,
    turns: u32,
    since: Instant,
}

/// Takes a body that the host is to poll, and gives out the two sides.
///
/// `make` is called on the host's thread, within the poller's first poll. Owners watch for `spin` turns before they sleep.
pub(crate) fn pair<F, Fut, E>(spin: u32, budget: PollBudget, make: F) -> (Poller<F, Fut, E>, PendingHost<E>)
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = ()>,
{
    let make: Make<'_> = Box::new(move || Box::pin(make()));
    // SAFETY: only the lifetime changes. What is behind it is used through `BodyHost`, which does so only to serve an order, and an
    // order is served while the poller waits in `Line::order`; or by the poller itself, in `reclaim` and when it is dropped. The poller
    // names `F` and `Fut` and has a `Drop`, so what they borrow outlives it. Nothing else touches or drops the body, since
    // `PendingHost` and `BodyHost` hold it in `ManuallyDrop`, and a line does not end before a poller that was forgotten. (One
    // exception is argued in `Poller::leave`.)
    let make = unsafe { std::mem::transmute::<Make<'_>, Make<'static>>(make) };
    let state = State {
        order: None,
        over: false,
        host: None,
        ended: None,
        host_gone: false,
        owner_gone: false,
        thrown: None,
        returned: None,
    };
    let line = Arc::new(Line {
        state: Mutex::new(state),
        served: Condvar::new(),
        idle: AtomicBool::new(true),
        relay: Arc::new(WakerRelay(Mutex::new(Wakes::default()))),
        budget,
        spin,
    });
    let poller = Poller { line: Arc::clone(&line), body: PhantomData };
    (poller, PendingHost { make: ManuallyDrop::new(Some(make)), end: HostEnd(line) })
}

/// The side that polls. Dropping it drops the body, on the host's thread, and waits for that.
pub(crate) struct Poller<F, Fut, E> {
    line: Arc<Line<E>>,
    /// The future is made, used and dropped on the host's thread, so it does not matter whether it is `Send`.
    body: PhantomData<(F, fn() -> Fut)>,
}

/// The host is gone without having said how it ended.
#[derive(Debug)]
pub(crate) struct HostLost;

impl<F, Fut, E> Poller<F, Fut, E> {
    /// Has the body polled, and waits for that. Ready when the host has ended too. Not to be called on the host's thread.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<E, HostLost>> {
        self.line.relay.set(waker.clone());
        let mut state = self.line.state();
        if !state.over && !state.host_gone {
            state = self.line.order(state, Order::Poll);
        }
        match state.ended.take() {
            Some(end) => Poll::Ready(Ok(end)),
            None if state.host_gone => Poll::Ready(Err(HostLost)),
            None => Poll::Pending,
        }
    }

    /// Has the body dropped if there still is one, and waits for that. Nothing is to be polled afterwards.
    ///
    /// `on_host` says that this is the host's own thread. It cannot wait for itself, and need not: what runs there, other
    /// than the body in a poll of its poller, are tasks that the runtime owns, and these are `'static`. One of them having this poller,
    /// the body is `'static` too, and may be dropped later.
    pub(crate) fn leave(&mut self, on_host: bool) -> Detached<E> {
        let mut state = self.line.state();
        state.owner_gone = true;
        if !state.over && !state.host_gone {
            if on_host {
                state.order = Some(Order::Drop);
                let host = state.host.take();
                drop(state);
                if let Some(host) = host {
                    host.wake();
                }
                return Detached { ended: None, thrown: None };
            }
            state = self.line.order(state, Order::Drop);
        }
        Detached { ended: state.ended.take(), thrown: state.thrown.take() }
    }

    /// Drops the body here, of an pending host that was not accepted.
    pub(crate) fn reclaim(self, mut pending_host: PendingHost<E>) {
        assert!(Arc::ptr_eq(&self.line, &pending_host.end.0), "the two sides belong together");
        drop(pending_host.make.take());
    }

    /// Tells one pair from another.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.line).addr()
    }
}

impl<F, Fut, E> Drop for Poller<F, Fut, E> {
    fn drop(&mut self) {
        let over = {
            let state = self.line.state();
            state.over || state.owner_gone || state.host_gone
        };
        if !over {
            self.leave(false);
        }
        let returned = self.line.state().returned.take();
        // Somebody else's destructor: not under the lock.
        drop(returned);
    }
}

/// What a poller finds when it leaves.
pub(crate) struct Detached<E> {
    /// How the host ended, if it has.
    pub(crate) ended: Option<E>,
    /// What the body's destructor threw.
    pub(crate) thrown: Option<Box<dyn Any + Send>>,
}

/// The other side, on its way to the host's thread.
pub(crate) struct PendingHost<E> {
    make: ManuallyDrop<Option<Make<'static>>>,
    end: HostEnd<E>,
}

impl<E> PendingHost<E> {
    /// On the host's thread.
    pub(crate) fn accept(self) -> BodyHost<E> {
        let PendingHost { mut make, end } = self;
        let waker = Waker::from(Arc::clone(&end.0.relay));
        BodyHost { make: ManuallyDrop::new(make.take()), body: ManuallyDrop::new(None), waker, budget_left: None, end }
    }

    /// On what should have been the host's thread: gives the body back, which was not made, and tells how it ended.
    pub(crate) fn reject(self, end: E) {
        let PendingHost { mut make, end: HostEnd(ref line) } = self;
        let mut state = line.state();
        state.returned = make.take();
        state.ended = Some(end);
        state.over = true;
        line.serve(state);
        line.relay.wake_by_ref();
    }
}

/// The side that has the body.
pub(crate) struct BodyHost<E> {
    make: ManuallyDrop<Option<Make<'static>>>,
    body: ManuallyDrop<Option<Body<'static>>>,
    waker: Waker,
    /// The poller waits, though its order has been served once.
    budget_left: Option<BudgetLeft>,
    end: HostEnd<E>,
}

/// How the body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It finished. Its poller waits, until [`BodyHost::release`] or [`BodyHost::finish`].
    Finished,
    /// It was dropped, and its poller does not wait any more.
    Cancelled,
}

impl<E> BodyHost<E> {
    /// Serves orders until the body has ended.
    pub(crate) fn serve(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let BodyHost { make, body, waker, budget_left, end: HostEnd(line) } = self;
        loop {
            let mut state = line.state();
            let order = state.order;
            match order {
                None => {
                    if !state.host.as_ref().is_some_and(|host| host.will_wake(cx.waker())) {
                        state.host = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Some(Order::Poll) => {
                    drop(state);
                    let PollBudget { polls, turns, time } = line.budget;
                    let lasts = |left: BudgetLeft| left.polls > 0 && left.since.elapsed() < time;
                    let left = match *budget_left {
                        None => BudgetLeft { polls, turns, since: Instant::now() },
                        Some(left) if line.relay.is_woken() && lasts(left) => left,
                        Some(left) if left.turns > 0 && lasts(left) => {
                            *budget_left = Some(BudgetLeft { turns: left.turns - 1, ..left });
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        Some(_) => {
                            *budget_left = None;
                            line.relay.forward();
                            line.serve(line.state());
                            continue;
                        }
                    };
                    line.relay.hold();
                    let no_unwinding = AbortOnUnwind;
                    if let Some(make) = make.take() {
                        **body = Some(make());
                    }
                    let done = match body.as_mut() {
                        Some(body) => body.as_mut().poll(&mut Context::from_waker(waker)).is_ready(),
                        None => unreachable!("a body that is over is not polled"),
                    };
                    std::mem::forget(no_unwinding);
                    if done {
                        line.relay.wakes().held = false;
                        let thrown = end_of(|| drop(body.take()));
                        let mut state = line.state();
                        state.thrown = thrown;
                        state.over = true;
                        return Poll::Ready(Ended::Finished);
                    }
                    // The next round of this loop polls again, takes a turn, or has the poller go on.
                    *budget_left = Some(BudgetLeft { polls: left.polls - 1, turns, ..left });
                }
                Some(Order::Drop) => {
                    drop(state);
                    let thrown = end_of(|| drop((make.take(), body.take())));
                    let mut state = line.state();
                    state.thrown = thrown;
                    state.over = true;
                    line.serve(state);
                    return Poll::Ready(Ended::Cancelled);
                }
            }
        }
    }

    /// After [`Ended::Finished`]: lets the poller go on with other things, as the end will take its time.
    pub(crate) fn release(&self) {
        self.end.0.serve(self.end.0.state());
    }

    /// Tells the poller that everything has ended, or gives that back where the poller is gone.
    pub(crate) fn finish(self, end: E) -> Option<E> {
        let HostEnd(line) = &self.end;
        let mut state = line.state();
        if state.owner_gone {
            return Some(end);
        }
        state.ended = Some(end);
        line.serve(state);
        line.relay.wake_by_ref();
        None
    }
}

/// Runs somebody else's destructors, and gives what they threw.
fn end_of(drop: impl FnOnce()) -> Option<Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(drop)).err()
}

/// Dropped with the last of the host's side, so that no poller waits for nobody.
struct HostEnd<E>(Arc<Line<E>>);

impl<E> Drop for HostEnd<E> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.host_gone = true;
        drop(state);
        self.0.idle.store(true, Ordering::Release);
        self.0.served.notify_one();
        self.0.relay.wake_by_ref();
    }
}

/// Stands where unwinding would leave a dangling borrow behind. Its own `Drop` runs only then.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}
