//! The rendezvous: a borrowed closure runs on another thread while its owner waits, or an owned one and its owner does
//! not wait.
//!
//! **Promised:** [`Caller::run`] returns only when the other thread has run the job or rejected it, and no longer uses
//! it. So a job may borrow from its owner's stack, as with scoped threads. No allocation, and no syscall but to wake a
//! thread that sleeps. A callee that ends rejects what it has not taken, and what is posted later: no caller waits for
//! a thread that is gone. [`Caller::submit`] moves its own side into the job, so that nothing else can be posted before
//! the job was taken.
//!
//! **Why our own:** the alternatives either start a thread for each call (`std::thread::scope`) or ask for `'static`
//! closures (channels). The protocol is two words, each written by one side and waited for by the other:
//!
//! ```text
//! order:   NONE ─(callee sleeps)→ PARKED     NONE | PARKED ─(caller)→ POSTED | CLOSED     POSTED ─(callee)→ NONE
//!          any ─(callee ends)→ GONE          GONE ─(caller)→ POSTED ─(the same caller)→ GONE
//! answer:  PENDING ─(caller sleeps)→ PARKED  PENDING | PARKED ─(callee)→ ANSWERED         ANSWERED ─(caller)→ PENDING
//! offer:   NONE ─(callee)→ a thread id ─(caller)→ CLAIMED       any ─(callee, before its answer)→ NONE
//! ```
//!
//! A caller that spins while there is an offer has time for work of its own beside the rest of the job: it claims the
//! offer, and the callee then relies on that work being done before the caller returns.
//!
//! The cell `request` belongs to the callee from `POSTED` until it has taken the request, and to the caller otherwise.
//! There is one [`Caller`] and one [`Callee`] to a mailbox, and each method takes `&mut self`, so that each side is one
//! thread at a time.
//!
//! **Why futexes and not `std::thread::park`:** the caller's thread belongs to the user, whose executor may rely on its
//! park token. `park` would consume the token.
//!
//! **What breaks otherwise:** a caller that returned early would leave the other thread with a dangling borrow. The
//! model check (`tests/tests/rendezvous_model.rs`, this very file with loom's types in place of `std`'s) explores every
//! interleaving of jobs, sleeps, rejections and ends.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::sync::{Arc, AtomicU32, Futex, Ordering, UnsafeCell, spin_loop};

/// What the callee runs, with the `A` that it keeps. It does not unwind.
type Job<'j, A> = dyn FnMut(&mut A, &AssistPoint<'_>) + Send + 'j;

/// What a callee is given for good. Without an `A` it is rejected.
type OwnedJob<A> = Box<dyn FnOnce(Option<&mut A>) + Send>;

/// Of `order` and `offer`.
const NONE: u32 = 0;

const POSTED: u32 = 1;
const CLOSED: u32 = 2;
const GONE: u32 = 4;

const PENDING: u32 = 0;
const ANSWERED: u32 = 1;

/// Of `order` and `answer`.
const PARKED: u32 = 3;

/// No thread has this id.
const CLAIMED: u32 = u32::MAX;

struct Mailbox<A> {
    request: CachePadded<RequestSlot<A>>,
    response: CachePadded<ResponseSlot>,
}

/// What goes to the callee.
struct RequestSlot<A> {
    order: Futex,
    request: UnsafeCell<Option<Request<A>>>,
}

