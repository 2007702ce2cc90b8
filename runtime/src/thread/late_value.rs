//! A value that the caller of a hand-over sends after the job: it finds the value out while the callee begins the job.
//!
//! **Promised:** for each job that is posted with a late value, the caller sends it once, before it waits for the
//! answer. The callee receives the value of its own job and no other: the turns of successive jobs differ.
//!
//! ```text
//! state:  the last turn ─(caller sends)→ this turn
//!         the last turn ─(callee has spun in vain)→ AWAITED ─(caller sends, and wakes it)→ this turn
//! ```
//!
//! **Why:** it takes the caller 0.15 µs to find out its capabilities, and the callee 0.5 µs to enter the namespace. So
//! both happen at once.

use super::spin_policy::SpinLimit;
use crate::sync::{Futex, Ordering, UnsafeCell, spin_loop};

/// The third value of `state`, beside the two turns.
const AWAITED: u32 = 2;

/// A type of late values.
pub(crate) trait Late: Copy + Default + Send {}

impl<L: Copy + Default + Send> Late for L {}

/// The place of the late value, which both sides share.
pub(crate) struct LatePlace<L> {
    /// The turn of the last value that was sent, or [`AWAITED`].
    state: Futex,
    value: UnsafeCell<L>,
}

/// Which of two successive jobs a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(bool);

impl Turn {
    /// The turn before the first job, and of requests without a late value.
    pub(crate) const NONE: Turn = Turn(false);

    fn next(self) -> Turn {
        Turn(!self.0)
    }

    fn state(self) -> u32 {
        u32::from(self.0)
    }
}

impl<L: Late> LatePlace<L> {
    pub(crate) fn new() -> LatePlace<L> {
        LatePlace { state: Futex::new(Turn::NONE.state()), value: UnsafeCell::new(L::default()) }
    }

    /// The caller's side, while nothing is posted: the turn of the next value.
    pub(crate) fn next_turn(&self) -> Turn {
        Turn(self.state.load(Ordering::Relaxed) == Turn::NONE.state())
    }

    /// The caller's side: sends the value of this turn.
    ///
    /// # Safety
    ///
    /// The calling side is the caller. The turn is the next one, and the callee has answered all jobs of those before.
    pub(crate) unsafe fn send(&self, turn: Turn, value: L) {
        // SAFETY: the callee reads it after the swap below, and read the last one before it answered.
        self.value.with_mut(|place| unsafe { *place = value });
        if self.state.swap(turn.state(), Ordering::AcqRel) == AWAITED {
            self.state.wake();
        }
    }

    /// The callee's side: waits for the value of this turn.
    ///
    /// # Safety
    ///
    /// The calling side is the callee, which runs the job of this turn. That was posted with a late value.
    unsafe fn receive(&self, turn: Turn, SpinLimit(limit): SpinLimit) -> L {
        let LatePlace { state, value } = self;
        let is_sent = || state.load(Ordering::Acquire) == turn.state();
        let spun = (0..limit).any(|_| {
            let sent = is_sent();
            if !sent {
                spin_loop();
            }
            sent
        });
        // Otherwise the caller was interrupted.
        if !spun && state.compare_exchange(turn.next().state(), AWAITED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            while state.load(Ordering::Acquire) == AWAITED {
                state.wait(AWAITED, None);
            }
        }
        // SAFETY: it was sent, and the caller sends the next one after the answer to this job.
        value.with_mut(|value| unsafe { *value })
    }
}

/// What a job receives of its caller.
pub(crate) struct LateValue<'c, L> {
    place: &'c LatePlace<L>,
    turn: Turn,
    limit: SpinLimit,
}

impl<'c, L: Late> LateValue<'c, L> {
    /// # Safety
    ///
    /// It is used by the callee alone, while it runs the job of this turn, which was posted with a late value.
    pub(crate) unsafe fn new(place: &'c LatePlace<L>, turn: Turn, limit: SpinLimit) -> LateValue<'c, L> {
        LateValue { place, turn, limit }
    }

    /// Waits for the value. The caller has sent it, or is about to.
    pub(crate) fn receive(&self) -> L {
        // SAFETY: by the contract of `new`.
        unsafe { self.place.receive(self.turn, self.limit) }
    }
}
