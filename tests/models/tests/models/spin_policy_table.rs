//! Where the callee of a hand-over wakes, and which side spins: each transition of the policy's table, with a clock of
//! the test's own.

use std::time::Duration;

use crate::spin_policy::{Asleep, SpinLimit, SpinPolicy, Wake};
use crate::sync::Instant;

const LIMIT: u32 = 1000;
const HERE: u32 = 0;
const ELSEWHERE: u32 = 1;

/// How long a call takes whose two sides sleep, in microseconds.
const CALL: u64 = 5;

/// A caller on processor [`HERE`], whose callee may be moved unless the test says otherwise.
struct Caller {
    policy: SpinPolicy,
    now: Instant,
    can_move: bool,
}

/// What a call found out of the policy.
#[derive(Debug, PartialEq, Eq)]
struct Waits {
    wake: Wake,
    caller_spins: bool,
    callee_spins: bool,
}

const BOTH_SLEEP: Waits = Waits { wake: Wake::Anywhere, caller_spins: false, callee_spins: false };

impl Caller {
    fn new(limit: u32) -> Caller {
        Caller { policy: SpinPolicy::new(SpinLimit(limit)), now: Instant::now(), can_move: true }
    }

    fn begin(&mut self, micros: u64) -> bool {
        self.now += Duration::from_micros(micros);
        let now = self.now;
        self.policy.begin(|| now)
    }

    /// The answer has come, so long after the call began.
    fn end(&mut self, micros: u64) {
        self.now += Duration::from_micros(micros);
        let now = self.now;
        self.policy.end(|| now);
    }

    /// A call so long after the one before, whose callee sleeps on a processor.
    fn call_asleep(&mut self, micros: u64, cpu: u32) -> Waits {
        self.call_asleep_taking(micros, cpu, |_| CALL)
    }

    /// As [`Caller::call_asleep`], where the call takes so long if both sides sleep.
    fn call_asleep_taking(&mut self, micros: u64, cpu: u32, took: impl FnOnce(Wake) -> u64) -> Waits {
        self.begin(micros);
        let (wake, turns, callee_spins) = self.policy.asleep(Asleep { cpu, callers: HERE, can_move: self.can_move });
        if !callee_spins {
            self.end(took(wake));
        }
        Waits { wake, caller_spins: turns > 0, callee_spins }
    }

    /// A call so long after the one before, of a callee that sleeps on a processor. Returns whether it was confined.
    fn is_confined(&mut self, micros: u64, cpu: u32, anywhere: u64, confined: u64) -> bool {
        let took = |wake| if wake == Wake::Here { confined } else { anywhere };
        self.call_asleep_taking(micros, cpu, took).wake == Wake::Here
    }

    /// As [`Caller::call_asleep`], with a callee that is awake. It is not woken.
    fn call_awake(&mut self, micros: u64, cpu: u32) -> Waits {
        let callee_spins = self.begin(micros);
        let turns = self.policy.awake(|| cpu == HERE);
        if !callee_spins {
            self.end(CALL);
        }
        Waits { wake: Wake::Anywhere, caller_spins: turns > 0, callee_spins }
    }

    /// Close calls until the two sides are apart. Returns how many there were, or `None` after many.
    fn calls_until_apart(&mut self, cpu: u32) -> Option<u32> {
        (0..20_000).find(|_| self.call_asleep(1, cpu).callee_spins)
    }

    fn answers_in_time(&mut self, count: u32) {
        assert_eq!(self.answers_until_together(count, 2), None);
    }

    /// Calls so long after each other that are answered in time, until the sides are together.
    fn answers_until_together(&mut self, count: u32, micros: u64) -> Option<u32> {
        (0..count).find(|_| {
            let waits = self.call_awake(micros, ELSEWHERE);
            assert!(waits.caller_spins);
            self.policy.in_time();
            !waits.callee_spins
        })
    }
}

#[test]
fn after_pauses_both_sides_sleep() {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..10_000 {
        assert_eq!(caller.call_asleep(1_000, HERE), BOTH_SLEEP);
    }
}

#[test]
fn in_short_bursts_both_sides_sleep() {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..1_000 {
        assert_eq!(caller.call_asleep(1_000, HERE), BOTH_SLEEP);
        for _ in 0..9 {
            assert_eq!(caller.call_asleep(8, HERE), BOTH_SLEEP);
        }
    }
}

