//! The poll rendezvous: a borrowed future that stays on another thread and is used there only while its poller waits.
//!
//! **Promised:** the body (the closure, the future that it makes, and what they borrow) is polled only on the host's
//! thread, and only while the poller waits in [`Poller::poll`]. It is dropped when the poller is. So a body may borrow
//! what outlives the poller, and need not be `Send` once it is made.
//!
//! ```text
//! poller:  poll ─ order: POLL ─ wait ──────────── pending      drop ─ order: DROP ─ wait ──── gone
//! host:          (driving its runtime)  poll body ─ served              drop body ─ served
//! a waker: wake ─▶ relay ─▶ the poller's executor ─▶ poll
//! ```
//!
//! **Foreign code on the host's thread.** The host drives a runtime, which runs code that need not be `'static`: the
//! relay calls the waker of the poller's executor, and an executor may poll its task at once, on the thread that wakes
//! it, or drop it there. So the poller can be used on the host's own thread, where a wait for the host would never end:
//!
//! - *Dropped there.* An order borrows the poller while it is under way, so there is none: the host is further down on
//!   the same stack, in its runtime, and the body is in [`State`]. The poller takes it out and drops it, on the right
//!   thread.
//! - *Polled there.* The poll is pending, and the waker is called on another thread, which polls again. From then on
//!   every wake of this call is on another thread.
//!
//! **Nested calls.** A body awaits a call of its own, whose host is a third thread. There, wakes go through both
//! relays, and an executor may use the *outer* poller. Its host would use the inner poller, which would wait for the
//! third thread, which is in the waker. So a poll there is pending, as above. A thread that waits there for an order of
//! its own also serves those to the call of which it is itself the host: it drops that body, and postpones a poll.
//!
//! **A waker that blocks** on a call (`block_on`) polls it again in the same wake. From the second poll on, a poll
//! waits for the host. A call whose host is the calling thread, or which awaits such a call, cannot go on before the
//! waker returns: after some polls there is a panic. So it is where a task of a call awaits that call.
//!
//! **Close orders.** A host that sleeps in its runtime is woken by a system call, and takes some microseconds to wake.
//! So where orders have followed each other closely, and another thread woke the body, the host spins for the next one,
//! for as long as a poller spins for its answer. It does not spin where an event of its own runtime wakes the body.
//!
//! **Why not a channel:** it carries values that are `'static`. **Why not [`rendezvous`](crate::thread::rendezvous):**
//! its callee sleeps between two jobs. Here the host drives a runtime, whose timers and sockets the body waits for.
//!
//! **What breaks otherwise:** a body that its host polled at its own pace could use what its forgotten poller borrowed.
//! `mem::forget` of a [`Poller`] is harmless: no more orders come, so the body is never used again, and never dropped.
//! The model check is `tests/models/tests/models/poll_rendezvous_model.rs`, which compiles this file with loom's types
//! in place of `std`'s.

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
use crate::unwind::{AbortOnUnwind, Payload, catch, contain, discard, first};

/// A future that need not be `Send`: it is made, used and dropped on the host's thread.
pub(crate) type Body<'b> = Pin<Box<dyn Future<Output = ()> + 'b>>;
pub(crate) type Make<'b> = Box<dyn FnOnce() -> Body<'b> + Send + 'b>;

/// Calls a waker on a thread other than the host's. Returns the waker where there is no such thread.
pub(crate) type WakeElsewhere = fn(Waker) -> Result<(), Waker>;

thread_local! {
    /// The call that the calling thread is the host of.
    #[allow(clippy::missing_const_for_thread_local)] // loom's macro takes no constant.
    static HOSTED: RefCell<Option<Rc<dyn Hosted>>> = RefCell::new(None);
    /// How many wakers of pollers the calling thread is in.
    #[allow(clippy::missing_const_for_thread_local)]
    static WAKERS: Cell<u32> = Cell::new(0);
    /// How often the calling thread has entered a waker from outside of one: this numbers its current or last wake.
    #[allow(clippy::missing_const_for_thread_local)]
    static WAKE: Cell<u64> = Cell::new(0);
}

/// The host's part of a call, for the host's thread while it is in a waker.
trait Hosted {
    /// Serves an order, where there is one, before the waker returns: drops the body, or postpones a poll. Returns
    /// whether a poll was postponed.
    fn serve_in_waker(&self) -> bool;
}

/// The call that the calling thread is the host of, where it is in a waker.
fn hosted_by_waker() -> Option<Rc<dyn Hosted>> {
    if WAKERS.try_with(Cell::get).unwrap_or(0) == 0 {
        return None;
    }
    HOSTED.try_with(|hosted| hosted.borrow().clone()).ok().flatten()
}

