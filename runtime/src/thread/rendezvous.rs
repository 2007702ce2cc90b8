//! The rendezvous: runs a closure on another thread. The owner of a borrowed closure waits for it; with an owned one no
//! thread waits.
//!
//! **Promised:** [`Caller::run_job`] returns only when the other thread has run the job or rejected it, and no longer
//! uses it. So a job may borrow from its owner's stack, as with scoped threads. A hand-over does not allocate, and
//! makes no system call but to wake a thread that sleeps. A callee that ends rejects the job that it has not taken, and
//! every job that is posted later: no caller waits for a thread that is gone. [`Caller::submit`] moves its own side
//! into the job, so that nothing else can be posted before the job was taken.
//!
//! **Why not a channel or a scoped thread:** `std::thread::scope` starts a thread for each call, and channels require
//! `'static` closures. The protocol has one word, on which at most one side sleeps at a time, and a second word for the
//! offer:
//!
//! ```text
//! state:  IDLE ─(callee sleeps)→ CALLEE_SLEEPS     IDLE | CALLEE_SLEEPS ─(caller)→ POSTED | CLOSED
//!         POSTED ─(caller sleeps)→ CALLER_SLEEPS   POSTED | CALLER_SLEEPS ─(callee)→ IDLE
//!         any ─(callee ends)→ GONE
//! offer:  NONE ─(callee)→ a thread id ─(caller)→ CLAIMED       any ─(callee, before it answers)→ NONE
//! ```
//!
//! The callee answers by storing `IDLE`: for a borrowed job when it has run or rejected it, for an owned one when it
//! has taken it. A caller that spins while there is an offer can assist during the rest of the job: it claims the
//! offer, and the callee then relies on the caller doing that work before [`Caller::run_job`] returns. What the caller
//! finds out while the callee begins the job is a [late value](super::late_value).
//!
//! The cells `manner`, `job`, `small` and `large` belong to the callee from `POSTED` until it answers, and otherwise to
//! the caller. A mailbox has one [`Caller`] and one [`Callee`], and each method takes `&mut self`, so each side is one
//! thread at a time.
//!
//! **Why one word, and the job beside it:** each cache line that moves to another processor and back takes 0.1 to
//! 0.2 µs, more than the rest of a hand-over. Small jobs share the first line of the mailbox with the word, larger ones
//! have the next lines, and only the largest stay on the caller's stack.
//!
//! **Why futexes and not `std::thread::park`:** the caller's thread belongs to the user, whose executor may rely on its
//! park token. `park` would consume the token.
//!
//! **What breaks otherwise:** a caller that returned early would leave the other thread with a dangling borrow. The
//! model check (`tests/models/tests/models/rendezvous_model.rs`, which compiles this file with loom's types in place of
//! `std`'s) explores every interleaving of jobs, sleeps, rejections and ends.

use std::cell::Cell;
use std::hint;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::panic;
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use super::late_value::{Late, LatePlace, LateValue, Turn};
use super::spin_policy::{Asleep, SpinLimit, SpinPolicy, Wake};
use crate::sync::{
    Arc, AtomicU32, Cpus, Futex, Hint, Instant, Ordering, UnsafeCell, confine, current_cpu, current_thread, release,
    spin_loop,
};
use crate::unwind::{AbortOnUnwind, catch};

/// What the callee runs, with the `A` that it keeps.
pub(crate) trait Job<A, L = ()>: Sized {
    /// Runs the job, and returns it with its result. It does not unwind.
    fn run(self, argument: &mut A, late: &LateValue<'_, L>, assist_point: &AssistPoint<'_>) -> Self;
}

/// A job in the place that both sides share.
type JobInPlace<'j, A, L> = dyn RunInPlace<A, L> + Send + 'j;

trait RunInPlace<A, L> {
    fn run(&mut self, argument: &mut A, late: &LateValue<'_, L>, assist_point: &AssistPoint<'_>);
}

impl<A, L, J: Job<A, L>> RunInPlace<A, L> for ManuallyDrop<J> {
    /// Writes to the place once, at the end: the caller looks at its cache line meanwhile.
    fn run(&mut self, argument: &mut A, late: &LateValue<'_, L>, assist_point: &AssistPoint<'_>) {
        // Unwinding out of here would leave a job behind that was moved out.
        let no_unwinding = AbortOnUnwind;
        // SAFETY: nothing uses it again: it is overwritten below, and nothing unwinds before.
        let job = unsafe { ManuallyDrop::take(self) };
        *self = ManuallyDrop::new(job.run(argument, late, assist_point));
        mem::forget(no_unwinding);
    }
}

