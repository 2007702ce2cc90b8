//! The hand-over: a borrowed closure, run on another thread while its owner waits; or one that owns what it needs, and nobody waits.
//!
//! **Promised:** [`Caller::run`] returns only when the other thread has run the job or refused it, and has let go of it. So a
//! job may borrow from its owner's stack, as with scoped threads. No allocation, and no syscall but to wake a thread that sleeps.
//! [`Caller::submit`] gives its own side away with the job, so that nothing else can be posted before that was taken.
//!
//! **Repr our own:** the peers either start a thread for each call (`std::thread::scope`) or ask for `'static` closures
//! (channels). The protocol is two words, each written by one side and waited for by the other:
//!
//! ```text
//! order:   NONE ─(callee sleeps)→ PARKED     NONE | PARKED ─(caller)→ POSTED | CLOSED     POSTED ─(callee)→ NONE
//! answer:  PENDING ─(caller sleeps)→ PARKED  any ─(callee)→ COMPLETED | REJECTED             … ─(caller)→ PENDING
//!          PENDING ─(callee)→ ASSISTABLE ─(caller)→ ASSISTING
//! ```
//!
//! A caller that is awake when the callee says `ASSISTABLE` has time for work of its own, done beside the rest of the job: it says
//! `ASSISTING`, and then the callee can rely on that work being done before the caller returns.
//!
//! The cells beside them belong to the side that may write the word next: `request` to the callee from `POSTED` to its answer, to the
//! caller otherwise; `parked` to the callee once the caller has said `PARKED`, to the caller otherwise. There is one [`Caller`] and
//! one [`Callee`] to a mailbox, and each method takes `&mut self`, so that each side is one thread at a time.
//!
//! **What breaks otherwise:** a caller that returned early would leave the other thread with a dangling borrow. The model
//! check (`tests/tests/rendezvous_model.rs`, this very file with loom's types in place of `std`'s) looks at every interleaving of
//! hand-overs, sleeps, refusals and the end.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::sync::{Arc, AtomicU32, Ordering, Thread, UnsafeCell, current, park, park_timeout, spin_loop};

/// What the callee is asked to do, with the `A` that it keeps.
pub(crate) type Job<'j, A> = dyn FnMut(&mut A, &AssistPoint<'_>) + Send + 'j;

/// What a callee is given for good. Without an `A` it is declined.
type OwnedJob<A> = Box<dyn FnOnce(Option<&mut A>) + Send>;

const NONE: u32 = 0;
const POSTED: u32 = 1;
const CLOSED: u32 = 2;

const PENDING: u32 = 0;
const COMPLETED: u32 = 1;
const REJECTED: u32 = 2;
const ASSISTABLE: u32 = 4;
const ASSISTING: u32 = 5;
const PARKED_AFTER_ASSIST: u32 = 6;

/// Of both words.
const PARKED: u32 = 3;

struct Mailbox<A> {
    request: CachePadded<RequestSlot<A>>,
    response: CachePadded<ResponseSlot>,
}

/// What goes to the callee.
struct RequestSlot<A> {
    order: AtomicU32,
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
    answer: AtomicU32,
    /// From the job to whoever helps it, written before `ASSISTABLE`.
    note: AtomicU32,
    parked: UnsafeCell<Option<Thread>>,
}

/// On cache lines of its own: each side watches one word while the other is written. (Two lines, which some processors
/// fetch together.)
#[repr(align(128))]
struct CachePadded<T>(T);

// SAFETY: the cells are used by one side at a time, as the module's documentation says, with an acquire of the word that the
// other side released. What passes through them is `Send`: job and job by their types, `Thread` by its own. The `A` never
// passes.
unsafe impl<A> Send for Mailbox<A> {}
// SAFETY: as above.
unsafe impl<A> Sync for Mailbox<A> {}

impl<A> Mailbox<A> {
    fn post(&self, order: u32, callee: Option<&Thread>) {
        if self.request.0.order.swap(order, Ordering::AcqRel) == PARKED {
            if let Some(callee) = callee {
                callee.unpark();
            }
        }
    }
}

