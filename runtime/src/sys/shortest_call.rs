//! The time of the shortest system call on this machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::current_tid;

/// A time that is too short for a system call on this machine: half of the shortest measured call, plus the time of the
/// clock itself.
///
/// A body that takes less, such as one that reads a cached value, needs no inspection: attributes that only a system
/// call changes have not changed.
///
/// **Why bounds:** system calls may be slower when they are measured than later: under a tracer or a security monitor
/// that is detached afterwards, or on a processor that has yet to raise its clock rate. So the measured time is
/// limited, and each inspection measures again.
pub(crate) struct ShortestCall {
    nanos: AtomicU64,
}

impl ShortestCall {
    /// An upper bound of the time of the clock where reading it is no system call.
    const LONGEST_CLOCK: Duration = Duration::from_nanos(100);

    /// Half the time of the cheapest system call on most machines.
    const LONGEST: Duration = Duration::from_nanos(50);

    pub(crate) fn measure() -> ShortestCall {
        const TRIES: u32 = 200;
        let shortest = |time: fn() -> Duration| (0..TRIES).map(|_| time()).min().unwrap_or_default();
        let time = Self::between(shortest(time_of_clock), shortest(time_of_call));
        ShortestCall { nanos: AtomicU64::new(time.unwrap_or(0)) }
    }

    /// Measures again. A longer time, as after a preemption, changes nothing.
    pub(crate) fn measure_again(&self) {
        if let Some(time) = Self::between(time_of_clock(), time_of_call()) {
            self.nanos.fetch_min(time, Ordering::Relaxed);
        }
    }

    /// The time, given those of the clock and of a system call. `None` where the clock takes too long.
    fn between(clock: Duration, call: Duration) -> Option<u64> {
        let time = clock + (call.saturating_sub(clock) / 2).min(Self::LONGEST);
        if clock <= Self::LONGEST_CLOCK { time.as_nanos().try_into().ok() } else { None }
    }

    /// Whether a body that took `time` has made no system call.
    pub(crate) fn is_longer_than(&self, time: Duration) -> bool {
        time.as_nanos() < u128::from(self.nanos.load(Ordering::Relaxed))
    }
}

fn time_of_clock() -> Duration {
    let start = Instant::now();
    start.elapsed()
}

/// The time of the cheapest system call that the C library does not answer itself.
fn time_of_call() -> Duration {
    let start = Instant::now();
    let _ = current_tid();
    start.elapsed()
}