/// Counts a poll in a waker. Returns how many there were in the same wake.
fn count_polls(counted: &mut Option<(CurrentWake, u32)>) -> u32 {
    let wake = current_wake();
    let polls = match *counted {
        Some((before, polls)) if before == wake => polls.saturating_add(1),
        _ => 1,
    };
    *counted = Some((wake, polls));
    polls
}

/// Identifies a wake of a poller: the thread that is in the waker, and the number of that wake on it.
type CurrentWake = (ThreadKey, u64);

/// The wake that the calling thread is in.
fn current_wake() -> CurrentWake {
    (current_thread_key(), WAKE.try_with(Cell::get).unwrap_or(0))
}

/// The state that the two sides share. `E` is what the host reports when everything has ended.
struct Shared<E> {
    state: Mutex<State<E>>,
    served: Condvar,
    /// No order is under way. A poller spins on this before it sleeps.
    is_idle: AtomicBool,
    relay: Arc<WakerRelay>,
    budget: PollBudget,
    spin: u32,
}

struct State<E> {
    order: Option<Order>,
    /// The body, except while an order is under way: then the host has it.
    body: Slot,
    /// The body is finished or dropped: no more orders come.
    is_over: bool,
    /// Wakes the host's runtime, while the host waits for an order.
    host: Option<Waker>,
    /// The host's thread, from the time that it can run foreign code until the host is gone.
    host_thread: Option<ThreadKey>,
    /// An order to poll was served without a poll, which the host has to make up for.
    is_postponed: bool,
    /// What the host reports at the very end.
    ended: Option<E>,
    stage: Stage,
    is_poller_gone: bool,
    /// The payload of the body's panic, in its last poll or when it was dropped.
    thrown: Option<Payload>,
}

/// The stage of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It serves orders, or has yet to begin.
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
    /// Drops the body, on the host's thread. Returns the payload of its destructor's panic.
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

    fn is_empty(&self) -> bool {
        matches!(*self.0, Held::Empty)
    }

    fn put(&mut self, body: Body<'static>) {
        *self.0 = Held::Made(ThreadBound::new(body));
    }

    /// Takes a body that was not made, which any thread may drop.
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

    /// The poller's side: gives an order, and waits until it is served or the host is gone. Also returns whether a
    /// poll of the call that the calling thread is the host of was postponed during the wait.
    fn order<'s>(
        &'s self,
        mut state: MutexGuard<'s, State<E>>,
        order: Order,
        wake: impl FnOnce(Waker),
    ) -> (MutexGuard<'s, State<E>>, bool) {
        // Unwinding from here would free what the host still uses.
        let no_unwinding = AbortOnUnwind;
        self.is_idle.store(false, Ordering::Relaxed);
        state.order = Some(order);
        let host = state.host.take();
        drop(state);
        if let Some(host) = host {
            // It is the waker of the call's own runtime, and no foreign code.
            wake(host);
        }
        for _ in 0..self.spin {
            if self.is_idle.load(Ordering::Acquire) {
                break;
            }
            spin_loop();
        }
        let hosted = hosted_by_waker();
        let mut has_postponed = false;
        let mut state = self.state();
        while state.order.is_some() && state.stage != Stage::Gone {
            // `park` would consume the token of the executor's thread.
            state = match &hosted {
                None => self.served.wait_timeout(state, END_INTERVAL).unwrap_or_else(PoisonError::into_inner).0,
                Some(hosted) => {
                    // No condition variable covers both orders, so the wait ends at intervals. This case is rare.
                    drop(self.served.wait_timeout(state, LOOK_INTERVAL));
                    has_postponed |= hosted.serve_in_waker();
                    self.state()
                }
            };
            if state.is_over && state.stage == Stage::Serving {
                // The end takes long, and the host did not foresee it: see `Host::release`.
                state.order = None;
            }
        }
        mem::forget(no_unwinding);
        (state, has_postponed)
    }

    /// The host's side: spins until there is an order, but no longer than a poller does.
    fn await_order(&self) {
        for _ in 0..self.spin {
            if !self.is_idle.load(Ordering::Relaxed) {
                break;
            }
            spin_loop();
        }
    }

    /// Serves an order to drop, on the host's thread, with the body that was taken from its slot.
    fn drop_body(&self, body: Held) {
        let thrown = body.drop_catching();
        let mut state = self.state();
        state.thrown = thrown;
        state.is_over = true;
        self.serve(state);
    }

    /// The host's side: marks the order as served.
    fn serve(&self, mut state: MutexGuard<'_, State<E>>) {
        state.order = None;
        drop(state);
        self.is_idle.store(true, Ordering::Release);
        self.served.notify_one();
    }
}