enum Request<A> {
    /// Its owner waits for the answer.
    Borrowed(NonNull<Job<'static, A>>),
    /// There is no answer.
    Owned(OwnedJob<A>),
}

/// What comes back to the caller.
struct ResponseSlot {
    answer: Futex,
    offer: AtomicU32,
}

/// On cache lines of its own: each side spins on one word while the other is written. (Two lines, which some processors
/// fetch together.)
#[repr(align(128))]
struct CachePadded<T>(T);

// SAFETY: the cell is used by one side at a time, as the module's documentation says, with an acquire of the word that
// the other side released. What passes through it is `Send`: jobs by their types. The `A` never passes.
unsafe impl<A> Send for Mailbox<A> {}
// SAFETY: as above.
unsafe impl<A> Sync for Mailbox<A> {}

impl<A> Mailbox<A> {
    /// The caller's side: the callee is to take `request`.
    fn post(&self, request: Request<A>) {
        let RequestSlot { order, request: cell } = &self.request.0;
        // SAFETY: nothing is posted, so the cell is the caller's.
        cell.with_mut(|cell| unsafe { *cell = Some(request) });
        match order.swap(POSTED, Ordering::AcqRel) {
            PARKED => order.wake(),
            GONE => {
                order.store(GONE, Ordering::Relaxed);
                self.reject();
            }
            _ => {}
        }
    }

    /// For the callee, from `POSTED`; for the caller, when the callee is gone.
    fn take(&self) -> Option<Request<A>> {
        // SAFETY: from `POSTED` on the cell is the callee's; where that is gone, the caller's.
        self.request.0.request.with_mut(|cell| unsafe { (*cell).take() })
    }

    /// As [`Mailbox::take`]: the request is not run.
    fn reject(&self) {
        match self.take() {
            Some(Request::Borrowed(_)) => self.response.0.complete(),
            Some(Request::Owned(job)) => job(None),
            None => {}
        }
    }
}

/// Makes a mailbox, and returns its two sides.
pub(crate) fn mailbox<A>(spin: SpinLimit) -> (Caller<A>, Callee<A>) {
    let shared = Arc::new(Mailbox {
        request: CachePadded(RequestSlot { order: Futex::new(NONE), request: UnsafeCell::new(None) }),
        response: CachePadded(ResponseSlot { answer: Futex::new(PENDING), offer: AtomicU32::new(NONE) }),
    });
    let callee = Callee { shared: Arc::clone(&shared), spin: Spin::new(spin) };
    (Caller { shared, spin: Spin::new(spin) }, callee)
}

/// The side that hands over. Dropping it tells the callee that nothing more will come.
pub(crate) struct Caller<A> {
    shared: Arc<Mailbox<A>>,
    spin: Spin,
}

/// The callee did not run this job, and never will.
pub(crate) struct Rejected<F>(pub(crate) F);

impl<A> Caller<A> {
    /// Has the callee run `job`, and waits until it has. A panic of the job is resumed here.
    ///
    /// `assist` is called at most once, while the job is past its [`AssistPoint`], with the thread id that the job
    /// offered. It need not be called at all.
    pub(crate) fn run<F, R>(&mut self, job: F, assist: impl FnOnce(u32)) -> Result<R, Rejected<F>>
    where
        F: FnOnce(&mut A, &AssistPoint<'_>) -> R + Send,
        R: Send,
    {
        let mut job = Some(job);
        let mut result = None;
        self.run_borrowed(
            &mut |argument: &mut A, assist_point: &AssistPoint<'_>| {
                let job = job.take();
                result = job.map(|job| panic::catch_unwind(AssertUnwindSafe(|| job(argument, assist_point))));
            },
            assist,
        );
        match (result, job) {
            (Some(Ok(value)), _) => Ok(value),
            (Some(Err(payload)), _) => panic::resume_unwind(payload),
            (None, Some(job)) => Err(Rejected(job)),
            (None, None) => unreachable!("a job that was taken has a result"),
        }
    }

    fn run_borrowed(&mut self, job: &mut Job<'_, A>, assist: impl FnOnce(u32)) {
        // Unwinding out of here would free what the callee still uses.
        let no_unwinding = AbortOnUnwind;
        let job = NonNull::from(job);
        // SAFETY: the cast forgets the borrow's lifetime and changes nothing else. The callee uses the job only until
        // it answers, and this function does not return before that.
        let job = unsafe { std::mem::transmute::<NonNull<Job<'_, A>>, NonNull<Job<'static, A>>>(job) };
        self.shared.response.0.answer.store(PENDING, Ordering::Relaxed);
        self.shared.post(Request::Borrowed(job));
        self.await_answer(assist);
        std::mem::forget(no_unwinding);
    }

