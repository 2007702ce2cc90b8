//! The hand-over: a borrowed closure, run on another thread while its owner waits; or one that owns what it needs, and nobody waits.
//!
//! **Promised:** [`Caller::hand_over`] returns only when the other thread has run the job or refused it, and has let go of it. So a
//! job may borrow from its owner's stack, as with scoped threads. No allocation, and no syscall but to wake a thread that sleeps.
//! [`Caller::give`] gives its own side away with the errand, so that nothing else can be posted before that was taken.
//!
//! **Why our own:** the peers either start a thread for each call (`std::thread::scope`) or ask for `'static` closures
//! (channels). The protocol is two words, each written by one side and waited for by the other:
//!
//! ```text
//! order:   NONE ─(callee sleeps)→ ASLEEP     NONE | ASLEEP ─(caller)→ POSTED | CLOSED     POSTED ─(callee)→ NONE
//! answer:  PENDING ─(caller sleeps)→ ASLEEP  any ─(callee)→ DONE | DECLINED               … ─(caller)→ PENDING
//!          PENDING ─(callee)→ HALFWAY ─(caller)→ HELPING
//! ```
//!
//! A caller that is awake when the callee says `HALFWAY` has time for work of its own, done beside the rest of the job: it says
//! `HELPING`, and then the callee can rely on that work being done before the caller returns.
//!
//! The cells beside them belong to the side that may write the word next: `load` to the callee from `POSTED` to its answer, to the
//! caller otherwise; `sleeper` to the callee once the caller has said `ASLEEP`, to the caller otherwise. There is one [`Caller`] and
//! one [`Callee`] to a mailbox, and each method takes `&mut self`, so that each side is one thread at a time.
//!
//! **What breaks otherwise:** a caller that returned early would leave the other thread with a dangling borrow. The model
//! check (`tests/tests/handover_model.rs`, this very file with loom's types in place of `std`'s) looks at every interleaving of
//! hand-overs, sleeps, refusals and the end.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::sync::{Arc, AtomicU32, Ordering, Thread, UnsafeCell, current, park, park_timeout, spin_loop};

/// What the callee is asked to do, with the `A` that it keeps.
pub(crate) type Job<'j, A> = dyn FnMut(&mut A, &Halfway<'_>) + Send + 'j;

/// What a callee is given for good. Without an `A` it is declined.
type Errand<A> = Box<dyn FnOnce(Option<&mut A>) + Send>;

const NONE: u32 = 0;
const POSTED: u32 = 1;
const CLOSED: u32 = 2;

const PENDING: u32 = 0;
const DONE: u32 = 1;
const DECLINED: u32 = 2;
const HALFWAY: u32 = 4;
const HELPING: u32 = 5;
const ASLEEP_AFTER_HELP: u32 = 6;

/// Of both words.
const ASLEEP: u32 = 3;

struct Mailbox<A> {
    there: OwnLine<There<A>>,
    back: OwnLine<Back>,
}

/// What goes to the callee.
struct There<A> {
    order: AtomicU32,
    load: UnsafeCell<Option<Load<A>>>,
}

