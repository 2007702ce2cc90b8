//! The poll rendezvous: a borrowed future that lives on another thread and is used there only while its poller waits.
//!
//! **Promised:** the body (the closure, the future that it makes, and what they borrow) is polled on the host's thread
//! alone, and only while the poller waits in [`Poller::poll`]. It is gone when the poller is. So a body may borrow
//! whatever outlives the poller, and need not be `Send` once it is made.
//!
//! ```text
//! poller:  poll ─ order: POLL ─ wait ──────────── pending      drop ─ order: DROP ─ wait ──── gone
//! host:          (driving its runtime)  poll body ─ served              drop body ─ served
//! a waker: wake ─▶ relay ─▶ the poller's executor ─▶ poll
//! ```
//!
//! **Foreign code on the host's thread.** The host drives a runtime, and that runs code which need not be `'static`:
//! the relay calls the waker of the poller's executor, and an executor may poll its task at once, on the thread that
//! wakes, or drop it there. So the poller can be used on the host's own thread, where waiting for the host would be
//! waiting for itself:
//!
//! - *Dropped there.* The poller is borrowed while an order is under way, so there is none: the host is further down on
//!   this very stack, in its runtime, and the body is in [`State`]. The poller takes it out and drops it, on the right
//!   thread.
//! - *Polled there.* The poll is pending, and the waker is called on another thread, which polls again. So are all
//!   later wakes of this call.
//!
//! **Nested calls.** A body awaits a call of its own, whose host is a third thread. There, wakes go through both
//! relays, and an executor may use the *outer* poller. Its host would use the inner poller, and that one wait for the
//! third thread, which is in the waker. So a poll there is pending, as above; and a thread that waits there for a body
//! to be dropped, drops the body that it is the host of itself, when it is ordered to.
//!
//! **Close orders.** A host that sleeps in its runtime is woken by a system call, and takes some microseconds to wake.
//! So where orders have followed each other closely, and what woke the body was another thread, the host spins for the
//! next one, for as long as a poller spins for its answer. What the body waits for in the host's own runtime does not
//! wait for that.
//!
//! **Why not a channel:** it carries values that are `'static`. **Why not [`rendezvous`](crate::thread::rendezvous):**
//! its callee sleeps between two jobs. Here it drives a runtime, whose timers and sockets the body waits for.
//!
//! **What breaks otherwise:** a body that its host polled at its own pace could use what its forgotten poller borrowed.
//! `mem::forget` of a [`Poller`] is harmless: no more orders come, so the body is never used again, and never dropped.
//! The model check is `tests/models/tests/models/poll_rendezvous_model.rs`: this very file, with loom's types in place
//! of `std`'s.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::pin::Pin;
use std::process;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::sync::{
    AtomicBool, Condvar, Instant, Mutex, MutexGuard, Ordering, ThreadKey, current_thread_key, spin_loop, thread_local,
};
use crate::unwind::{Payload, catch, contain, discard};

type Body<'b> = Pin<Box<dyn Future<Output = ()> + 'b>>;
type Make<'b> = Box<dyn FnOnce() -> Body<'b> + Send + 'b>;

/// Calls a waker on a thread other than the host's. Returns the waker where there is no such thread.
pub(crate) type WakeElsewhere = fn(Waker) -> Result<(), Waker>;

thread_local! {
    /// The call that the calling thread is the host of.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro takes no constant.
    static HOSTED: RefCell<Option<Rc<dyn Hosted>>> = RefCell::new(None);
    /// How many wakers of pollers the calling thread is in.
    #[allow(clippy::missing_const_for_thread_local)]
    static WAKERS: Cell<u32> = Cell::new(0);
}

/// The host's part of a call, for the host's thread while it is in a waker.
trait Hosted {
    /// Drops the body, if that is the order.
    fn drop_if_ordered(&self);
}

/// The call that the calling thread is the host of, where it is in a waker.
fn hosted_by_waker() -> Option<Rc<dyn Hosted>> {
    if WAKERS.try_with(Cell::get).unwrap_or(0) == 0 {
        return None;
    }
    HOSTED.try_with(|hosted| hosted.borrow().clone()).ok().flatten()
}