/// Makes a mailbox, and gives out its two sides.
pub(crate) fn mailbox<A>(spin: SpinLimit) -> (Caller<A>, Callee<A>) {
    let shared = Arc::new(Mailbox {
        request: CachePadded(RequestSlot { order: AtomicU32::new(NONE), request: UnsafeCell::new(None) }),
        response: CachePadded(ResponseSlot {
            answer: AtomicU32::new(PENDING),
            note: AtomicU32::new(0),
            parked: UnsafeCell::new(None),
        }),
    });
    let callee = Callee { shared: Arc::clone(&shared), spin: Spin::new(spin) };
    (Caller { shared, callee: None, spin: Spin::new(spin) }, callee)
}

/// The side that hands over. Dropping it tells the callee that nothing more will come.
pub(crate) struct Caller<A> {
    shared: Arc<Mailbox<A>>,
    callee: Option<Thread>,
    spin: Spin,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// It was run.
    Completed,
    /// It was not, and never will be.
    Rejected,
}

impl<A> Caller<A> {
    /// Says which thread the callee is, so that it can be woken. Before the first hand-over.
    pub(crate) fn set_callee(&mut self, callee: Thread) {
        self.callee = Some(callee);
    }

    /// Has the callee run `job`, and waits until it has.
    ///
    /// `assist` is called at most once, while the job is past its [`AssistPoint`] point, with the job's note. It need not be called at all.
    pub(crate) fn run(&mut self, job: &mut Job<'_, A>, assist: impl FnOnce(u32)) -> Completion {
        // Unwinding out of here would free what the callee still uses.
        let no_unwinding = AbortOnUnwind;
        let job = NonNull::from(job);
        // SAFETY: the cast forgets the borrow's lifetime and changes nothing else. The callee uses the job only until it
        // answers, and this function does not return before that.
        let job = unsafe { std::mem::transmute::<NonNull<Job<'_, A>>, NonNull<Job<'static, A>>>(job) };
        let Mailbox { request, response } = &*self.shared;
        response.0.answer.store(PENDING, Ordering::Relaxed);
        // SAFETY: nothing is posted, so the cell is the caller's.
        request.0.request.with_mut(|cell| unsafe { *cell = Some(Request::Borrowed(job)) });
        self.post(POSTED);
        let mut given = self.await_change(PENDING);
        if given == ASSISTABLE {
            // The callee may have answered just now; then it does not count on assist.
            let answer = &self.shared.response.0.answer;
            given = match answer.compare_exchange(ASSISTABLE, ASSISTING, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    assist(self.shared.response.0.note.load(Ordering::Relaxed));
                    self.await_change(ASSISTING)
                }
                Err(answered) => answered,
            };
        }
        std::mem::forget(no_unwinding);
        match given {
            COMPLETED => Completion::Completed,
            _ => Completion::Rejected,
        }
    }

    /// Has the callee run a job, and does not wait. The job gets this side back; and no `A` where the callee declines, on the
    /// callee's thread too.
    #[allow(dead_code)] // Of use with feature `tokio` alone: a synchronous caller has nothing else to do.
    pub(crate) fn submit(self, job: impl FnOnce(Option<&mut A>, Caller<A>) + Send + 'static)
    where
        A: 'static,
    {
        let (shared, callee) = (Arc::clone(&self.shared), self.callee.clone());
        // From here on there is no caller's side but in the job.
        let job: OwnedJob<A> = Box::new(move |argument| job(argument, self));
        // SAFETY: nothing is posted, so the cell is the caller's.
        shared.request.0.request.with_mut(|cell| unsafe { *cell = Some(Request::Owned(job)) });
        shared.post(POSTED, callee.as_ref());
    }

    fn post(&self, order: u32) {
        self.shared.post(order, self.callee.as_ref());
    }

    /// Waits until the answer is no longer `before`, and gives what it is then.
    fn await_change(&mut self, before: u32) -> u32 {
        let ResponseSlot { answer, parked, .. } = &self.shared.response.0;
        if let Some(given) = self.spin.spin_until(answer, |now| now != before) {
            return given;
        }
        // SAFETY: the callee looks at this cell only after `PARKED`, so it is the caller's.
        parked.with_mut(|cell| unsafe { *cell = Some(current()) });
        let asleep = if before == ASSISTING { PARKED_AFTER_ASSIST } else { PARKED };
        match answer.compare_exchange(before, asleep, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => loop {
                park();
                let now = answer.load(Ordering::Acquire);
                if now != asleep {
                    return now;
                }
            },
            Err(given) => given,
        }
    }
}