    fn await_answer(&mut self, assist: impl FnOnce(u32)) {
        let ResponseSlot { answer, offer } = &self.shared.response.0;
        let mut assist = Some(assist);
        let is_answered = || {
            let offered = offer.load(Ordering::Relaxed);
            if offered != NONE && assist.is_some() {
                // Fails where the callee has answered just now.
                if offer.compare_exchange(offered, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    if let Some(assist) = assist.take() {
                        assist(offered);
                    }
                }
            }
            answer.load(Ordering::Acquire) == ANSWERED
        };
        if self.spin.spin_until(is_answered) {
            return;
        }
        if answer.compare_exchange(PENDING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while answer.load(Ordering::Acquire) == PARKED {
                answer.wait(PARKED, None);
            }
        }
    }

    /// Has the callee run a job, and does not wait. The job gets this side back; and no `A` where it is rejected.
    #[allow(dead_code)] // Of use with feature `tokio` alone: a synchronous caller has nothing else to do.
    pub(crate) fn submit(self, job: impl FnOnce(Option<&mut A>, Caller<A>) + Send + 'static)
    where
        A: 'static,
    {
        let shared = Arc::clone(&self.shared);
        // From here on there is no caller's side but in the job.
        shared.post(Request::Owned(Box::new(move |argument| job(argument, self))));
    }
}

impl<A> Drop for Caller<A> {
    fn drop(&mut self) {
        let order = &self.shared.request.0.order;
        if order.swap(CLOSED, Ordering::AcqRel) == PARKED {
            order.wake();
        }
    }
}

/// The side that runs jobs. Dropping it rejects what comes later.
pub(crate) struct Callee<A> {
    shared: Arc<Mailbox<A>>,
    spin: Spin,
}

/// What there is to do.
pub(crate) enum Order<'c, A> {
    /// A job, to be run or rejected.
    Job(BorrowedJob<'c, A>),
    /// A submitted job, to be run or rejected.
    #[allow(dead_code)] // As `Caller::submit`.
    Submitted(SubmittedJob<A>),
    /// The caller is gone: nothing more will come.
    Disconnected,
    /// Nothing came in time.
    Timeout,
}

impl<A> Callee<A> {
    /// Waits for the next order, for `timeout` or without end.
    pub(crate) fn next(&mut self, timeout: Option<Duration>) -> Order<'_, A> {
        match self.await_order(timeout) {
            POSTED => {
                // The order is taken. The caller writes the word again only after the answer, or when the job has its
                // side.
                self.shared.request.0.order.store(NONE, Ordering::Relaxed);
                match self.shared.take() {
                    Some(Request::Borrowed(job)) => Order::Job(BorrowedJob { response: &self.shared.response.0, job }),
                    Some(Request::Owned(job)) => Order::Submitted(SubmittedJob(Some(job))),
                    None => unreachable!("an order is posted with its request"),
                }
            }
            CLOSED => Order::Disconnected,
            _ => Order::Timeout,
        }
    }

    fn await_order(&mut self, timeout: Option<Duration>) -> u32 {
        let order = &self.shared.request.0.order;
        if self.spin.spin_until(|| order.load(Ordering::Relaxed) != NONE) {
            return order.load(Ordering::Acquire);
        }
        if let Err(given) = order.compare_exchange(NONE, PARKED, Ordering::AcqRel, Ordering::Acquire) {
            return given;
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                // No longer to be found parked; but the order may have come this instant.
                return match order.compare_exchange(PARKED, NONE, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => NONE,
                    Err(given) => given,
                };
            }
            order.wait(PARKED, remaining);
            let now = order.load(Ordering::Acquire);
            if now != PARKED {
                return now;
            }
        }
    }
}

impl<A> Drop for Callee<A> {
    fn drop(&mut self) {
        if self.shared.request.0.order.swap(GONE, Ordering::AcqRel) == POSTED {
            self.shared.reject();
        }
    }
}