/// What the two sides share. `E` is what the host reports when everything has ended.
struct Shared<E> {
    state: Mutex<State<E>>,
    served: Condvar,
    /// No order is under way. A poller looks at this before it sleeps.
    is_idle: AtomicBool,
    relay: Arc<WakerRelay>,
    budget: PollBudget,
    spin: u32,
}

struct State<E> {
    order: Option<Order>,
    /// The body, except while an order is under way: then the host has it.
    body: Slot,
    /// The body is finished or dropped: there will be no more orders.
    is_over: bool,
    /// Wakes the host's runtime, while the host waits for an order.
    host: Option<Waker>,
    /// From the time that the host could run foreign code until it is gone.
    host_thread: Option<ThreadKey>,
    /// What the host reports at the very end.
    ended: Option<E>,
    stage: Stage,
    is_poller_gone: bool,
    /// What the body panicked with, in its last poll or when it was dropped.
    thrown: Option<Payload>,
}

/// Where the host is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It serves, or has yet to begin.
    Serving,
    /// It has reported its end.
    Concluded,
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Poll,
    Drop,
}

/// The place of the body. Never dropped with its content: that may borrow from what a forgotten poller no longer
/// protects.
struct Slot(ManuallyDrop<Held>);

enum Held {
    Empty,
    /// The body was not made. It may be dropped on any thread.
    Make(Make<'static>),
    /// The future. It stays on the thread that made it.
    Made(ThreadBound<Body<'static>>),
}

impl Held {
    /// Drops the body, on the host's thread. Returns what its destructor panicked with.
    fn drop_catching(self) -> Option<Payload> {
        match self {
            Held::Make(make) => catch(|| drop(make)).err(),
            Held::Made(body) => catch(|| drop(body.into_inner())).err(),
            Held::Empty => None,
        }
    }
}

impl Slot {
    fn take(&mut self) -> Held {
        mem::replace(&mut *self.0, Held::Empty)
    }

    fn put(&mut self, body: Body<'static>) {
        *self.0 = Held::Made(ThreadBound::new(body));
    }

    /// What any thread may drop: a body that was not made.
    fn take_unmade(&mut self) -> Option<Make<'static>> {
        match self.take() {
            Held::Make(make) => Some(make),
            Held::Empty => None,
            Held::Made(body) => {
                *self.0 = Held::Made(body);
                None
            }
        }
    }
}

/// A value that never leaves the thread that it was bound on. Elsewhere it can be neither used nor dropped, and leaks.
struct ThreadBound<T> {
    thread: ThreadKey,
    value: ManuallyDrop<T>,
}

// SAFETY: the value is used through `into_inner` alone, which refuses on every thread but the one that the value was
// bound on. Nothing else drops it, since it is in `ManuallyDrop`.
unsafe impl<T> Send for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    fn new(value: T) -> ThreadBound<T> {
        ThreadBound { thread: current_thread_key(), value: ManuallyDrop::new(value) }
    }

    fn into_inner(self) -> T {
        assert!(self.thread == current_thread_key(), "a body is used on its host's thread alone");
        ManuallyDrop::into_inner(self.value)
    }
}

impl<E> State<E> {
    fn is_host_thread(&self) -> bool {
        self.host_thread == Some(current_thread_key())
    }
}

impl<E> Shared<E> {
    fn state(&self) -> MutexGuard<'_, State<E>> {
        // Nothing unwinds while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order, and waits until it is served or the host is gone. The poller's side.
    fn order<'s>(&'s self, mut state: MutexGuard<'s, State<E>>, order: Order) -> MutexGuard<'s, State<E>> {
        // Unwinding from here would free what the host still uses.
        let no_unwinding = AbortOnUnwind;
        self.is_idle.store(false, Ordering::Relaxed);
        state.order = Some(order);
        let host = state.host.take();
        drop(state);
        if let Some(host) = host {
            // The waker of the call's own runtime, which is no foreign code.
            host.wake();
        }
        for _ in 0..self.spin {
            if self.is_idle.load(Ordering::Acquire) {
                break;
            }
            spin_loop();
        }
        let hosted = hosted_by_waker();
        let mut state = self.state();
        while state.order.is_some() && state.stage != Stage::Gone {
            // Not `park`: an executor may count on its thread's token.
            state = match &hosted {
                None => self.served.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(hosted) => {
                    // Nothing tells of both. This is rare.
                    drop(self.served.wait_timeout(state, LOOK_INTERVAL));
                    hosted.drop_if_ordered();
                    self.state()
                }
            };
        }
        mem::forget(no_unwinding);
        state
    }

