//! The policy of a hand-over: on which processor the callee wakes, and which side spins.
//!
//! Measured on two virtual processors, for a hand-over and back: 0.1 µs where both sides spin, on two processors; 4 µs
//! where both sleep on one; 40 to 90 µs where a side is woken on a processor that has gone idle. So the callee is woken
//! on its caller's processor, and the caller sleeps at once to free it; and both spin where calls follow each other
//! closely:
//!
//! | state | the callee is found | it wakes on | the caller waits | then the callee waits | next state |
//! |---|---|---|---|---|---|
//! | `Together` | asleep | the caller's processor, unless another is faster | asleep | asleep | `Together` |
//! | `Together`, and a streak of close calls | asleep | another processor | spinning | spinning | `Apart` |
//! | `Together` | awake, on the caller's processor | | asleep | asleep | `Together` |
//! | `Together` | awake, on another processor | | spinning, then asleep | asleep | `Together` |
//! | `Apart` | awake, and answers in time | | spinning | spinning | `Apart` |
//! | `Apart` | awake, and takes too long | | spinning, then asleep | spinning, then asleep | `Together` |
//! | `Apart`, and no faster than `Together` was | awake | | spinning, then asleep | asleep | `Together` |
//! | `Apart` | asleep: there was a pause | as in `Together` | | | `Together` |
//!
//! The policy measures:
//! - The time of a close call in each state. Two processors of a virtual machine may be near each other or far apart:
//!   measured, 2.6 µs where both sides spin and 6.5 µs where both sleep, and on another day 4.5 µs and 3.5 µs.
//! - The gain of a stretch in `Apart`. If it was less than the cost of the moves and the last wait, the next stretch is
//!   delayed. Beside busy processors, and for calls that take long, there is soon none.
//! - The time of a call in `Together` whose callee is confined to its caller's processor, and of one whose callee wakes
//!   where the kernel chooses. The kernel prefers a processor that it considers idle. On most machines that are not
//!   virtual such a wake-up takes 3 µs, and confining a thread takes 1 µs. After a pause, when processors are in a deep
//!   idle state, both take longer, so calls after a pause are measured separately.
//!
//! On one processor, or with a quota of one, neither side spins. The clock is read twice for each call in `Together`,
//! and once for [`SAMPLE`] calls in `Apart`.

use std::time::Duration;

use crate::sync::Instant;

/// A call is *close* if it begins within this time of the end of the previous one.
const CLOSE: Duration = Duration::from_micros(20);

/// After a longer pause the processors have gone idle. The calls after it are measured separately.
const PAUSE: Duration = Duration::from_micros(250);

/// Close calls in a row that took this time together are a streak. The move to another processor costs no more than
/// they did.
const STREAK: Duration = Duration::from_micros(150);

/// The least number of close calls in a streak.
const STREAK_CALLS: u32 = 10;

/// The most that an answer in time saves.
const GAIN: Duration = Duration::from_micros(3);

/// The number of calls in `Apart` that are measured together.
const SAMPLE: u32 = 64;

/// The cost of waking the callee on another processor.
const WAKE_UP: Duration = Duration::from_micros(50);

/// How many times as long as usual a caller spins for a callee that wakes on another processor.
const WAKING: u32 = 10;

/// The most turns of a `spin_loop` hint to spin before sleeping. Zero: neither side spins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpinLimit(pub(crate) u32);

/// See the [module's documentation](self). The caller's side owns it.
#[derive(Debug)]
pub(crate) struct SpinPolicy {
    limit: u32,
    state: State,
    /// When the last call in `Together` began.
    began: Option<Instant>,
    /// Whether that was long after the previous call.
    is_after_pause: bool,
    /// When it ended.
    ended: Option<Instant>,
    /// How many close calls there were in a row, after the first.
    streak: u32,
    /// When the first of them began.
    streak_began: Option<Instant>,
    /// The mean time of a call of the last streak, from its beginning to that of the next.
    call_together: Duration,
    /// How many answers in this stretch of `Apart` came in time, since the last that did not.
    in_time: u32,
    /// The current sample: when it began, and how many calls there were since.
    sample: Option<(Instant, u32)>,
    /// The time that an answer in time saves.
    gain: Duration,
    /// The delay of the next stretch in `Apart`, in close calls.
    apart: Backoff,
    /// The times of calls in `Together` soon after others.
    soon: Wakings,
    /// The times of those after a pause.
    after_pause: Wakings,
    /// How the callee of this call was woken, where it slept.
    waking: Option<Waking>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Together,
    Apart,
}

