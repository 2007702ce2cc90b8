//! When the two sides of a rendezvous spin: each transition of the policy's table, with a clock of the test's own.
#![allow(missing_docs, unreachable_pub)]

#[path = "../../runtime/src/thread/spin_policy.rs"]
mod policy;

use std::time::{Duration, Instant};

use policy::{Found, SpinLimit, SpinPolicy, Wait};

const LIMIT: u32 = 1000;

/// A policy and its clock.
struct Caller {
    policy: SpinPolicy,
    now: Instant,
}

impl Caller {
    fn new(limit: u32) -> Caller {
        Caller { policy: SpinPolicy::new(SpinLimit(limit)), now: Instant::now() }
    }

    /// A call that begins `micros` after the one before. Returns whether the callee is to spin, and how the caller waits.
    fn call(&mut self, micros: u64, found: Found) -> (bool, Wait) {
        self.now += Duration::from_micros(micros);
        let now = self.now;
        (self.policy.begin(|| now), self.policy.posted(found))
    }

    /// Calls in quick succession until the callee is told to spin; how many.
    fn calls_until_spinning(&mut self) -> u32 {
        (1..10_000).find(|_| self.call(8, Found::Asleep).0).expect("spinning is switched on")
    }

    /// Calls whose answers come in time.
    fn answers_in_time(&mut self, count: u32) {
        for _ in 0..count {
            assert_eq!(self.call(2, Found::Spinning), (true, Wait::Spin(LIMIT)));
            self.policy.spun(true);
        }
    }
}

#[test]
fn calls_after_pauses_never_spin() {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..10_000 {
        assert_eq!(caller.call(1_000, Found::Asleep), (false, Wait::Sleep));
    }
}

#[test]
fn short_bursts_never_spin() {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..1_000 {
        caller.call(1_000, Found::Asleep);
        for _ in 0..9 {
            assert_eq!(caller.call(8, Found::Asleep), (false, Wait::Sleep));
        }
    }
}

#[test]
fn a_streak_of_close_calls_switches_spinning_on() {
    let mut caller = Caller::new(LIMIT);
    assert!(caller.calls_until_spinning() < 40);
    // The callee is on its way to another CPU: the caller leaves it this one, and stays.
    assert!(matches!(caller.call(8, Found::Busy), (true, Wait::Yield(_))));
    caller.answers_in_time(10_000);
}

#[test]
fn a_callee_that_gave_up_switches_spinning_off() {
    let mut caller = Caller::new(LIMIT);
    caller.calls_until_spinning();
    caller.answers_in_time(100);
    assert_eq!(caller.call(1_000, Found::Asleep).1, Wait::Sleep);
    assert_eq!(caller.call(8, Found::Asleep), (false, Wait::Sleep));
}

#[test]
fn an_answer_that_takes_too_long_switches_spinning_off() {
    let mut caller = Caller::new(LIMIT);
    caller.calls_until_spinning();
    caller.answers_in_time(100);
    assert_eq!(caller.call(2, Found::Spinning), (true, Wait::Spin(LIMIT)));
    caller.policy.spun(false);
    assert_eq!(caller.call(8, Found::Spinning), (false, Wait::Sleep));
}

#[test]
fn a_callee_that_never_gets_to_spin_switches_spinning_off() {
    for found in [Found::Asleep, Found::Busy] {
        let mut caller = Caller::new(LIMIT);
        caller.calls_until_spinning();
        assert!((0..20).any(|_| !caller.call(8, found).0), "{found:?}");
    }
}

#[test]
fn long_runs_are_learned_and_so_are_short_ones() {
    let mut caller = Caller::new(LIMIT);
    let first = caller.calls_until_spinning();
    for _ in 0..10 {
        caller.answers_in_time(1_000);
        caller.call(1_000, Found::Asleep);
        assert!(caller.calls_until_spinning() <= first);
    }
    let learned = caller.calls_until_spinning_again(1_000);
    assert!(learned < first, "{learned} < {first}");
    for _ in 0..6 {
        caller.calls_until_spinning_again(1);
    }
    assert!(caller.calls_until_spinning_again(1) > first * 4);
}

impl Caller {
    /// As [`Caller::calls_until_spinning`], after a run of so many answers in time.
    fn calls_until_spinning_again(&mut self, run: u32) -> u32 {
        self.answers_in_time(run);
        self.call(1_000, Found::Asleep);
        self.calls_until_spinning()
    }
}

#[test]
fn on_one_cpu_nothing_spins() {
    let mut caller = Caller::new(0);
    for _ in 0..10_000 {
        assert_eq!(caller.call(2, Found::Busy), (false, Wait::Sleep));
    }
}