    /// Spins until there is an order, or not for longer than a poller does. The host's side.
    fn await_order(&self) {
        for _ in 0..self.spin {
            if !self.is_idle.load(Ordering::Relaxed) {
                break;
            }
            spin_loop();
        }
    }

    /// On the host's thread: drops the body that was taken from its place, and is ordered to be dropped.
    fn drop_body(&self, body: Held) {
        let thrown = body.drop_catching();
        let mut state = self.state();
        state.thrown = thrown;
        state.is_over = true;
        self.serve(state);
    }

    /// Says that the order is served. The host's side.
    fn serve(&self, mut state: MutexGuard<'_, State<E>>) {
        state.order = None;
        drop(state);
        self.is_idle.store(true, Ordering::Release);
        self.served.notify_one();
    }
}

impl<E> Hosted for Arc<Shared<E>> {
    fn drop_if_ordered(&self) {
        let mut state = self.state();
        // The host has the body while it polls: then this is not its own turn, and there is nothing to take.
        if state.order == Some(Order::Drop) {
            let body = state.body.take();
            drop(state);
            self.drop_body(body);
        }
    }
}

/// The time between two looks at what is ordered of the calling thread, while it waits for another.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Passes wakes on, from the body's wakers to the task that polls, wherever that is by then.
struct WakerRelay {
    wakes: Mutex<Wakes>,
    elsewhere: WakeElsewhere,
}

#[derive(Default)]
struct Wakes {
    poller: Option<Waker>,
    /// The poller waits for the host: a wake is for the host to see.
    is_held: bool,
    is_woken: bool,
    /// The executor polls where it is woken, so it is woken on another thread.
    is_inline: bool,
    /// The thread that the last wake came from, until it is asked for.
    woken_by: Option<ThreadKey>,
}

impl WakerRelay {
    fn wakes(&self) -> MutexGuard<'_, Wakes> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, waker: Waker) {
        let before = self.wakes().poller.replace(waker);
        // The destructor of a waker is foreign code: it does not run under the lock.
        drop(before);
    }

    fn take(&self) -> Option<Waker> {
        self.wakes().poller.take()
    }

    /// Keeps wakes for the host, until [`WakerRelay::forward`].
    fn hold(&self) {
        let mut wakes = self.wakes();
        wakes.is_held = true;
        wakes.is_woken = false;
    }

    fn is_woken(&self) -> bool {
        self.wakes().is_woken
    }

    /// Whether there was a wake since this was asked, and the last came from another thread than the calling one.
    fn take_woken_elsewhere(&self) -> bool {
        self.wakes().woken_by.take().is_some_and(|thread| thread != current_thread_key())
    }

    /// Passes wakes on to the poller again, and the one that came meanwhile.
    fn forward(self: &Arc<Self>) {
        let mut wakes = self.wakes();
        wakes.is_held = false;
        let is_woken = mem::take(&mut wakes.is_woken);
        drop(wakes);
        if is_woken {
            self.wake_by_ref();
        }
    }

    /// Calls the poller's waker, which is foreign code.
    fn wake_poller(&self, avoid_this_thread: bool) {
        let mut wakes = self.wakes();
        let (poller, is_inline) = (wakes.poller.take(), wakes.is_inline);
        drop(wakes);
        let Some(poller) = poller else { return };
        let left = if is_inline || avoid_this_thread { (self.elsewhere)(poller).err() } else { Some(poller) };
        if let Some(poller) = left {
            // Not in a destructor of the thread's: then it is no host any more.
            let count = |change: fn(u32) -> u32| WAKERS.try_with(|wakers| wakers.set(change(wakers.get())));
            let is_counted = count(|wakers| wakers + 1).is_ok();
            contain(|| poller.wake());
            if is_counted {
                let _ = count(|wakers| wakers - 1);
            }
        }
    }
}