enum Load<A> {
    /// Its owner waits for the answer.
    Lent(NonNull<Job<'static, A>>),
    /// There is no answer.
    Given(Errand<A>),
}

/// What comes back to the caller.
struct Back {
    answer: AtomicU32,
    /// From the job to whoever helps it, written before `HALFWAY`.
    note: AtomicU32,
    sleeper: UnsafeCell<Option<Thread>>,
}

/// On cache lines of its own: each side watches one word while the other is written. (Two lines, which some processors
/// fetch together.)
#[repr(align(128))]
struct OwnLine<T>(T);

// SAFETY: the cells are used by one side at a time, as the module's documentation says, with an acquire of the word that the
// other side released. What passes through them is `Send`: job and errand by their types, `Thread` by its own. The `A` never
// passes.
unsafe impl<A> Send for Mailbox<A> {}
// SAFETY: as above.
unsafe impl<A> Sync for Mailbox<A> {}

impl<A> Mailbox<A> {
    fn post(&self, order: u32, callee: Option<&Thread>) {
        if self.there.0.order.swap(order, Ordering::AcqRel) == ASLEEP {
            if let Some(callee) = callee {
                callee.unpark();
            }
        }
    }
}

/// Makes a mailbox, and gives out its two sides.
pub(crate) fn mailbox<A>(spin: SpinLimit) -> (Caller<A>, Callee<A>) {
    let shared = Arc::new(Mailbox {
        there: OwnLine(There { order: AtomicU32::new(NONE), load: UnsafeCell::new(None) }),
        back: OwnLine(Back {
            answer: AtomicU32::new(PENDING),
            note: AtomicU32::new(0),
            sleeper: UnsafeCell::new(None),
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
pub(crate) enum Answer {
    /// It was run.
    Done,
    /// It was not, and never will be.
    Declined,
}

impl<A> Caller<A> {
    /// Says which thread the callee is, so that it can be woken. Before the first hand-over.
    pub(crate) fn introduce(&mut self, callee: Thread) {
        self.callee = Some(callee);
    }

    /// Has the callee run `job`, and waits until it has.
    ///
    /// `help` is called at most once, while the job is past its [`Halfway`] point, with the job's note. It need not be called at all.
    pub(crate) fn hand_over(&mut self, job: &mut Job<'_, A>, help: impl FnOnce(u32)) -> Answer {
        // Unwinding out of here would free what the callee still uses.
        let no_unwinding = AbortOnUnwind;
        let job = NonNull::from(job);
        // SAFETY: the cast forgets the borrow's lifetime and changes nothing else. The callee uses the job only until it
        // answers, and this function does not return before that.
        let job = unsafe { std::mem::transmute::<NonNull<Job<'_, A>>, NonNull<Job<'static, A>>>(job) };
        let Mailbox { there, back } = &*self.shared;
        back.0.answer.store(PENDING, Ordering::Relaxed);
        // SAFETY: nothing is posted, so the cell is the caller's.
        there.0.load.with_mut(|cell| unsafe { *cell = Some(Load::Lent(job)) });
        self.post(POSTED);
        let mut given = self.await_change(PENDING);
        if given == HALFWAY {
            // The callee may have answered just now; then it does not count on help.
            let answer = &self.shared.back.0.answer;
            given = match answer.compare_exchange(HALFWAY, HELPING, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    help(self.shared.back.0.note.load(Ordering::Relaxed));
                    self.await_change(HELPING)
                }
                Err(answered) => answered,
            };
        }
        std::mem::forget(no_unwinding);
        match given {
            DONE => Answer::Done,
            _ => Answer::Declined,
        }
    }

    /// Has the callee run an errand, and does not wait. The errand gets this side back; and no `A` where the callee declines, on the
    /// callee's thread too.
    #[allow(dead_code)] // Of use with feature `tokio` alone: a synchronous caller has nothing else to do.
    pub(crate) fn give(self, errand: impl FnOnce(Option<&mut A>, Caller<A>) + Send + 'static)
    where
        A: 'static,
    {
        let (shared, callee) = (Arc::clone(&self.shared), self.callee.clone());
        // From here on there is no caller's side but in the errand.
        let errand: Errand<A> = Box::new(move |argument| errand(argument, self));
        // SAFETY: nothing is posted, so the cell is the caller's.
        shared.there.0.load.with_mut(|cell| unsafe { *cell = Some(Load::Given(errand)) });
        shared.post(POSTED, callee.as_ref());
    }

    fn post(&self, order: u32) {
        self.shared.post(order, self.callee.as_ref());
    }

    /// Waits until the answer is no longer `before`, and gives what it is then.
    fn await_change(&mut self, before: u32) -> u32 {
        let Back { answer, sleeper, .. } = &self.shared.back.0;
        if let Some(given) = self.spin.watch(answer, |now| now != before) {
            return given;
        }
        // SAFETY: the callee looks at this cell only after `ASLEEP`, so it is the caller's.
        sleeper.with_mut(|cell| unsafe { *cell = Some(current()) });
        let asleep = if before == HELPING { ASLEEP_AFTER_HELP } else { ASLEEP };
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
    Job(Received<'c, A>),
    /// An errand, to be run or declined.
    #[allow(dead_code)] // As its giver.
    Errand(Given<A>),
    /// The caller is gone: nothing more will come.
    Closed,
    /// Nothing came in time.
    Nothing,
}

impl<A> Callee<A> {
    /// Waits for the next order: for `patience`, or for ever.
    pub(crate) fn next(&mut self, patience: Option<Duration>) -> Order<'_, A> {
        match self.await_order(patience) {
            POSTED => {
                // The order is taken. The caller writes the word again only after the answer, or when the errand has its side.
                let There { order, load } = &self.shared.there.0;
                order.store(NONE, Ordering::Relaxed);
                // SAFETY: from `POSTED` until the answer, or until the errand is run, the cell is the callee's.
                let load = load.with_mut(|cell| unsafe { (*cell).take() });
                match load {
                    Some(Load::Lent(job)) => Order::Job(Received { back: &self.shared.back.0, job }),
                    Some(Load::Given(errand)) => Order::Errand(Given(Some(errand))),
                    None => unreachable!("an order is posted with its load"),
                }
            }
            CLOSED => Order::Closed,
            _ => Order::Nothing,
        }
    }

    fn await_order(&mut self, patience: Option<Duration>) -> u32 {
        let order = &self.shared.there.0.order;
        if let Some(given) = self.spin.watch(order, |now| now != NONE) {
            return given;
        }
        if let Err(given) = order.compare_exchange(NONE, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
            return given;
        }
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if let ControlFlow::Break(()) = doze(deadline) {
                // Not to be found asleep any more; but the order may have come this instant.
                return match order.compare_exchange(ASLEEP, NONE, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => NONE,
                    Err(given) => given,
                };
            }
            let now = order.load(Ordering::Acquire);
            if now != ASLEEP {
                return now;
            }
        }
    }
}

/// Sleeps until woken, or until the deadline has passed: then it breaks. May wake for no reason.
fn doze(deadline: Option<Instant>) -> ControlFlow<()> {
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
pub(crate) struct Received<'c, A> {
    back: &'c Back,
    job: NonNull<Job<'static, A>>,
}

impl<A> Received<'_, A> {
    /// Runs the job, then tells the caller. The job does not unwind: it catches what user code throws.
    ///
    /// Returns whether the caller helped.
    pub(crate) fn run(mut self, argument: &mut A) -> bool {
        let no_unwinding = AbortOnUnwind;
        // SAFETY: the job's owner waits for the answer, so the job is alive; and only this thread uses it.
        let job = unsafe { self.job.as_mut() };
        let halfway = Halfway { back: self.back, reached: Cell::new(false) };
        job(argument, &halfway);
        std::mem::forget(no_unwinding);
        let helped = self.back.tell(DONE, if halfway.reached.get() { HELPING } else { PENDING });
        std::mem::forget(self);
        helped
    }
}

impl<A> Drop for Received<'_, A> {
    fn drop(&mut self) {
        self.back.tell(DECLINED, PENDING);
    }
}

/// An errand that was given. Dropping it declines.
pub(crate) struct Given<A>(Option<Errand<A>>);

impl<A> Given<A> {
    /// Runs the errand. It does not unwind: it catches what user code throws.
    pub(crate) fn run(mut self, argument: &mut A) {
        if let Some(errand) = self.0.take() {
            errand(Some(argument));
        }
    }
}

impl<A> Drop for Given<A> {
    fn drop(&mut self) {
        if let Some(errand) = self.0.take() {
            errand(None);
        }
    }
}

/// For the job to say that what is left of it can be helped with.
pub(crate) struct Halfway<'c> {
    back: &'c Back,
    reached: Cell<bool>,
}

impl Halfway<'_> {
    /// Lets the caller help, if it is awake.
    pub(crate) fn reached(&self, note: u32) {
        self.reached.set(true);
        self.back.note.store(note, Ordering::Relaxed);
        // Not taken amiss where the caller sleeps: it is woken for the answer alone.
        let _ = self.back.answer.compare_exchange(PENDING, HALFWAY, Ordering::AcqRel, Ordering::Relaxed);
    }
}

impl Back {
    /// Answers the caller, and says whether it helps or has helped: once it is answered it cannot begin. The caller may be gone
    /// the moment that the word is written, so nothing of the job is touched after.
    ///
    /// The word is not looked at first but `guessed`: it lies with the other CPU, and each look is a trip there.
    fn tell(&self, answer: u32, guessed: u32) -> bool {
        let mut seen = guessed;
        while seen != ASLEEP && seen != ASLEEP_AFTER_HELP {
            match self.answer.compare_exchange(seen, answer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return seen == HELPING,
                Err(now) => seen = now,
            }
        }
        // The caller sleeps. Take its handle before the answer: after it the cell is the caller's again.
        // SAFETY: after `ASLEEP`, and until the answer, the cell is the callee's.
        let sleeper = self.sleeper.with_mut(|cell| unsafe { (*cell).take() });
        self.answer.store(answer, Ordering::Release);
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
        seen == ASLEEP_AFTER_HELP
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

/// How long to watch a word before sleeping, at most: in turns of a `spin_loop` hint.
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
    const PATIENCE: u32 = 4;
    /// … and then only one time in so many is tried in earnest: this is how better times are noticed, …
    const PROBE: u32 = 32;
    /// … and the others for a moment.
    const MOMENT: u32 = 4;

    fn new(SpinLimit(limit): SpinLimit) -> Spin {
        Spin { limit, misses: 0 }
    }

    /// Watches `word` until it is as wanted, or for as long as it pays.
    fn watch(&mut self, word: &AtomicU32, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let in_earnest = self.misses < Spin::PATIENCE || self.misses % Spin::PROBE == 0;
        let turns = if in_earnest { self.limit } else { Spin::MOMENT.min(self.limit) };
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