/// The processor on which a callee wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The one that the kernel chooses.
    Anywhere,
    /// The caller's.
    Here,
    /// On a processor other than the caller's.
    Elsewhere,
}

/// A callee that sleeps: where it ran last, and whether it can be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asleep {
    /// The processor that it was on.
    pub(crate) cpu: u32,
    /// The processor of the caller.
    pub(crate) callers: u32,
    /// Whether it can be woken on another processor than that.
    pub(crate) can_move: bool,
}

impl SpinPolicy {
    pub(crate) fn new(SpinLimit(limit): SpinLimit) -> SpinPolicy {
        SpinPolicy {
            limit,
            state: State::Together,
            began: None,
            is_after_pause: true,
            ended: None,
            streak: 0,
            streak_began: None,
            call_together: Duration::ZERO,
            in_time: 0,
            sample: None,
            gain: GAIN,
            apart: Backoff::new(32..=8192),
            soon: Wakings {
                here: Ways { anywhere: Estimate::new(6_000), confined: Estimate::new(8_000) },
                elsewhere: Ways { anywhere: Estimate::new(40_000), confined: Estimate::new(8_000) },
            },
            after_pause: Wakings {
                here: Ways { anywhere: Estimate::new(15_000), confined: Estimate::new(17_000) },
                elsewhere: Ways { anywhere: Estimate::new(40_000), confined: Estimate::new(17_000) },
            },
            waking: None,
        }
    }

    /// A policy in the state after a streak.
    #[allow(dead_code)] // For the model check.
    pub(crate) fn apart(limit: SpinLimit) -> SpinPolicy {
        SpinPolicy { state: State::Apart, ..SpinPolicy::new(limit) }
    }

    /// Records that a call begins. Returns whether the callee, if it is awake, spins after the call.
    pub(crate) fn begin(&mut self, now: impl FnOnce() -> Instant) -> bool {
        match self.state {
            State::Together if self.limit > 0 => {
                let now = now();
                let pause = self.ended.map_or(Duration::MAX, |ended| now.saturating_duration_since(ended));
                self.began = Some(now);
                self.is_after_pause = pause >= PAUSE;
                if pause < CLOSE {
                    match self.streak_began {
                        Some(_) => self.streak = self.streak.saturating_add(1),
                        None => self.streak_began = Some(now),
                    }
                    self.apart.pass();
                } else {
                    // The call after a pause takes longer than those that follow it.
                    self.streak = 0;
                    self.streak_began = None;
                }
            }
            State::Together => {}
            State::Apart => self.measure(now),
        }
        self.state == State::Apart
    }

    /// Takes a sample in `Apart`. Stays there if a call takes less time than it did in `Together`.
    fn measure(&mut self, now: impl FnOnce() -> Instant) {
        match &mut self.sample {
            Some((_, calls)) if *calls < SAMPLE => *calls += 1,
            sample => {
                let now = now();
                if let Some((began, calls)) = sample.replace((now, 1)) {
                    let call_apart = now.saturating_duration_since(began) / calls;
                    if self.call_together < call_apart + call_apart / 16 {
                        self.leave(8);
                    } else {
                        self.gain = GAIN.min(self.call_together.saturating_sub(call_apart));
                        self.apart.reward();
                    }
                }
            }
        }
    }

    /// The callee is awake. Returns for how many turns the caller spins. `on_this_cpu` is called only in `Together`.
    pub(crate) fn awake(&self, on_this_cpu: impl FnOnce() -> bool) -> u32 {
        if self.state == State::Together && on_this_cpu() { 0 } else { self.limit }
    }

    /// The callee is asleep. Returns where to wake it, for how many turns the caller spins, and whether the callee
    /// spins after the call.
    pub(crate) fn asleep(&mut self, callee: Asleep) -> (Wake, u32, bool) {
        let Asleep { cpu, callers, can_move } = callee;
        let is_here = cpu == callers;
        match self.state {
            State::Apart if is_here && !can_move => self.leave(2),
            State::Apart => self.miss(WAKE_UP),
            State::Together if is_here && !can_move => {}
            State::Together => {
                let took = self.streak_took();
                if self.streak >= STREAK_CALLS && took >= STREAK && self.apart.is_over() {
                    self.state = State::Apart;
                    self.in_time = 0;
                    self.sample = None;
                    self.call_together = took / self.streak;
                }
            }
        }
        if self.state == State::Apart {
            let wake = if is_here { Wake::Elsewhere } else { Wake::Anywhere };
            return (wake, self.limit.saturating_mul(WAKING), true);
        }
        let is_confined = can_move && self.ways(is_here).confined_is_better();
        self.waking = Some(Waking { is_here, is_confined });
        (if is_confined { Wake::Here } else { Wake::Anywhere }, 0, false)
    }