impl<E> Hosted for Arc<Shared<E>> {
    fn serve_in_waker(&self) -> bool {
        let mut state = self.state();
        match state.order {
            Some(Order::Drop) => {
                let body = state.body.take();
                drop(state);
                self.drop_body(body);
                false
            }
            // While the host has the body, it is in the middle of serving the order.
            Some(Order::Poll) if !state.body.is_empty() => {
                state.is_postponed = true;
                self.serve(state);
                true
            }
            Some(Order::Poll) | None => false,
        }
    }
}

/// The longest time that a poller waits without a look whether the body is over.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// The time between two checks for an order to the calling thread, while it waits for another one.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Forwards wakes from the body's wakers to the task that polls, whichever task that is by then.
struct WakerRelay {
    wakes: Mutex<Wakes>,
    elsewhere: WakeElsewhere,
}

#[derive(Default)]
struct Wakes {
    poller: Option<Waker>,
    /// The poller waits for the host, which sees a wake by `is_woken`.
    is_held: bool,
    is_woken: bool,
    /// The executor polls on the thread that wakes it, so it is woken on another thread.
    is_inline: bool,
    /// The thread of the last wake, until [`WakerRelay::take_woken_elsewhere`] takes it.
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

    /// Whether there was a wake since the last call of this, and the last wake came from another thread.
    fn take_woken_elsewhere(&self) -> bool {
        self.wakes().woken_by.take().is_some_and(|thread| thread != current_thread_key())
    }

    /// Forwards wakes to the poller again, also one that came meanwhile.
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
            // The access fails in a destructor of a thread-local, when the thread is no longer a host.
            let count = |change: fn(u32) -> u32| WAKERS.try_with(|wakers| wakers.set(change(wakers.get())));
            let is_counted = count(|wakers| wakers + 1).is_ok();
            if WAKERS.try_with(Cell::get).unwrap_or(0) == 1 {
                let _ = WAKE.try_with(|wake| wake.set(wake.get() + 1));
            }
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

