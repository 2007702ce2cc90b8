//! When the two sides of a rendezvous spin, and when they sleep at once.
//!
//! A wake-up on the waker's own CPU costs two context switches, some 5 µs, if the waker sleeps at once. A waker that spins keeps its
//! CPU from the thread that it woke, so that this is moved to another one, which costs 40 to 90 µs on a virtual machine. A hand-over
//! between two threads that spin costs 0.1 µs, and needs two CPUs. So the sides spin only where calls follow each other closely:
//!
//! | state | a call begins | the callee is found | the caller waits | then the callee waits | next state |
//! |---|---|---|---|---|---|
//! | `Sleeping` | seldom | | asleep | asleep | `Sleeping` |
//! | `Sleeping` | often in a row within [`PERIOD`] of the one before | | asleep | on another CPU, spinning | `Spinning` |
//! | `Spinning` | | busy: it is on its way there | yielding, then asleep | spinning | `Spinning` |
//! | `Spinning` | | spinning, and answers in time | spinning | spinning | `Spinning` |
//! | `Spinning` | | spinning, and takes too long | spinning, then asleep | spinning once more | `Sleeping` |
//! | `Spinning` | too late | asleep, on the caller's CPU again | asleep | asleep | `Sleeping` |
//!
//! The caller's side has the state, and tells the callee with each request. A callee that begins to spin leaves the caller's CPU; one
//! that gives up returns to it before it sleeps. Both are done between two jobs, when the caller has its answer. How many calls in a row
//! switch spinning on is learned: fewer after a long stretch of answers in time, more after a short one. On one CPU, or with a
//! quota of one, there is no spinning.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Calls that begin within this time of each other may be worth spinning for.
const PERIOD: Duration = Duration::from_micros(25);

/// So many such calls in a row switch spinning on, at first, …
const STREAK: u32 = 16;

/// … and within these bounds later.
const STREAKS: RangeInclusive<u32> = 4..=4096;

/// So many answers in time were worth the two moves of the callee, some 100 µs in all.
const WORTH: u32 = 48;

/// So many requests may find a callee that does not spin yet. Where there is no other CPU for it, it never will.
const MAX_AWAITED: u32 = 8;

/// For so many turns a caller yields while the callee moves.
const MAX_YIELDS: u32 = 200;

/// How long to spin before sleeping, at most: in turns of a `spin_loop` hint. Zero: never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpinLimit(pub(crate) u32);

/// See the [module's documentation](self). The caller's side of it.
#[derive(Debug)]
pub(crate) struct SpinPolicy {
    limit: u32,
    state: State,
    /// How many calls in a row began within [`PERIOD`] of the one before.
    streak: u32,
    /// How many of them switch spinning on.
    needed: u32,
    /// How many answers came in time since then.
    in_time: u32,
    /// How many requests since then did not find the callee spinning.
    awaited: u32,
    /// Whether the caller has yielded to the callee that moves.
    yielded: bool,
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sleeping,
    Spinning,
}

/// How the caller is to wait for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Sleep,
    /// For so many turns of a `spin_loop` hint, and then asleep.
    Spin(u32),
    /// For so many turns, in each of which other threads of this CPU may run, and then asleep.
    Yield(u32),
}

/// How the caller found the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Asleep,
    /// Awake, and not yet waiting.
    Busy,
    /// On another CPU, and waiting or soon to wait there.
    Spinning,
}

impl SpinPolicy {
    pub(crate) fn new(SpinLimit(limit): SpinLimit) -> SpinPolicy {
        SpinPolicy {
            limit,
            state: State::Sleeping,
            streak: 0,
            needed: STREAK,
            in_time: 0,
            awaited: 0,
            yielded: false,
            last: None,
        }
    }

    /// As if spinning were already switched on.
    #[allow(dead_code)] // For the model check.
    pub(crate) fn spinning(limit: SpinLimit) -> SpinPolicy {
        SpinPolicy { state: State::Spinning, yielded: true, ..SpinPolicy::new(limit) }
    }

    /// A call begins. Returns whether the callee is to spin after it. The clock is read only while the sides sleep.
    pub(crate) fn begin(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.limit == 0 {
            return false;
        }
        if self.state == State::Sleeping {
            let now = now();
            let close = self.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD);
            self.last = Some(now);
            self.streak = if close { self.streak + 1 } else { 0 };
            if self.streak < self.needed {
                return false;
            }
            self.state = State::Spinning;
            self.in_time = 0;
            self.awaited = 0;
            self.yielded = false;
            // The callee, asleep or not, is not one that has given up.
            self.last = None;
            self.streak = 0;
        }
        true
    }

    /// The request is posted. Returns how to wait for the answer.
    pub(crate) fn posted(&mut self, found: Found) -> Wait {
        match (self.state, found) {
            (State::Spinning, Found::Spinning) => return Wait::Spin(self.limit),
            // A caller that slept now might be woken on the CPU to which the callee moves.
            (State::Spinning, Found::Busy) if !self.yielded => {
                self.yielded = true;
                return Wait::Yield(MAX_YIELDS);
            }
            // It has given up.
            (State::Spinning, Found::Asleep) if self.in_time > 0 => self.sleep(),
            (State::Spinning, Found::Asleep | Found::Busy) => {
                self.awaited += 1;
                if self.awaited > MAX_AWAITED {
                    self.sleep();
                }
            }
            (State::Sleeping, _) => {}
        }
        Wait::Sleep
    }

    /// Whether the answer came while the caller spun.
    pub(crate) fn spun(&mut self, in_time: bool) {
        if in_time {
            self.in_time = self.in_time.saturating_add(1);
        } else {
            self.sleep();
        }
    }

    fn sleep(&mut self) {
        let needed = if self.in_time >= WORTH { self.needed / 2 } else { self.needed * 2 };
        self.needed = needed.clamp(*STREAKS.start(), *STREAKS.end());
        self.state = State::Sleeping;
    }
}