#[test]
fn a_callee_that_sleeps_elsewhere_wakes_on_the_callers_processor() {
    let mut caller = Caller::new(LIMIT);
    assert_eq!(caller.call_asleep(1_000, ELSEWHERE), Waits { wake: Wake::Here, ..BOTH_SLEEP });
    assert_eq!(caller.call_asleep(1_000, HERE), BOTH_SLEEP);
    // It was woken there by another caller.
    assert_eq!(caller.call_asleep(1_000, 7), Waits { wake: Wake::Here, ..BOTH_SLEEP });
}

/// Soon after the call before, and not close.
const SOON: u64 = 100;
const AFTER_A_PAUSE: u64 = 1_000;

/// Of many calls, how many of the last hundred confined the callee.
fn confined(micros: u64, cpu: u32, anywhere: u64, confined: u64) -> usize {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..1_000 {
        caller.is_confined(micros, cpu, anywhere, confined);
    }
    (0..100).filter(|_| caller.is_confined(micros, cpu, anywhere, confined)).count()
}

#[test]
fn a_callee_is_confined_where_calls_are_faster_then() {
    for pause in [SOON, AFTER_A_PAUSE] {
        // The kernel moves it to another processor, which takes long to wake up.
        assert!(confined(pause, HERE, 45, 7) > 90);
        assert!(confined(pause, ELSEWHERE, 45, 7) > 90);
        // It leaves it where it is.
        assert_eq!(confined(pause, HERE, 5, 7), 0);
        // To wake up another processor takes less than to bring the callee.
        assert_eq!(confined(pause, ELSEWHERE, 5, 45), 0);
    }
}

#[test]
fn what_is_faster_after_a_pause_is_learned_apart() {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..1_000 {
        caller.is_confined(AFTER_A_PAUSE, HERE, 45, 12);
        assert!(!caller.is_confined(SOON, HERE, 5, 7));
    }
    assert!(caller.is_confined(AFTER_A_PAUSE, HERE, 45, 12));
}

#[test]
fn what_is_faster_is_found_out_again() {
    let mut caller = Caller::new(LIMIT);
    assert!((0..100).any(|_| caller.is_confined(SOON, HERE, 45, 7)));
    assert!((0..5_000).any(|_| !caller.is_confined(SOON, HERE, 5, 7)));
}

#[test]
fn a_streak_of_close_calls_takes_the_sides_apart() {
    let mut caller = Caller::new(LIMIT);
    let calls = caller.calls_until_apart(HERE).unwrap();
    assert!((10..50).contains(&calls), "{calls}");
    caller.answers_in_time(10_000);
}

/// Each call wakes its two sides on one processor after the other.
#[test]
fn a_few_close_calls_that_take_long_are_a_streak() {
    let mut caller = Caller::new(LIMIT);
    let calls = (0..100).find(|_| caller.call_asleep_taking(1, ELSEWHERE, |_| 45).callee_spins);
    assert!((5..15).contains(&calls.unwrap()), "{calls:?}");
}

#[test]
fn the_callee_wakes_on_another_processor_than_the_callers() {
    for (cpu, wake) in [(HERE, Wake::Elsewhere), (ELSEWHERE, Wake::Anywhere)] {
        let mut caller = Caller::new(LIMIT);
        let last = (0..1_000).map(|_| caller.call_asleep(8, cpu)).find(|waits| waits.callee_spins);
        assert_eq!(last, Some(Waits { wake, caller_spins: true, callee_spins: true }));
    }
}

#[test]
fn calls_that_are_not_close_stay_together() {
    let mut caller = Caller::new(LIMIT);
    for _ in 0..1_000 {
        assert_eq!(caller.call_asleep(100, HERE), BOTH_SLEEP);
        assert_eq!(caller.call_awake(100, HERE), BOTH_SLEEP);
    }
}

#[test]
fn a_caller_spins_for_a_callee_that_is_awake_on_another_processor() {
    let mut caller = Caller::new(LIMIT);
    assert_eq!(caller.call_awake(1_000, ELSEWHERE), Waits { caller_spins: true, ..BOTH_SLEEP });
    assert_eq!(caller.call_awake(1_000, HERE), BOTH_SLEEP);
}