impl<A> Drop for Caller<A> {
    fn drop(&mut self) {
        self.post(CLOSED);
    }
}

/// The side that runs what it is handed.
pub(crate) struct Callee<A> {
    shared: Arc<Mailbox<A>>,
    spin: Spin,
}

/// What there is to do.
pub(crate) enum Order<'c, A> {
    /// A job, to be run or declined.
    Job(BorrowedJob<'c, A>),
    /// A job, to be run or declined.
    #[allow(dead_code)] // As its giver.
    Submitted(SubmittedJob<A>),
    /// The caller is gone: nothing more will come.
    Disconnected,
    /// Nothing came in time.
    Timeout,
}

impl<A> Callee<A> {
    /// Waits for the next order: for `patience`, or for ever.
    pub(crate) fn next(&mut self, patience: Option<Duration>) -> Order<'_, A> {
        match self.await_order(patience) {
            POSTED => {
                // The order is taken. The caller writes the word again only after the answer, or when the job has its side.
                let RequestSlot { order, request } = &self.shared.request.0;
                order.store(NONE, Ordering::Relaxed);
                // SAFETY: from `POSTED` until the answer, or until the job is run, the cell is the callee's.
                let request = request.with_mut(|cell| unsafe { (*cell).take() });
                match request {
                    Some(Request::Borrowed(job)) => Order::Job(BorrowedJob { response: &self.shared.response.0, job }),
                    Some(Request::Owned(job)) => Order::Submitted(SubmittedJob(Some(job))),
                    None => unreachable!("an order is posted with its request"),
                }
            }
            CLOSED => Order::Disconnected,
            _ => Order::Timeout,
        }
    }

    fn await_order(&mut self, patience: Option<Duration>) -> u32 {
        let order = &self.shared.request.0.order;
        if let Some(given) = self.spin.spin_until(order, |now| now != NONE) {
            return given;
        }
        if let Err(given) = order.compare_exchange(NONE, PARKED, Ordering::AcqRel, Ordering::Acquire) {
            return given;
        }
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if let ControlFlow::Break(()) = park_until(deadline) {
                // Not to be found asleep any more; but the order may have come this instant.
                return match order.compare_exchange(PARKED, NONE, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => NONE,
                    Err(given) => given,
                };
            }
            let now = order.load(Ordering::Acquire);
            if now != PARKED {
                return now;
            }
        }
    }
}

/// Sleeps until woken, or until the deadline has passed: then it breaks. May wake for no reason.
fn park_until(deadline: Option<Instant>) -> ControlFlow<()> {
    match deadline {
        None => park(),
        Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
            Some(rest) if !rest.is_zero() => park_timeout(rest),
            _ => return ControlFlow::Break(()),
        },
    }
    ControlFlow::Continue(())
}

/// A job that was handed over. The caller waits until it is run or declined; dropping it declines.
pub(crate) struct BorrowedJob<'c, A> {
    response: &'c ResponseSlot,
    job: NonNull<Job<'static, A>>,
}