    /// One wake for each poll is enough: the next poll sets the waker again.
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

/// The limits of one poll of the poller.
///
/// A pending body may be woken at once: it has only yielded, or it waits for something in the same runtime. Crossing to
/// the poller's executor and back costs some thirty turns of the host's runtime, so the host takes a few turns first.
/// The poller's executor waits meanwhile, so further polls are made only while the time is short.
#[derive(Clone, Copy)]
pub(crate) struct PollBudget {
    /// The most polls of the body, at least one.
    pub(crate) polls: u32,
    /// The most turns without a wake.
    pub(crate) turns: u32,
    /// After this time no further poll or turn is begun.
    pub(crate) time: Duration,
    /// After this many close orders in a row, the host spins for the next.
    pub(crate) close_orders: u32,
}

/// The most polls in one wake of a call that cannot go on before the waker returns. Each of them starts a thread.
const MAX_POLLS_IN_WAKER: u32 = 50;

/// An order is *close* if it comes within this time, after a wake from another thread.
const SOON: Duration = Duration::from_micros(20);

/// The rest of a [`PollBudget`].
#[derive(Clone, Copy)]
struct BudgetLeft {
    polls: u32,
    turns: u32,
    since: Instant,
}

/// Takes a body that the host is to poll, and returns the two sides.
///
/// `make` is called on the host's thread, within the first poll. The poller spins for `spin` turns before it sleeps.
pub(crate) fn pair<E>(
    spin: u32,
    budget: PollBudget,
    elsewhere: WakeElsewhere,
    make: Make<'_>,
) -> (Poller<'_, E>, PendingHost<E>) {
    // SAFETY: only the lifetime changes. The body is used in three places:
    // - in `Host::serve`, for an order, which is under way while the poller waits in `Shared::order`;
    // - in `Poller::leave`, on the host's thread, while the poller is being dropped;
    // - in `Poller::drop`, if it was not made.
    // In each of them the poller is alive. It names the lifetime and has a `Drop`, so what is borrowed outlives it.
    // Nothing else uses or drops the body, since `Slot` and `Host` hold it in `ManuallyDrop`: it leaks where the poller
    // was forgotten.
    let make = unsafe { mem::transmute::<Make<'_>, Make<'static>>(make) };
    let state = State {
        order: None,
        body: Slot(ManuallyDrop::new(Held::Make(make))),
        is_over: false,
        host: None,
        host_thread: None,
        is_postponed: false,
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
    let poller = Poller { shared: Arc::clone(&shared), polled_in_waker: None, body: PhantomData };
    (poller, PendingHost { end: HostEnd(shared) })
}

/// The side that polls. Dropping it drops the body, on the host's thread, and waits for that.
pub(crate) struct Poller<'b, E> {
    shared: Arc<Shared<E>>,
    /// The wake in which it was polled last without waiting, and how often.
    polled_in_waker: Option<(CurrentWake, u32)>,
    /// What the body borrows is used until the poller is dropped.
    body: PhantomData<fn() -> Make<'b>>,
}

/// The host is gone without having reported its end.
#[derive(Debug)]
pub(crate) struct HostLost;

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Finished<E> {
    /// What the host reported.
    pub(crate) end: E,
    /// The payload of the body's panic.
    pub(crate) thrown: Option<Payload>,
}

impl<E> Poller<'_, E> {
    /// Orders a poll of the body, and waits for it. It is ready when the host has ended too.
    ///
    /// On the host's own thread, and on that of another call which is in a waker, it does not wait at first: it is
    /// pending, and woken on another thread. If it is polled there again in the same wake, it waits.
    ///
    /// # Panics
    ///
    /// On the host's own thread, where no other thread can be started, and where the waker goes on to poll. The poller
    /// must then be dropped.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<Finished<E>, HostLost>> {
        self.shared.relay.set(waker.clone());
        let mut state = self.shared.state();
        let is_host_thread = state.is_host_thread();
        let mut polls = 0;
        // The thread of a nested call that wakes this one must not wait either.
        if is_host_thread || hosted_by_waker().is_some() {
            polls = count_polls(&mut self.polled_in_waker);
            let may_wait = polls > 1 && (!is_host_thread || state.stage == Stage::Concluded);
            if !may_wait {
                if self.poll_elsewhere(state, polls) {
                    return Poll::Pending;
                }
                state = self.shared.state();
            }
        }
        let mut has_postponed = false;
        if !state.is_over && state.stage != Stage::Gone {
            (state, has_postponed) = self.shared.order(state, Order::Poll, Waker::wake);
        }
        match state.ended.take() {
            Some(end) => Poll::Ready(Ok(Finished { end, thrown: state.thrown.take() })),
            None if state.stage == Stage::Gone => Poll::Ready(Err(HostLost)),
            None => {
                if has_postponed {
                    // The body awaits a call whose host is this thread, so it is polled on another thread.
                    self.poll_elsewhere(state, polls);
                }
                Poll::Pending
            }
        }
    }

    /// Has the waker called on another thread. `false`: no thread can be started, and the host has ended.
    fn poll_elsewhere(&self, state: MutexGuard<'_, State<E>>, polls: u32) -> bool {
        let relay = &self.shared.relay;
        let (is_over, is_concluded) = (state.is_over, state.stage == Stage::Concluded);
        drop(state);
        assert!(
            polls <= MAX_POLLS_IN_WAKER,
            "the future of an async call was awaited on the thread of that call, or of one that it awaits. It can go \
                 on only when that thread returns: a waker must not block, and a task of a call must not await that \
                 call"
        );
        relay.wakes().is_inline = true;
        // If the host is about to conclude, it wakes then.
        if is_over && !is_concluded || relay.take().map_or(Ok(()), relay.elsewhere).is_ok() {
            return true;
        }
        // No other thread can be started. That does not matter if there is nothing to wait for.
        assert!(
            is_concluded,
            "the future of an async call was polled on the call's own thread, and no thread could be started to \
                 poll it on"
        );
        false
    }

    /// Whether a poll here would not wait, because it is made by a waker on the thread of a call.
    pub(crate) fn is_inline(&self) -> bool {
        self.shared.state().is_host_thread() || hosted_by_waker().is_some()
    }

    /// Orders the drop of the body if there still is one, and waits for it. `wake` calls the waker of the host. The
    /// poller must not be polled afterwards.
    pub(crate) fn leave(&mut self, wake: impl FnOnce(Waker)) -> Detached<E> {
        let mut state = self.shared.state();
        state.is_poller_gone = true;
        // The panic of a body that has ended. Nothing awaits it.
        let unawaited = state.thrown.take();
        if !state.is_over && state.stage != Stage::Gone {
            if state.is_host_thread() {
                return self.drop_here(state);
            }
            (state, _) = self.shared.order(state, Order::Drop, wake);
        }
        let detached = Detached { ended: state.ended.take(), thrown: state.thrown.take() };
        drop(state);
        unawaited.into_iter().for_each(discard);
        self.drop_waker();
        detached
    }

    /// Drops the body on the host's thread, which is the calling one.
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

    /// Drops the poller's waker here. Otherwise the last of the body's wakers would drop it, on any thread.
    fn drop_waker(&self) {
        let waker = self.shared.relay.take();
        contain(|| drop(waker));
    }

    /// Drops the body on the calling thread. To be called if the host was not started.
    pub(crate) fn reclaim(self, pending_host: PendingHost<E>) {
        drop(pending_host);
        drop(self);
    }
}