impl Wake for WakerRelay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// One wake for each poll is enough: the next poll sets the waker anew.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut wakes = self.wakes();
        wakes.is_woken = true;
        wakes.woken_by = Some(current_thread_key());
        let is_held = wakes.is_held;
        drop(wakes);
        if !is_held {
            self.wake_poller(false);
        }
    }
}

/// How far one poll of the poller goes.
///
/// A body that is pending may be woken the next moment: it has only yielded, or what it waits for is in the same
/// runtime. Crossing to the poller's executor and back costs some thirty turns of the host's runtime, so the host takes
/// a few turns first. The poller's executor waits meanwhile, so only polls that take no time are added up.
#[derive(Clone, Copy)]
pub(crate) struct PollBudget {
    /// Polls of the body, at most; at least one.
    pub(crate) polls: u32,
    /// Turns without a wake, at most.
    pub(crate) turns: u32,
    /// After this time nothing more is begun.
    pub(crate) time: Duration,
    /// After so many close orders in a row, the host waits awake for the next.
    pub(crate) close_orders: u32,
}

/// An order is close that comes within this time, after a wake from another thread.
const SOON: Duration = Duration::from_micros(20);

/// What is left of a [`PollBudget`].
#[derive(Clone, Copy)]
struct BudgetLeft {
    polls: u32,
    turns: u32,
    since: Instant,
}

/// Takes a body that the host is to poll, and returns the two sides.
///
/// `make` is called on the host's thread, within the first poll. The poller spins for `spin` turns before it sleeps.
pub(crate) fn pair<F, Fut, E>(
    spin: u32,
    budget: PollBudget,
    elsewhere: WakeElsewhere,
    make: F,
) -> (Poller<F, Fut, E>, PendingHost<E>)
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = ()>,
{
    let make: Make<'_> = Box::new(move || Box::pin(make()));
    // SAFETY: only the lifetime changes. The body is used in three places:
    // - in `Host::serve`, for an order, which is under way while the poller waits in `Shared::order`;
    // - in `Poller::leave`, on the host's thread, while the poller is being dropped;
    // - in `Poller::drop`, if it was not made.
    // In each of them the poller is alive. It names `F` and `Fut` and has a `Drop`, so what they borrow outlives it.
    // Nothing else uses or drops the body, since `Slot` and `Host` hold it in `ManuallyDrop`: it leaks where the poller
    // was forgotten.
    let make = unsafe { mem::transmute::<Make<'_>, Make<'static>>(make) };
    let state = State {
        order: None,
        body: Slot(ManuallyDrop::new(Held::Make(make))),
        is_over: false,
        host: None,
        host_thread: None,
        ended: None,
        stage: Stage::Serving,
        is_poller_gone: false,
        thrown: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        served: Condvar::new(),
        is_idle: AtomicBool::new(true),
        relay: Arc::new(WakerRelay { wakes: Mutex::new(Wakes::default()), elsewhere }),
        budget,
        spin,
    });
    let poller = Poller { shared: Arc::clone(&shared), body: PhantomData };
    (poller, PendingHost { end: HostEnd(shared) })
}

/// The side that polls. Dropping it drops the body, on the host's thread, and waits for that.
pub(crate) struct Poller<F, Fut, E> {
    shared: Arc<Shared<E>>,
    /// The future is made, used and dropped on the host's thread, so it does not matter whether it is `Send`.
    body: PhantomData<(F, fn() -> Fut)>,
}

/// The host is gone, and has not reported its end.
#[derive(Debug)]
pub(crate) struct HostLost;

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Finished<E> {
    /// What the host reported.
    pub(crate) end: E,
    /// What the body panicked with.
    pub(crate) thrown: Option<Payload>,
}