/// A closure, or its result.
enum ClosureJob<F, R> {
    Given(F),
    Done(thread::Result<R>),
}

impl<A, L, F, R> Job<A, L> for ClosureJob<F, R>
where
    F: FnOnce(&mut A, &AssistPoint<'_>) -> R,
{
    fn run(self, argument: &mut A, _late: &LateValue<'_, L>, assist_point: &AssistPoint<'_>) -> Self {
        match self {
            ClosureJob::Given(closure) => ClosureJob::Done(catch(|| closure(argument, assist_point))),
            ClosureJob::Done(_) => self,
        }
    }
}

/// A job that the callee owns. It is called without an `A` where it is rejected.
type OwnedJob<A> = Box<dyn FnOnce(Option<&mut A>) + Send>;

/// The values of `state`.
const IDLE: u32 = 0;
const POSTED: u32 = 1;
const CALLEE_SLEEPS: u32 = 2;
const CALLER_SLEEPS: u32 = 3;
const CLOSED: u32 = 4;
const GONE: u32 = 5;

/// The values of `offer` beside thread ids.
const NONE: u32 = 0;
/// No thread has this id.
const CLAIMED: u32 = u32::MAX;

/// No processor has this number.
const NO_CPU: u32 = u32::MAX;

/// What the two sides share, on cache lines of its own. (Some processors fetch two lines together.)
#[repr(C, align(128))]
struct Mailbox<A, L> {
    state: Futex,
    manner: UnsafeCell<Manner>,
    /// Where a borrowed job is.
    job: UnsafeCell<MaybeUninit<NonNull<JobInPlace<'static, A, L>>>>,
    /// The place of most borrowed jobs, and of owned ones. A hand-over of them takes one cache line, to here.
    small: UnsafeCell<Small>,
    others: OtherLines<L>,
}

/// The bytes of what small jobs touch. With `std`'s types that is one cache line.
#[allow(dead_code)] // Not for the model check, whose types are larger.
pub(crate) const FIRST_LINE: usize = mem::offset_of!(Mailbox<(), ()>, others);

/// The second cache line, and the next ones for larger jobs. A side that spins reads `offer` whenever it reads `state`,
/// so that it fetches the two lines at once.
#[repr(C, align(64))]
struct OtherLines<L> {
    offer: AtomicU32,
    late: LatePlace<L>,
    /// The processor that the callee sleeps or slept on. A hint.
    cpu: Hint,
    /// The thread id of a callee that may be woken on other processors than that, and zero of others.
    thread: Hint,
    large: UnsafeCell<Large>,
}

/// What the first line has room for, beside the word.
type Small = Storage<40>;

/// Most jobs that are not small.
type Large = Storage<176>;

/// The place of a job of at most this many bytes.
#[repr(align(8))]
struct Storage<const BYTES: usize>(#[allow(dead_code)] MaybeUninit<[u8; BYTES]>);

impl<const BYTES: usize> Storage<BYTES> {
    const fn uninit() -> Storage<BYTES> {
        Storage(MaybeUninit::uninit())
    }

    const fn fits<T>() -> bool {
        size_of::<T>() <= size_of::<Self>() && align_of::<T>() <= align_of::<Self>()
    }
}

/// What the request is, and how the callee takes it.
#[derive(Clone, Copy)]
struct Manner {
    /// The request is an owned job.
    is_owned: bool,
    /// The turn of its late value, if it has one.
    turn: Turn,
    wakes: Wakes,
}

/// How the callee wakes, and how it waits after the request.
#[derive(Clone, Copy)]
struct Wakes {
    /// It is confined to some processors, and releases itself before it does anything else.
    is_confined: bool,
    /// It spins before it sleeps.
    spins: bool,
}

enum Request<A, L> {
    /// A job whose owner waits for the answer.
    Borrowed(NonNull<JobInPlace<'static, A, L>>),
    /// A job whose owner does not wait.
    Owned(OwnedJob<A>),
}

// SAFETY: the cells are used by one side at a time, as the module's documentation says, with an acquire of the word
// that the other side released. What passes through them is `Send`: jobs and results by their types. The `A` never
// passes.
unsafe impl<A, L: Send> Send for Mailbox<A, L> {}
// SAFETY: as above.
unsafe impl<A, L: Send> Sync for Mailbox<A, L> {}

impl<A, L: Late> Mailbox<A, L> {
    /// The caller's side: the callee is to take `request`, which comes back if the callee is gone. Where the callee
    /// sleeps, `asleep` says how it is to wake.
    fn post(
        &self,
        request: Request<A, L>,
        turn: Turn,
        spins: bool,
        asleep: impl FnOnce() -> Wakes,
    ) -> Result<(), Request<A, L>> {
        let Mailbox { state, manner, job, small, .. } = self;
        let is_owned = match request {
            Request::Borrowed(borrowed) => {
                // SAFETY: nothing is posted, so the cell is the caller's.
                job.with_mut(|job| unsafe { *job = MaybeUninit::new(borrowed) });
                false
            }
            Request::Owned(owned) => {
                const { assert!(Small::fits::<OwnedJob<A>>()) };
                // SAFETY: as above, and the place is large enough.
                small.with_mut(|small| unsafe { small.cast::<OwnedJob<A>>().write(owned) });
                true
            }
        };
        let write = |wakes| {
            // SAFETY: as above, until it is posted below.
            manner.with_mut(|manner| unsafe { *manner = Manner { is_owned, turn, wakes } });
        };
        write(Wakes { is_confined: false, spins });
        match state.compare_exchange(IDLE, POSTED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(()),
            Err(CALLEE_SLEEPS) => write(asleep()),
            Err(_) => {}
        }
        match state.swap(POSTED, Ordering::AcqRel) {
            CALLEE_SLEEPS => state.wake(),
            GONE => {
                state.store(GONE, Ordering::Relaxed);
                // SAFETY: it was written above.
                return Err(unsafe { self.take() });
            }
            // The callee's wait has timed out meanwhile: it is awake.
            _ => {}
        }
        Ok(())
    }

    /// # Safety
    ///
    /// A request was posted, and was not taken. The calling side is the callee; or the caller, if the callee is gone.
    unsafe fn take(&self) -> Request<A, L> {
        let Mailbox { manner, job, small, .. } = self;
        // SAFETY: the cells are the calling side's, and were written before the post.
        if manner.with_mut(|manner| unsafe { (*manner).is_owned }) {
            // SAFETY: as above. It is read once, by the contract.
            Request::Owned(small.with_mut(|small| unsafe { small.cast::<OwnedJob<A>>().read() }))
        } else {
            // SAFETY: as above.
            Request::Borrowed(job.with_mut(|job| unsafe { job.cast::<NonNull<JobInPlace<'static, A, L>>>().read() }))
        }
    }

    /// The callee's side: stores `state`, and wakes the caller if it sleeps. Afterwards the callee uses neither the
    /// request nor, before the next one, the cells of the mailbox.
    fn answer(&self, state: u32) {
        if self.state.swap(state, Ordering::AcqRel) == CALLER_SLEEPS {
            self.state.wake();
        }
    }
}

/// Makes a mailbox, and returns its two sides. `can_move` says whether the callee may be woken on any processor.
pub(crate) fn mailbox<A, L: Late>(limit: SpinLimit, can_move: bool) -> (Caller<A, L>, Callee<A, L>) {
    mailbox_with(SpinPolicy::new(limit), limit, can_move)
}

/// As [`mailbox`], with a policy in some state.
pub(crate) fn mailbox_with<A, L: Late>(
    policy: SpinPolicy,
    limit: SpinLimit,
    can_move: bool,
) -> (Caller<A, L>, Callee<A, L>) {
    let shared = Arc::new(Mailbox {
        state: Futex::new(IDLE),
        manner: UnsafeCell::new(Manner {
            is_owned: false,
            turn: Turn::NONE,
            wakes: Wakes { is_confined: false, spins: false },
        }),
        job: UnsafeCell::new(MaybeUninit::uninit()),
        small: UnsafeCell::new(Storage::uninit()),
        others: OtherLines {
            offer: AtomicU32::new(NONE),
            late: LatePlace::new(),
            cpu: Hint::new(NO_CPU),
            thread: Hint::new(0),
            large: UnsafeCell::new(Storage::uninit()),
        },
    });
    let callee = Callee { shared: Arc::clone(&shared), limit, introduces_itself: can_move, spins: false };
    (Caller { shared, policy: Box::new(policy) }, callee)
}

/// The side that posts jobs. Dropping it tells the callee that no more jobs will come.
pub(crate) struct Caller<A, L: Late = ()> {
    shared: Arc<Mailbox<A, L>>,
    policy: Box<SpinPolicy>,
}

/// The callee did not run this closure, and never will.
pub(crate) struct Rejected<F>(pub(crate) F);

impl<A, L: Late> Caller<A, L> {
    /// As [`Caller::run_job`], for a closure and its result. A panic of the closure is resumed here.
    pub(crate) fn run<F, R>(&mut self, closure: F, assist: impl FnOnce(u32)) -> Result<R, Rejected<F>>
    where
        F: FnOnce(&mut A, &AssistPoint<'_>) -> R + Send,
        R: Send,
    {
        match self.run_in_place(ClosureJob::Given(closure), None, assist) {
            ClosureJob::Given(closure) => Err(Rejected(closure)),
            ClosureJob::Done(Ok(value)) => Ok(value),
            ClosureJob::Done(Err(payload)) => panic::resume_unwind(payload),
        }
    }

    /// Runs `job` on the callee, and waits for it. The job moves to a place that both sides share, where it runs, and
    /// back. A job that the callee rejects comes back as it was.
    ///
    /// `late` finds out the [`LateValue`] of the job. It is called once, after the job is posted if the callee spins.
    ///
    /// `assist` is called at most once, while the job is past its [`AssistPoint`], with the thread id that the job
    /// offered. It need not be called at all.
    pub(crate) fn run_job<J: Job<A, L> + Send>(
        &mut self,
        job: J,
        late: &mut dyn FnMut() -> L,
        assist: impl FnOnce(u32),
    ) -> J {
        self.run_in_place(job, Some(late), assist)
    }

    /// As [`Caller::run_job`]. Only a [`ClosureJob`], which receives no late value, may be given none.
    fn run_in_place<J: Job<A, L> + Send>(
        &mut self,
        job: J,
        late: Option<&mut dyn FnMut() -> L>,
        assist: impl FnOnce(u32),
    ) -> J {
        let mut on_the_stack = MaybeUninit::<J>::uninit();
        let place: NonNull<ManuallyDrop<J>> = if const { Small::fits::<J>() } {
            // SAFETY: the cell is the caller's: nothing is posted.
            self.shared.small.with_mut(|small| NonNull::from(unsafe { &mut *small })).cast()
        } else if const { Large::fits::<J>() } {
            // SAFETY: as above.
            self.shared.others.large.with_mut(|large| NonNull::from(unsafe { &mut *large })).cast()
        } else {
            NonNull::from(&mut on_the_stack).cast()
        };
        // SAFETY: each place is large enough, and the caller's until it posts.
        unsafe { place.write(ManuallyDrop::new(job)) };
        self.run_borrowed(place, late, assist);
        // SAFETY: the place is the caller's again, and nothing reads it a second time.
        ManuallyDrop::into_inner(unsafe { place.read() })
    }

    fn run_borrowed(
        &mut self,
        job: NonNull<JobInPlace<'_, A, L>>,
        late: Option<&mut dyn FnMut() -> L>,
        assist: impl FnOnce(u32),
    ) {
        // Unwinding out of here would free what the callee still uses.
        let no_unwinding = AbortOnUnwind;
        // SAFETY: the cast forgets the borrow's lifetime and changes nothing else. The callee uses the job only until
        // it answers, and this function does not return before that.
        let job = unsafe { mem::transmute::<NonNull<JobInPlace<'_, A, L>>, NonNull<JobInPlace<'static, A, L>>>(job) };
        if let Ok(turns) = self.post_borrowed(Request::Borrowed(job), late) {
            self.await_answer(turns, assist);
        }
        self.policy.end(Instant::now);
        mem::forget(no_unwinding);
    }

    /// Posts, and wakes the callee where the policy wants it. Returns for how many turns to spin, or the request if the
    /// callee is gone.
    fn post_borrowed(
        &mut self,
        request: Request<A, L>,
        mut late: Option<&mut dyn FnMut() -> L>,
    ) -> Result<u32, Request<A, L>> {
        let Caller { shared, policy } = self;
        let OtherLines { late: place, cpu, thread, .. } = &shared.others;
        let turn = if late.is_some() { place.next_turn() } else { Turn::NONE };
        let mut send = || {
            if let Some(late) = late.take() {
                // SAFETY: this is the caller. No other job is posted, and `late` is taken once.
                unsafe { place.send(turn, late()) };
            }
        };
        let mut turns = None;
        let spins = policy.begin(Instant::now);
        if !spins {
            send();
        }
        shared.post(request, turn, spins, || {
            // The callee does not spin for it.
            send();
            let (cpu, thread, callers) = (cpu.load(Ordering::Relaxed), thread.load(Ordering::Relaxed), current_cpu());
            let (wake, caller_spins, spins) = policy.asleep(Asleep { cpu, callers, can_move: thread != 0 });
            turns = Some(caller_spins);
            // The callee sleeps, so it has not exited, and the id is still its own.
            let is_confined = match wake {
                Wake::Anywhere => false,
                Wake::Here => confine(thread, Cpus::Only(callers)),
                Wake::Elsewhere => confine(thread, Cpus::AllBut(callers)),
            };
            Wakes { is_confined, spins }
        })?;
        send();
        Ok(turns.unwrap_or_else(|| policy.awake(|| cpu.load(Ordering::Relaxed) == current_cpu())))
    }

    fn await_answer(&mut self, turns: u32, assist: impl FnOnce(u32)) {
        let Mailbox { state, others: OtherLines { offer, .. }, .. } = &*self.shared;
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
            state.load(Ordering::Acquire) != POSTED
        };
        for _ in 0..turns {
            if is_answered() {
                return self.policy.in_time();
            }
            pause();
        }
        let since = (turns > 0).then(Instant::now);
        if state.compare_exchange(POSTED, CALLER_SLEEPS, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while state.load(Ordering::Acquire) == CALLER_SLEEPS {
                state.wait(CALLER_SLEEPS, None);
            }
        }
        if let Some(since) = since {
            self.policy.late(since.elapsed());
        }
    }

    /// Runs a job on the callee without waiting. The job gets this side back. It gets no `A` where it is rejected.
    pub(crate) fn submit(self, job: impl FnOnce(Option<&mut A>, Caller<A, L>) + Send + 'static)
    where
        A: 'static,
        L: 'static,
    {
        let shared = Arc::clone(&self.shared);
        // The calling thread goes on and needs its processor, so the callee may wake on any.
        let anywhere = Wakes { is_confined: false, spins: false };
        // From here on the caller's side is only in the job.
        let request = Request::Owned(Box::new(move |argument| job(argument, self)));
        if let Err(Request::Owned(job)) = shared.post(request, Turn::NONE, false, || anywhere) {
            job(None);
        }
    }
}

impl<A, L: Late> Drop for Caller<A, L> {
    fn drop(&mut self) {
        if self.shared.state.swap(CLOSED, Ordering::AcqRel) == CALLEE_SLEEPS {
            self.shared.state.wake();
        }
    }
}

/// The side that runs jobs. Dropping it rejects what comes later.
pub(crate) struct Callee<A, L: Late = ()> {
    shared: Arc<Mailbox<A, L>>,
    limit: SpinLimit,
    /// Whether it has yet to tell the caller its thread id.
    introduces_itself: bool,
    /// Whether it spins before it sleeps.
    spins: bool,
}

/// What a callee does next.
pub(crate) enum Order<'c, A, L: Late = ()> {
    /// A job, to be run or rejected.
    Job(BorrowedJob<'c, A, L>),
    /// A submitted job, to be run or rejected.
    Submitted(SubmittedJob<A>),
    /// The caller is gone: nothing more will come.
    Disconnected,
    /// No job came in time.
    Timeout,
}

impl<A, L: Late> Callee<A, L> {
    /// Waits for the next order, for `timeout` or without end.
    pub(crate) fn next(&mut self, timeout: Option<Duration>) -> Order<'_, A, L> {
        match self.await_order(timeout) {
            POSTED | CALLER_SLEEPS => {
                let shared = &*self.shared;
                // SAFETY: the word says so.
                let request = unsafe { shared.take() };
                // SAFETY: as above.
                let Manner { turn, wakes: Wakes { is_confined, spins }, .. } =
                    shared.manner.with_mut(|manner| unsafe { *manner });
                self.spins = spins;
                if !spins {
                    shared.others.cpu.store(current_cpu(), Ordering::Relaxed);
                }
                let order = match request {
                    Request::Borrowed(job) => {
                        // SAFETY: the callee runs the job of this turn. It receives a value only if it expects one.
                        let late = unsafe { LateValue::new(&shared.others.late, turn, self.limit) };
                        Order::Job(BorrowedJob { shared, job, late })
                    }
                    Request::Owned(job) => {
                        // The job has the caller's side, and may post again.
                        shared.answer(IDLE);
                        Order::Submitted(SubmittedJob(Some(job)))
                    }
                };
                if is_confined && !release() {
                    // No body may run on this thread any more: dropping the order rejects it.
                    return Order::Disconnected;
                }
                order
            }
            CLOSED => Order::Disconnected,
            _ => Order::Timeout,
        }
    }

    fn await_order(&mut self, timeout: Option<Duration>) -> u32 {
        let Mailbox { state, others: OtherLines { offer, cpu, thread, .. }, .. } = &*self.shared;
        if self.spins {
            let SpinLimit(limit) = self.limit;
            for _ in 0..limit {
                if state.load(Ordering::Relaxed) != IDLE {
                    return state.load(Ordering::Acquire);
                }
                // The value is not used. The read fetches the cache line: see `OtherLines`.
                hint::black_box(offer.load(Ordering::Relaxed));
                pause();
            }
        }
        if mem::take(&mut self.introduces_itself) {
            thread.store(current_thread(), Ordering::Relaxed);
        }
        cpu.store(current_cpu(), Ordering::Relaxed);
        if let Err(given) = state.compare_exchange(IDLE, CALLEE_SLEEPS, Ordering::AcqRel, Ordering::Acquire) {
            return given;
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                // A request may have been posted at this moment.
                return match state.compare_exchange(CALLEE_SLEEPS, IDLE, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => IDLE,
                    Err(given) => given,
                };
            }
            state.wait(CALLEE_SLEEPS, remaining);
            let now = state.load(Ordering::Acquire);
            if now != CALLEE_SLEEPS {
                return now;
            }
        }
    }
}

impl<A, L: Late> Drop for Callee<A, L> {
    fn drop(&mut self) {
        let Mailbox { state, .. } = &*self.shared;
        let mut seen = state.load(Ordering::Acquire);
        while !matches!(seen, POSTED | CALLER_SLEEPS) {
            match state.compare_exchange(seen, GONE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        // SAFETY: the word says so.
        let request = unsafe { self.shared.take() };
        // The cells are the caller's after this.
        self.shared.answer(GONE);
        if let Request::Owned(job) = request {
            job(None);
        }
    }
}

/// A job whose caller waits until it is run or rejected. Dropping it rejects it.
pub(crate) struct BorrowedJob<'c, A, L: Late = ()> {
    shared: &'c Mailbox<A, L>,
    job: NonNull<JobInPlace<'static, A, L>>,
    late: LateValue<'c, L>,
}

impl<A, L: Late> BorrowedJob<'_, A, L> {
    /// Runs the job, then answers the caller. Returns whether the caller assisted.
    pub(crate) fn run(mut self, argument: &mut A) -> bool {
        let offer = &self.shared.others.offer;
        let assist_point = AssistPoint { offer, reached: Cell::new(false) };
        // SAFETY: the job's owner waits for the answer, so the job is alive; and only this thread uses it.
        unsafe { self.job.as_mut() }.run(argument, &self.late, &assist_point);
        // This precedes the answer: afterwards the caller may post again, and must not find this offer.
        let assisted = assist_point.reached.get() && offer.swap(NONE, Ordering::AcqRel) == CLAIMED;
        // Dropping it answers.
        drop(self);
        assisted
    }
}

impl<A, L: Late> Drop for BorrowedJob<'_, A, L> {
    fn drop(&mut self) {
        self.shared.answer(IDLE);
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

/// Lets a job offer its caller to assist during the rest of it.
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

/// Pauses between two reads. The other side writes to the same cache lines more than once, and a read in between takes
/// the lines away from it.
fn pause() {
    spin_loop();
    spin_loop();
}