#[test]
fn a_pause_after_many_answers_in_time_is_forgiven_once() {
    let mut caller = Caller::new(LIMIT);
    caller.calls_until_apart(HERE).unwrap();
    caller.answers_in_time(1_000);
    // The next burst, for all that is known.
    let waits = caller.call_asleep(1_000, ELSEWHERE);
    assert_eq!(waits, Waits { wake: Wake::Anywhere, caller_spins: true, callee_spins: true });
    caller.policy.in_time();
    assert_eq!(caller.call_asleep(1_000, ELSEWHERE), Waits { wake: Wake::Here, ..BOTH_SLEEP });
    assert_eq!(caller.call_asleep(1_000, HERE), BOTH_SLEEP);
}

#[test]
fn an_answer_that_takes_longer_than_others_saved_brings_the_sides_together() {
    let mut caller = Caller::new(LIMIT);
    for (answers, slept, stays) in [(1_000, 100, true), (1_000, 10_000, false), (1, 100, false)] {
        caller.calls_until_apart(HERE).unwrap();
        caller.answers_in_time(answers);
        caller.policy.late(Duration::from_micros(slept));
        assert_eq!(caller.begin(8), stays, "{slept} µs after {answers}");
        // Ends a stretch that goes on.
        caller.policy.late(Duration::from_secs(1));
    }
}

#[test]
fn spinning_that_never_pays_is_tried_ever_more_seldom() {
    let mut caller = Caller::new(LIMIT);
    let calls: Vec<u32> = (0..12)
        .map(|_| {
            let calls = caller.calls_until_apart(HERE).unwrap();
            caller.policy.late(Duration::from_millis(3));
            calls
        })
        .collect();
    assert!(calls.is_sorted() && calls[11] > 1_000, "{calls:?}");
}

#[test]
fn a_callee_that_cannot_be_moved_is_not_spun_for_on_one_processor() {
    let mut caller = Caller { can_move: false, ..Caller::new(LIMIT) };
    assert_eq!(caller.calls_until_apart(HERE), None);
    assert_eq!(caller.call_asleep(1_000, ELSEWHERE), BOTH_SLEEP);
    // The kernel has it on another one.
    assert!(caller.calls_until_apart(ELSEWHERE).is_some());
    // And then not any more.
    caller.answers_in_time(1_000);
    assert_eq!(caller.call_asleep(8, HERE), BOTH_SLEEP);
}

#[test]
fn on_one_processor_nothing_spins_and_the_clock_is_not_read() {
    let mut policy = SpinPolicy::new(SpinLimit(0));
    for _ in 0..10_000 {
        assert!(!policy.begin(|| unreachable!("the clock")));
        assert_eq!(policy.asleep(Asleep { cpu: HERE, callers: HERE, can_move: true }), (Wake::Anywhere, 0, false));
        assert_eq!(policy.awake(|| false), 0);
    }
}

#[test]
fn the_clock_is_read_once_in_many_calls_while_both_sides_spin() {
    let mut caller = Caller::new(LIMIT);
    caller.calls_until_apart(HERE).unwrap();
    let mut reads = 0;
    for _ in 0..1_000 {
        caller.now += Duration::from_micros(2);
        let now = caller.now;
        let spins = caller.policy.begin(|| {
            reads += 1;
            now
        });
        assert!(spins);
        caller.policy.in_time();
    }
    assert!((1..20).contains(&reads), "{reads}");
}

#[test]
fn where_spinning_is_no_faster_it_ends_and_is_tried_ever_more_seldom() {
    let mut caller = Caller::new(LIMIT);
    let calls: Vec<u32> = (0..6)
        .map(|_| {
            let calls = caller.calls_until_apart(HERE).unwrap();
            // As many as it takes to know.
            assert!(caller.answers_until_together(200, 8).is_some());
            calls
        })
        .collect();
    assert!(calls.is_sorted() && calls[5] > 5_000, "{calls:?}");
    // It is faster now.
    caller.calls_until_apart(HERE).unwrap();
    caller.answers_in_time(10_000);
}

#[test]
fn a_pause_is_no_part_of_what_spinning_takes() {
    let mut caller = Caller::new(LIMIT);
    caller.calls_until_apart(HERE).unwrap();
    for _ in 0..10 {
        caller.answers_in_time(100);
        assert!(caller.call_asleep(1_000, ELSEWHERE).callee_spins);
        caller.policy.in_time();
    }
}