impl<F, Fut, E> Poller<F, Fut, E> {
    /// Has the body polled, and waits for that. Ready when the host has ended too.
    ///
    /// On the host's own thread, and on that of another call which has it woken, it does not wait: it is pending, and
    /// woken on another thread.
    ///
    /// # Panics
    ///
    /// On the host's own thread, where no other thread can be started. The poller must then be dropped.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<Finished<E>, HostLost>> {
        let Shared { relay, .. } = &*self.shared;
        relay.set(waker.clone());
        let mut state = self.shared.state();
        // Where a nested call has this one woken, its thread must not wait either.
        if state.is_host_thread() || hosted_by_waker().is_some() {
            let (is_over, is_concluded) = (state.is_over, state.stage == Stage::Concluded);
            drop(state);
            relay.wakes().is_inline = true;
            if is_over && !is_concluded {
                // The host is about to conclude, and wakes then.
                return Poll::Pending;
            }
            if relay.take().map_or(Ok(()), relay.elsewhere).is_ok() {
                return Poll::Pending;
            }
            // There is no other thread. That does not matter where there is nothing to wait for.
            assert!(
                is_concluded,
                "the future of an async call was polled on the call's own thread, and no thread could be started to \
                     poll it on"
            );
            state = self.shared.state();
        }
        if !state.is_over && state.stage != Stage::Gone {
            state = self.shared.order(state, Order::Poll);
        }
        match state.ended.take() {
            Some(end) => Poll::Ready(Ok(Finished { end, thrown: state.thrown.take() })),
            None if state.stage == Stage::Gone => Poll::Ready(Err(HostLost)),
            None => Poll::Pending,
        }
    }

    /// Has the body dropped if there still is one, and waits for that. Nothing is to be polled afterwards.
    pub(crate) fn leave(&mut self) -> Detached<E> {
        let mut state = self.shared.state();
        state.is_poller_gone = true;
        if !state.is_over && state.stage != Stage::Gone {
            if state.is_host_thread() {
                return self.drop_here(state);
            }
            state = self.shared.order(state, Order::Drop);
        }
        let detached = Detached { ended: state.ended.take(), thrown: state.thrown.take() };
        drop(state);
        self.drop_waker();
        detached
    }

    /// On the host's thread: drops the body where it is.
    fn drop_here(&self, mut state: MutexGuard<'_, State<E>>) -> Detached<E> {
        let body = state.body.take();
        state.is_over = true;
        let host = state.host.take();
        drop(state);
        if matches!(body, Held::Empty) {
            // The host has the body while an order is under way. The poller is borrowed then, so this cannot be its
            // drop; and going on would leave the host with a dangling borrow.
            process::abort();
        }
        let thrown = body.drop_catching();
        if let Some(host) = host {
            host.wake();
        }
        self.drop_waker();
        Detached { ended: None, thrown }
    }

    /// Not left to the last of the body's wakers, which may be anywhere.
    fn drop_waker(&self) {
        let waker = self.shared.relay.take();
        contain(|| drop(waker));
    }

    /// Drops the body here, of a host that was not started.
    pub(crate) fn reclaim(self, pending_host: PendingHost<E>) {
        drop(pending_host);
        drop(self);
    }
}

impl<F, Fut, E> Drop for Poller<F, Fut, E> {
    fn drop(&mut self) {
        let state = self.shared.state();
        let has_left = state.is_over || state.is_poller_gone || state.stage == Stage::Gone;
        drop(state);
        if !has_left {
            let Detached { ended, thrown } = self.leave();
            drop(ended);
            thrown.into_iter().for_each(discard);
        }
        let unmade = self.shared.state().body.take_unmade();
        // Foreign code: it does not run under the lock.
        drop(unmade);
    }
}

/// What a poller finds when it leaves.
pub(crate) struct Detached<E> {
    /// How the host ended, if it has.
    pub(crate) ended: Option<E>,
    /// What the body's destructor panicked with.
    pub(crate) thrown: Option<Payload>,
}