impl<E> Drop for Poller<'_, E> {
    fn drop(&mut self) {
        let state = self.shared.state();
        let has_left = state.is_over || state.is_poller_gone || state.stage == Stage::Gone;
        drop(state);
        if !has_left {
            let Detached { ended, thrown } = self.leave(Waker::wake);
            drop(ended);
            thrown.into_iter().for_each(discard);
        }
        let unmade = self.shared.state().body.take_unmade();
        // Foreign code: it does not run under the lock.
        drop(unmade);
    }
}

/// The result of [`Poller::leave`].
pub(crate) struct Detached<E> {
    /// What the host reported, if it has ended.
    pub(crate) ended: Option<E>,
    /// The payload of a panic of the body's destructor.
    pub(crate) thrown: Option<Payload>,
}

/// The host's side, before it is on the host's thread.
pub(crate) struct PendingHost<E> {
    end: HostEnd<E>,
}

impl<E: 'static> PendingHost<E> {
    /// Makes the calling thread the host.
    pub(crate) fn accept(self) -> Host<E> {
        let PendingHost { end } = self;
        end.0.state().host_thread = Some(current_thread_key());
        HOSTED.with(|hosted| *hosted.borrow_mut() = Some(Rc::new(Arc::clone(&end.0))));
        let waker = Waker::from(Arc::clone(&end.0.relay));
        Host { turn: ManuallyDrop::new(None), waker, end, served: None, close_orders: 0, failed: None }
    }

    /// Ends the host without a poll, on the thread that would have been the host's: the poller keeps the body.
    /// Otherwise as [`Host::finish`].
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
    /// The runtime has failed with this: the body is polled no more, and dropped with the next order.
    failed: Option<Payload>,
}

/// An order to poll that is under way.
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
    /// It was dropped, and its poller no longer waits.
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
            if let Some(payload) = self.failed.take() {
                contain(|| drop(turn));
                return Poll::Ready(self.finished(Some(payload)));
            }
            let Host { turn: next, waker, end: HostEnd(shared), served, close_orders, failed: _ } = self;
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
                    // This precedes `serve`, after which the poller may be gone.
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
                // The next round of this loop polls again, takes a turn, or lets the poller go on.
                turn.left = Some(BudgetLeft { polls: left.polls - 1, turns, ..left });
                **next = Some(turn);
                continue;
            }
            // Wakes are held from here on: the end of the host wakes the poller.
            let dropped = catch(|| drop(turn));
            return Poll::Ready(self.finished(first(polled.err(), dropped.err())));
        }
    }

    fn finished(&self, thrown: Option<Payload>) -> Ended {
        let mut state = self.end.0.state();
        state.thrown = thrown;
        state.is_over = true;
        Ended::Finished
    }

    /// Makes the next order, or the one that is under way, end the call with this panic.
    pub(crate) fn fail(&mut self, payload: Payload) {
        self.failed = Some(payload);
        let HostEnd(shared) = &self.end;
        // The poller has to give an order.
        shared.relay.forward();
        shared.relay.wake_poller(false);
    }

    /// Takes an order to poll, or serves an order to drop. `None`: the body has been dropped.
    fn take_order(&mut self, cx: &mut Context<'_>) -> Option<Poll<Turn>> {
        let Host { end: HostEnd(shared), .. } = self;
        let mut state = shared.state();
        if mem::take(&mut state.is_postponed) {
            drop(state);
            // On this thread the executor might poll again in a waker.
            shared.relay.wake_poller(true);
            state = shared.state();
        }
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

    /// Lets the poller go on after [`Ended::Finished`], because the end may take long.
    pub(crate) fn release(&self) {
        let HostEnd(shared) = &self.end;
        shared.serve(shared.state());
    }

    /// Reports to the poller that everything has ended, or returns the report where the poller is gone.
    ///
    /// A poller that does not wait is woken. Its waker is foreign code on this thread, so the thread's `lease` is
    /// dropped afterwards. With `avoid_this_thread`, another thread calls the waker.
    pub(crate) fn finish<L>(self, end: E, lease: L, avoid_this_thread: bool) -> Option<E> {
        let state = self.end.0.state();
        self.end.conclude(state, end, lease, avoid_this_thread)
    }
}

/// Marks the host as gone when it is dropped, so that no poller waits for it.
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