/// A job whose caller waits until it is run or rejected; dropping it rejects.
pub(crate) struct BorrowedJob<'c, A> {
    response: &'c ResponseSlot,
    job: NonNull<Job<'static, A>>,
}

impl<A> BorrowedJob<'_, A> {
    /// Runs the job, then answers the caller. Returns whether the caller assisted..
    pub(crate) fn run(mut self, argument: &mut A) -> bool {
        // SAFETY: the job's owner waits for the answer, so the job is alive; and only this thread uses it.
        let job = unsafe { self.job.as_mut() };
        let assist_point = AssistPoint { offer: &self.response.offer, reached: Cell::new(false) };
        job(argument, &assist_point);
        // Before the answer: after it the caller cannot claim any more, and may post again.
        let assisted = assist_point.reached.get() && self.response.offer.swap(NONE, Ordering::AcqRel) == CLAIMED;
        // Dropping it answers.
        drop(self);
        assisted
    }
}

impl<A> Drop for BorrowedJob<'_, A> {
    fn drop(&mut self) {
        self.response.complete();
    }
}

/// A job that was submitted. Dropping it rejects it.
pub(crate) struct SubmittedJob<A>(Option<OwnedJob<A>>);

impl<A> SubmittedJob<A> {
    /// Runs the job. It does not unwind: it catches panics of user code.
    pub(crate) fn run(mut self, argument: &mut A) {
        if let Some(job) = self.0.take() {
            job(Some(argument));
        }
    }
}

impl<A> Drop for SubmittedJob<A> {
    fn drop(&mut self) {
        if let Some(job) = self.0.take() {
            job(None);
        }
    }
}

/// Lets a job say that the caller can assist with the rest of it.
pub(crate) struct AssistPoint<'c> {
    offer: &'c AtomicU32,
    reached: Cell<bool>,
}

impl AssistPoint<'_> {
    /// Lets the caller assist, if it spins. A caller that sleeps is woken by the answer alone.
    pub(crate) fn reached(&self, thread: u32) {
        self.reached.set(true);
        self.offer.store(thread, Ordering::Release);
    }
}

impl ResponseSlot {
    /// Answers the caller, which may be gone the moment that the word is written: nothing of the job is touched after.
    fn complete(&self) {
        if self.answer.swap(ANSWERED, Ordering::AcqRel) == PARKED {
            self.answer.wake();
        }
    }
}

/// Aborts if a panic would unwind past a live borrow, and is forgotten otherwise. (That the thread is unwinding from
/// elsewhere is no reason: a destructor may make a call.) No user code runs below it.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// How long to spin on a word before sleeping, at most: in turns of a `spin_loop` hint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpinLimit(pub(crate) u32);

/// Spinning before sleeping, for as long as that has lately been worth it.
struct Spin {
    limit: u32,
    /// How many times in a row spinning has ended without a result.
    misses: u32,
}

impl Spin {
    /// Misses before spinning is throttled.
    const MAX_MISSES: u32 = 4;
    /// While it is throttled, one spin of this number has the full length, so that a change is noticed.
    const RETRY_INTERVAL: u32 = 32;
    /// The length of the others.
    const MIN_SPINS: u32 = 4;

    fn new(SpinLimit(limit): SpinLimit) -> Spin {
        Spin { limit, misses: 0 }
    }

    /// Asks until the answer is yes, or for as long as it pays.
    fn spin_until(&mut self, mut condition: impl FnMut() -> bool) -> bool {
        let full = self.misses < Spin::MAX_MISSES || self.misses % Spin::RETRY_INTERVAL == 0;
        let turns = if full { self.limit } else { Spin::MIN_SPINS.min(self.limit) };
        for _ in 0..turns {
            if condition() {
                self.misses = 0;
                return true;
            }
            spin_loop();
        }
        self.misses = self.misses.wrapping_add(1);
        false
    }
}
