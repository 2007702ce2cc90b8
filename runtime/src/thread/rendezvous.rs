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
//! model check (`tests/models/tests/models/rendezvous_model.rs`, this very file with loom's types in place of `std`'s)
//! explores every interleaving of jobs, sleeps, rejections and ends.

use std::cell::Cell;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use super::spin_policy::{Asleep, SpinLimit, SpinPolicy, Wake};
use crate::sync::{
    Arc, AtomicU32, Cpus, Futex, Hint, Instant, Ordering, UnsafeCell, confine, current_cpu, current_thread, release,
    spin_loop,
};

/// What the callee runs, with the `A` that it keeps. It does not unwind.
type Job<'j, A> = dyn RunJob<A> + Send + 'j;

trait RunJob<A> {
    fn run(&mut self, argument: &mut A, assist_point: &AssistPoint<'_>);
}

/// A job, and then its result in the same place. The two sides share nothing else of the caller's stack: each cache
/// line that moves to another processor and back costs 0.1 to 0.2 µs.
enum JobSlot<F, R> {
    Given(F),
    Taken,
    Done(thread::Result<R>),
}

impl<A, F, R> RunJob<A> for CachePadded<JobSlot<F, R>>
where
    F: FnOnce(&mut A, &AssistPoint<'_>) -> R,
{
    fn run(&mut self, argument: &mut A, assist_point: &AssistPoint<'_>) {
        if let JobSlot::Given(job) = mem::replace(&mut self.0, JobSlot::Taken) {
            self.0 = JobSlot::Done(panic::catch_unwind(AssertUnwindSafe(|| job(argument, assist_point))));
        }
    }
}

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

/// No processor has this number.
const NO_CPU: u32 = u32::MAX;

/// No thread has this id.
const CLAIMED: u32 = u32::MAX;

struct Mailbox<A> {
    request: CachePadded<RequestSlot<A>>,
    response: CachePadded<ResponseSlot>,
}

/// What goes to the callee.
struct RequestSlot<A> {
    order: Futex,
    request: UnsafeCell<Option<(Request<A>, Manner)>>,
    /// The processor that the callee sleeps or slept on. A hint.
    cpu: Hint,
    /// The thread id of a callee that may be woken on other processors than that, and zero of others.
    thread: Hint,
}

/// How the callee wakes, and how it waits after the request.
#[derive(Clone, Copy)]
struct Manner {
    /// It is confined to some processors, and releases itself before all else.
    is_confined: bool,
    /// It spins before it sleeps.
    spins: bool,
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
    /// The caller's side: the callee is to take `request`. Where it sleeps, `asleep` says how it is to wake.
    fn post(&self, request: Request<A>, spins: bool, asleep: impl FnOnce() -> Manner) {
        let RequestSlot { order, request: cell, .. } = &self.request.0;
        // SAFETY: nothing is posted, so the cell is the caller's.
        cell.with_mut(|cell| unsafe { *cell = Some((request, Manner { is_confined: false, spins })) });
        match order.compare_exchange(NONE, POSTED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return,
            Err(PARKED) => {
                let wakes = asleep();
                // SAFETY: as above.
                cell.with_mut(|cell| unsafe { (*cell).iter_mut().for_each(|(_, manner)| *manner = wakes) });
            }
            Err(_) => {}
        }
        match order.swap(POSTED, Ordering::AcqRel) {
            PARKED => order.wake(),
            GONE => {
                order.store(GONE, Ordering::Relaxed);
                self.reject();
            }
            // Its wait has timed out meanwhile.
            _ => {}
        }
    }

    /// For the callee, from `POSTED`; for the caller, when the callee is gone.
    fn take(&self) -> Option<(Request<A>, Manner)> {
        // SAFETY: from `POSTED` on the cell is the callee's; where that is gone, the caller's.
        self.request.0.request.with_mut(|cell| unsafe { (*cell).take() })
    }

    /// As [`Mailbox::take`]: the request is not run.
    fn reject(&self) {
        match self.take() {
            Some((Request::Borrowed(_), _)) => self.response.0.complete(),
            Some((Request::Owned(job), _)) => job(None),
            None => {}
        }
    }
}

/// Makes a mailbox, and returns its two sides. `can_move` says whether the callee may be woken on any processor.
pub(crate) fn mailbox<A>(limit: SpinLimit, can_move: bool) -> (Caller<A>, Callee<A>) {
    mailbox_with(SpinPolicy::new(limit), limit, can_move)
}

/// As [`mailbox`], with a policy in some state.
pub(crate) fn mailbox_with<A>(policy: SpinPolicy, limit: SpinLimit, can_move: bool) -> (Caller<A>, Callee<A>) {
    let shared = Arc::new(Mailbox {
        request: CachePadded(RequestSlot {
            order: Futex::new(NONE),
            request: UnsafeCell::new(None),
            cpu: Hint::new(NO_CPU),
            thread: Hint::new(0),
        }),
        response: CachePadded(ResponseSlot { answer: Futex::new(PENDING), offer: AtomicU32::new(NONE) }),
    });
    let callee = Callee { shared: Arc::clone(&shared), limit, introduces_itself: can_move, spins: false };
    (Caller { shared, policy: Box::new(policy) }, callee)
}

/// The side that hands over. Dropping it tells the callee that nothing more will come.
pub(crate) struct Caller<A> {
    shared: Arc<Mailbox<A>>,
    policy: Box<SpinPolicy>,
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
        let mut slot = CachePadded(JobSlot::Given(job));
        self.run_borrowed(&mut slot, assist);
        match slot.0 {
            JobSlot::Done(Ok(value)) => Ok(value),
            JobSlot::Done(Err(payload)) => panic::resume_unwind(payload),
            JobSlot::Given(job) => Err(Rejected(job)),
            JobSlot::Taken => unreachable!("a job that was taken has a result"),
        }
    }

    fn run_borrowed(&mut self, job: &mut Job<'_, A>, assist: impl FnOnce(u32)) {
        // Unwinding out of here would free what the callee still uses.
        let no_unwinding = AbortOnUnwind;
        let job = NonNull::from(job);
        // SAFETY: the cast forgets the borrow's lifetime and changes nothing else. The callee uses the job only until
        // it answers, and this function does not return before that.
        let job = unsafe { mem::transmute::<NonNull<Job<'_, A>>, NonNull<Job<'static, A>>>(job) };
        self.shared.response.0.answer.store(PENDING, Ordering::Relaxed);
        let turns = self.post_borrowed(Request::Borrowed(job));
        self.await_answer(turns, assist);
        self.policy.end(Instant::now);
        mem::forget(no_unwinding);
    }

    /// Posts, and wakes the callee where the policy wants it. Returns for how many turns to spin.
    fn post_borrowed(&mut self, request: Request<A>) -> u32 {
        let Caller { shared, policy } = self;
        let RequestSlot { cpu, thread, .. } = &shared.request.0;
        let mut turns = None;
        let spins = policy.begin(Instant::now);
        shared.post(request, spins, || {
            let (cpu, thread, callers) = (cpu.load(Ordering::Relaxed), thread.load(Ordering::Relaxed), current_cpu());
            let (wake, caller_spins, spins) = policy.asleep(Asleep { cpu, callers, can_move: thread != 0 });
            turns = Some(caller_spins);
            // It is leased and asleep, so the thread of this id is the callee.
            let is_confined = match wake {
                Wake::Anywhere => false,
                Wake::Here => confine(thread, Cpus::Only(callers)),
                Wake::Elsewhere => confine(thread, Cpus::AllBut(callers)),
            };
            Manner { is_confined, spins }
        });
        turns.unwrap_or_else(|| policy.awake(|| cpu.load(Ordering::Relaxed) == current_cpu()))
    }

    fn await_answer(&mut self, turns: u32, assist: impl FnOnce(u32)) {
        let ResponseSlot { answer, offer } = &self.shared.response.0;
        let mut assist = Some(assist);
        let mut is_answered = || {
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
        for _ in 0..turns {
            if is_answered() {
                return self.policy.in_time();
            }
            spin_loop();
        }
        let since = (turns > 0).then(Instant::now);
        if answer.compare_exchange(PENDING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while answer.load(Ordering::Acquire) == PARKED {
                answer.wait(PARKED, None);
            }
        }
        if let Some(since) = since {
            self.policy.late(since.elapsed());
        }
    }

    /// Has the callee run a job, and does not wait. The job gets this side back; and no `A` where it is rejected.
    pub(crate) fn submit(self, job: impl FnOnce(Option<&mut A>, Caller<A>) + Send + 'static)
    where
        A: 'static,
    {
        let shared = Arc::clone(&self.shared);
        // From here on there is no caller's side but in the job.
        // Its caller goes on, and needs its processor for itself.
        let anywhere = Manner { is_confined: false, spins: false };
        shared.post(Request::Owned(Box::new(move |argument| job(argument, self))), false, || anywhere);
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
    limit: SpinLimit,
    /// Whether the caller is yet to be told of its thread.
    introduces_itself: bool,
    /// Whether it spins before it sleeps.
    spins: bool,
}

/// What there is to do.
pub(crate) enum Order<'c, A> {
    /// A job, to be run or rejected.
    Job(BorrowedJob<'c, A>),
    /// A submitted job, to be run or rejected.
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
                let RequestSlot { order, cpu, .. } = &self.shared.request.0;
                order.store(NONE, Ordering::Relaxed);
                let Some((request, Manner { is_confined, spins })) = self.shared.take() else {
                    unreachable!("an order is posted with its request")
                };
                self.spins = spins;
                if !spins {
                    cpu.store(current_cpu(), Ordering::Relaxed);
                }
                let order = match request {
                    Request::Borrowed(job) => Order::Job(BorrowedJob { response: &self.shared.response.0, job }),
                    Request::Owned(job) => Order::Submitted(SubmittedJob(Some(job))),
                };
                if is_confined && !release() {
                    // No body runs here any more: dropping the order rejects it.
                    return Order::Disconnected;
                }
                order
            }
            CLOSED => Order::Disconnected,
            _ => Order::Timeout,
        }
    }

    fn await_order(&mut self, timeout: Option<Duration>) -> u32 {
        let RequestSlot { order, cpu, thread, .. } = &self.shared.request.0;
        if self.spins {
            let SpinLimit(limit) = self.limit;
            for _ in 0..limit {
                if order.load(Ordering::Relaxed) != NONE {
                    return order.load(Ordering::Acquire);
                }
                // The caller writes to this cache line twice. A look in between takes it away.
                spin_loop();
                spin_loop();
            }
        }
        if mem::take(&mut self.introduces_itself) {
            thread.store(current_thread(), Ordering::Relaxed);
        }
        cpu.store(current_cpu(), Ordering::Relaxed);
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
        job.run(argument, &assist_point);
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