    /// Records that the call has ended.
    pub(crate) fn end(&mut self, now: impl FnOnce() -> Instant) {
        if self.state == State::Apart || self.limit == 0 {
            return;
        }
        let now = now();
        self.ended = Some(now);
        if let (Some(Waking { is_here, is_confined }), Some(began)) = (self.waking.take(), self.began) {
            self.ways(is_here).record(is_confined, now.saturating_duration_since(began));
        }
    }

    /// The times for a callee that sleeps on the caller's processor, or elsewhere.
    fn ways(&mut self, is_here: bool) -> &mut Ways {
        let Wakings { here, elsewhere } = if self.is_after_pause { &mut self.after_pause } else { &mut self.soon };
        if is_here { here } else { elsewhere }
    }

    /// The time from the beginning of the first close call in a row to that of this one.
    fn streak_took(&self) -> Duration {
        match (self.streak_began, self.began) {
            (Some(first), Some(this)) => this.saturating_duration_since(first),
            _ => Duration::ZERO,
        }
    }

    /// Records that the answer came while the caller spun.
    pub(crate) fn in_time(&mut self) {
        self.in_time = self.in_time.saturating_add(1);
    }

    /// Records that the answer did not come while the caller spun, which then slept for the time `slept`.
    pub(crate) fn late(&mut self, slept: Duration) {
        if self.state == State::Apart {
            self.miss(slept);
        }
    }

    /// Stays in `Apart` if the answers in time since the last miss have saved what this one costs.
    fn miss(&mut self, cost: Duration) {
        if self.gain.saturating_mul(self.in_time) < cost {
            return self.leave(2);
        }
        self.in_time = 0;
        // A sample must not contain a pause.
        self.sample = None;
        self.apart.reward();
    }

    /// Leaves `Apart`. The next stretch is delayed for `factor` times the last delay.
    fn leave(&mut self, factor: u32) {
        self.apart.punish(factor);
        self.state = State::Together;
        self.began = None;
        self.ended = None;
        self.streak = 0;
        self.streak_began = None;
    }
}

/// How a callee that slept was woken.
#[derive(Clone, Copy, Debug)]
struct Waking {
    /// It slept on the caller's processor.
    is_here: bool,
    /// It was confined to that processor.
    is_confined: bool,
}

/// The times for callees that sleep on their caller's processor, and for those that sleep elsewhere.
#[derive(Debug)]
struct Wakings {
    here: Ways,
    elsewhere: Ways,
}

/// The times of calls whose callee wakes where the kernel chooses, and of those whose callee is confined to the
/// caller's processor.
#[derive(Debug)]
struct Ways {
    anywhere: Estimate,
    confined: Estimate,
}

impl Ways {
    fn confined_is_better(&self) -> bool {
        self.confined.nanos < self.anywhere.nanos
    }

    fn record(&mut self, was_confined: bool, took: Duration) {
        let Ways { anywhere, confined } = self;
        let (used, other) = if was_confined { (confined, anywhere) } else { (anywhere, confined) };
        used.record(took);
        other.forget();
    }
}

/// An exponential moving average, in nanoseconds.
#[derive(Debug)]
struct Estimate {
    nanos: u32,
    /// The value before the first call, to which it returns after many calls of the other kind.
    assumed: u32,
}

impl Estimate {
    /// A longer time has another cause than where the callee was woken.
    const MOST: u32 = 64_000;

    fn new(assumed: u32) -> Estimate {
        Estimate { nanos: assumed, assumed }
    }

    fn record(&mut self, took: Duration) {
        let took = u32::try_from(took.as_nanos()).unwrap_or(Self::MOST).min(Self::MOST);
        self.nanos = (self.nanos * 15 + took) / 16;
    }

    fn forget(&mut self) {
        self.nanos = (self.nanos * 511 + self.assumed) / 512;
    }
}

/// Delays the next try after a failed one, for longer each time.
#[derive(Debug)]
struct Backoff {
    bounds: std::ops::RangeInclusive<u32>,
    /// The last delay.
    length: u32,
    left: u32,
}

impl Backoff {
    fn new(bounds: std::ops::RangeInclusive<u32>) -> Backoff {
        Backoff { bounds, length: 0, left: 0 }
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }

    fn pass(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn punish(&mut self, factor: u32) {
        self.length = self.length.saturating_mul(factor).clamp(*self.bounds.start(), *self.bounds.end());
        self.left = self.length;
    }

    fn reward(&mut self) {
        self.length = 0;
        self.left = 0;
    }
}