/// The other side, on its way to the host's thread.
pub(crate) struct PendingHost<E> {
    end: HostEnd<E>,
}

impl<E: 'static> PendingHost<E> {
    /// On the host's thread.
    pub(crate) fn accept(self) -> Host<E> {
        let PendingHost { end } = self;
        end.0.state().host_thread = Some(current_thread_key());
        HOSTED.with(|hosted| *hosted.borrow_mut() = Some(Rc::new(Arc::clone(&end.0))));
        let waker = Waker::from(Arc::clone(&end.0.relay));
        Host { turn: ManuallyDrop::new(None), waker, end, served: None, close_orders: 0 }
    }

    /// On what should have been the host's thread: leaves the body to its poller. As [`Host::finish`] besides.
    pub(crate) fn reject<L>(self, end: E, lease: L, avoid_this_thread: bool) -> Option<E> {
        let PendingHost { end: HostEnd(shared) } = &self;
        let mut state = shared.state();
        state.host_thread = Some(current_thread_key());
        state.is_over = true;
        self.end.conclude(state, end, lease, avoid_this_thread)
    }
}

/// The side that has the body while an order is under way.
pub(crate) struct Host<E> {
    turn: ManuallyDrop<Option<Turn>>,
    waker: Waker,
    end: HostEnd<E>,
    /// When the last order was served.
    served: Option<Instant>,
    /// How many orders in a row were close.
    close_orders: u32,
}

/// An order to poll, under way.
struct Turn {
    body: Body<'static>,
    /// `None` before the first poll.
    left: Option<BudgetLeft>,
}

/// How the body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It finished. Its poller waits, until [`Host::release`] or [`Host::finish`].
    Finished,
    /// It was dropped, and its poller does not wait any more.
    Cancelled,
}

impl<E> Host<E> {
    /// Serves orders until the body has ended.
    pub(crate) fn serve(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let Some(mut turn) = self.turn.take() else {
                match self.take_order(cx) {
                    Some(Poll::Ready(turn)) => *self.turn = Some(turn),
                    Some(Poll::Pending) => return Poll::Pending,
                    None => return Poll::Ready(Ended::Cancelled),
                }
                continue;
            };
            let Host { turn: next, waker, end: HostEnd(shared), served, close_orders } = self;
            let PollBudget { polls, turns, time, close_orders: enough } = shared.budget;
            let lasts = |left: BudgetLeft| left.polls > 0 && left.since.elapsed() < time;
            let left = match turn.left {
                None => {
                    let now = Instant::now();
                    let came_soon = served.is_some_and(|served| now.saturating_duration_since(served) < SOON);
                    let is_close = came_soon && shared.relay.take_woken_elsewhere();
                    *close_orders = if is_close { close_orders.saturating_add(1) } else { 0 };
                    BudgetLeft { polls, turns, since: now }
                }
                Some(left) if shared.relay.is_woken() && lasts(left) => left,
                Some(left) if left.turns > 0 && lasts(left) => {
                    turn.left = Some(BudgetLeft { turns: left.turns - 1, ..left });
                    **next = Some(turn);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(_) => {
                    shared.relay.forward();
                    // Before it is served: the poller may be gone a moment later.
                    *served = Some(Instant::now());
                    let waits_awake = *close_orders >= enough && shared.spin > 0;
                    let host = (!waits_awake).then(|| cx.waker().clone());
                    let mut state = shared.state();
                    state.body.put(turn.body);
                    let before = mem::replace(&mut state.host, host);
                    shared.serve(state);
                    drop(before);
                    if !waits_awake {
                        return Poll::Pending;
                    }
                    // The poller has no waker of the host, and needs none if its next order comes meanwhile.
                    shared.await_order();
                    continue;
                }
            };
            shared.relay.hold();
            let polled = catch(|| turn.body.as_mut().poll(&mut Context::from_waker(waker)));
            if let Ok(Poll::Pending) = polled {
                // The next round of this loop polls again, takes a turn, or has the poller go on.
                turn.left = Some(BudgetLeft { polls: left.polls - 1, turns, ..left });
                **next = Some(turn);
                continue;
            }
            // Wakes are held from here on: what is left to tell the poller, the end does.
            let dropped = catch(|| drop(turn));
            let thrown = match (polled.err(), dropped.err()) {
                (Some(first), second) => {
                    second.into_iter().for_each(discard);
                    Some(first)
                }
                (None, second) => second,
            };
            let mut state = shared.state();
            state.thrown = thrown;
            state.is_over = true;
            return Poll::Ready(Ended::Finished);
        }
    }