impl<A> BorrowedJob<'_, A> {
    /// Runs the job, then tells the caller. The job does not unwind: it catches what user code throws.
    ///
    /// Returns whether the caller assisted.
    pub(crate) fn run(mut self, argument: &mut A) -> bool {
        let no_unwinding = AbortOnUnwind;
        // SAFETY: the job's owner waits for the answer, so the job is alive; and only this thread uses it.
        let job = unsafe { self.job.as_mut() };
        let assist_point = AssistPoint { response: self.response, reached: Cell::new(false) };
        job(argument, &assist_point);
        std::mem::forget(no_unwinding);
        let assisted = self.response.complete(COMPLETED, if assist_point.reached.get() { ASSISTING } else { PENDING });
        std::mem::forget(self);
        assisted
    }
}

impl<A> Drop for BorrowedJob<'_, A> {
    fn drop(&mut self) {
        self.response.complete(REJECTED, PENDING);
    }
}

/// A job that was given. Dropping it declines.
pub(crate) struct SubmittedJob<A>(Option<OwnedJob<A>>);

impl<A> SubmittedJob<A> {
    /// Runs the job. It does not unwind: it catches what user code throws.
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

/// For the job to say that what is left of it can be assisted with.
pub(crate) struct AssistPoint<'c> {
    response: &'c ResponseSlot,
    reached: Cell<bool>,
}

impl AssistPoint<'_> {
    /// Lets the caller assist, if it is awake.
    pub(crate) fn reached(&self, note: u32) {
        self.reached.set(true);
        self.response.note.store(note, Ordering::Relaxed);
        // Not taken amiss where the caller sleeps: it is woken for the answer alone.
        let _ = self.response.answer.compare_exchange(PENDING, ASSISTABLE, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl ResponseSlot {
    /// Answers the caller, and says whether it helps or has assisted: once it is answered it cannot begin. The caller may be gone
    /// the moment that the word is written, so nothing of the job is touched after.
    ///
    /// The word is not looked at first but `guessed`: it lies with the other CPU, and each look is a trip there.
    fn complete(&self, answer: u32, guessed: u32) -> bool {
        let mut seen = guessed;
        while seen != PARKED && seen != PARKED_AFTER_ASSIST {
            match self.answer.compare_exchange(seen, answer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return seen == ASSISTING,
                Err(now) => seen = now,
            }
        }
        // The caller sleeps. Take its handle before the answer: after it the cell is the caller's again.
        // SAFETY: after `PARKED`, and until the answer, the cell is the callee's.
        let parked = self.parked.with_mut(|cell| unsafe { (*cell).take() });
        self.answer.store(answer, Ordering::Release);
        if let Some(parked) = parked {
            parked.unpark();
        }
        seen == PARKED_AFTER_ASSIST
    }
}

/// Stands where unwinding would leave a dangling borrow behind, and is forgotten where there was none. (That the thread is
/// unwinding from elsewhere is no reason: a destructor may make a call.)
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// How long to spin on a word before sleeping, at most: in turns of a `spin_loop` hint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpinLimit(pub(crate) u32);

/// Watching a word before sleeping, for as long as that has lately been worth it.
struct Spin {
    limit: u32,
    /// How many times in a row watching has been in vain.
    misses: u32,
}

impl Spin {
    /// So many times in a row it may be in vain, …
    const MAX_MISSES: u32 = 4;
    /// … and then only one time in so many is tried in earnest: this is how better times are noticed, …
    const RETRY_INTERVAL: u32 = 32;
    /// … and the others for a moment.
    const MIN_SPINS: u32 = 4;

    fn new(SpinLimit(limit): SpinLimit) -> Spin {
        Spin { limit, misses: 0 }
    }

    /// Watches `word` until it is as wanted, or for as long as it pays.
    fn spin_until(&mut self, word: &AtomicU32, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let in_earnest = self.misses < Spin::MAX_MISSES || self.misses % Spin::RETRY_INTERVAL == 0;
        let turns = if in_earnest { self.limit } else { Spin::MIN_SPINS.min(self.limit) };
        for _ in 0..turns {
            let now = word.load(Ordering::Acquire);
            if wanted(now) {
                self.misses = 0;
                return Some(now);
            }
            spin_loop();
        }
        self.misses = self.misses.wrapping_add(1);
        let now = word.load(Ordering::Acquire);
        wanted(now).then_some(now)
    }
}