    /// Takes an order to poll; or serves an order to drop, after which there is nothing more to do.
    fn take_order(&mut self, cx: &mut Context<'_>) -> Option<Poll<Turn>> {
        let Host { end: HostEnd(shared), .. } = self;
        let mut state = shared.state();
        if state.order.is_none()
            && !state.is_over
            && !state.host.as_ref().is_some_and(|host| host.will_wake(cx.waker()))
        {
            drop(state);
            let host = cx.waker().clone();
            state = shared.state();
            let before = state.host.replace(host);
            drop(state);
            drop(before);
            // An order that came before found no waker, or the last one.
            state = shared.state();
        }
        match state.order {
            // The poller dropped the body, on this thread.
            None if state.is_over => None,
            None => Some(Poll::Pending),
            Some(Order::Poll) => {
                let body = state.body.take();
                drop(state);
                let body = match body {
                    Held::Make(make) => make(),
                    Held::Made(body) => body.into_inner(),
                    Held::Empty => unreachable!("a body that is over is not polled"),
                };
                Some(Poll::Ready(Turn { body, left: None }))
            }
            Some(Order::Drop) => {
                let body = state.body.take();
                drop(state);
                shared.drop_body(body);
                None
            }
        }
    }

    /// After [`Ended::Finished`]: lets the poller go on with other things, as the end will take its time.
    pub(crate) fn release(&self) {
        let HostEnd(shared) = &self.end;
        shared.serve(shared.state());
    }

    /// Reports to the poller that everything has ended, or returns the report where the poller is gone.
    ///
    /// A poller that does not wait is woken. That is foreign code on this thread, so the thread's `lease` is dropped
    /// afterwards; and it is left to another thread where `avoid_this_thread` asks for that.
    pub(crate) fn finish<L>(self, end: E, lease: L, avoid_this_thread: bool) -> Option<E> {
        let state = self.end.0.state();
        self.end.conclude(state, end, lease, avoid_this_thread)
    }
}

/// Dropped with the last of the host's side, so that no poller waits in vain.
struct HostEnd<E>(Arc<Shared<E>>);

impl<E> HostEnd<E> {
    fn conclude<L>(&self, mut state: MutexGuard<'_, State<E>>, end: E, lease: L, avoid_this_thread: bool) -> Option<E> {
        let HostEnd(shared) = self;
        state.stage = Stage::Concluded;
        if state.order.is_some() {
            // The poller waits, and takes it.
            state.ended = Some(end);
            drop(state);
            drop(lease);
            shared.serve(shared.state());
            return None;
        }
        if state.is_poller_gone {
            return Some(end);
        }
        state.ended = Some(end);
        drop(state);
        shared.relay.wake_poller(avoid_this_thread);
        drop(lease);
        None
    }
}

impl<E> Drop for HostEnd<E> {
    fn drop(&mut self) {
        let HostEnd(shared) = self;
        let mut state = shared.state();
        let is_lost = mem::replace(&mut state.stage, Stage::Gone) == Stage::Serving;
        let on_host = mem::take(&mut state.host_thread) == Some(current_thread_key());
        drop(state);
        if on_host {
            drop(HOSTED.try_with(|hosted| hosted.borrow_mut().take()));
        }
        if is_lost {
            shared.is_idle.store(true, Ordering::Release);
            shared.served.notify_one();
            shared.relay.wake_poller(false);
        }
    }
}

/// Aborts if a panic would unwind past a live borrow. Its own `Drop` runs only then.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        process::abort();
    }
}
