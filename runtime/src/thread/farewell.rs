//! The end of a lease, from the thread's last steps in it to what its owner is told.

use super::departure::Departure;
use super::pool::{Handed, Lease, Pool};
use crate::fate::{Poisoning, RetireReason, ThreadFate, report_poisoning};
use crate::guard::{End, PinnedThread};
use crate::handover::Halfway;
use crate::home::Change;

/// When to inspect the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspect {
    /// Before the owner is told: it wants to know.
    Now,
    /// When the owner has been told, or by the owner while it waits.
    Later,
}

/// What a thread leaves behind at the end of its lease, for its owner to settle.
#[derive(Debug)]
pub(crate) struct Farewell {
    end: End,
    changed: Option<Change>,
    /// Of a thread that could not be brought home, and is to be waited for.
    departure: Option<Departure>,
    thread_id: u32,
}

impl Farewell {
    /// On the pinned thread, when it was not let in.
    pub(crate) fn at_the_door(thread: &mut PinnedThread) -> Farewell {
        Farewell { end: thread.end_lease_at_the_door(), changed: None, departure: None, thread_id: thread.id() }
    }

    /// On the pinned thread, when user code has run: goes home, and inspects the thread if that is wanted now.
    pub(crate) fn say(
        pool: &Pool,
        thread: &mut PinnedThread,
        inspect: Inspect,
        halfway: Option<&Halfway<'_>>,
    ) -> Farewell {
        let halfway = halfway.filter(|_| inspect == Inspect::Later);
        if let Some(halfway) = halfway {
            // The owner, who has nothing else to do, inspects what it can while this thread goes home.
            halfway.reached(thread.id());
        }
        let end = thread.end_lease();
        let mut farewell = Farewell { end, changed: None, departure: None, thread_id: thread.id() };
        match &farewell.end {
            End::Restored => {
                if inspect == Inspect::Now {
                    farewell.changed = thread.inspect().err();
                    farewell.changed.inspect(|_| pool.count_retired());
                }
            }
            End::Asked => pool.count_retired(),
            End::Poisoned { is_home, .. } => {
                pool.count_poisoned();
                farewell.departure = (!is_home).then(Departure::of_current);
            }
        }
        farewell
    }

    /// Gives the lease back if the thread is fit for another.
    pub(crate) fn end(mut self, lease: Lease, handed: Handed) -> Farewell {
        match (&self.end, self.changed) {
            (End::Restored, None) => self.changed = lease.give_back(handed),
            // Dropped: the thread is leaving.
            _ => drop(lease),
        }
        self
    }

    /// As [`Farewell::settle`], where there is no owner any more, on the thread itself: it cannot wait for its own departure.
    #[cfg(feature = "tokio")]
    pub(crate) fn settle_alone(self) {
        let _ = Farewell { departure: None, ..self }.settle();
    }

    /// On the owner's thread: the namespace is let go of, and then the bad news told, before anything is returned.
    pub(crate) fn settle(self) -> ThreadFate {
        let Farewell { end, changed, departure, thread_id } = self;
        if let Some(departure) = departure {
            departure.wait();
        }
        match end {
            End::Poisoned { error, .. } => {
                report_poisoning(&Poisoning { thread_id, error: error.clone() });
                ThreadFate::Retired(RetireReason::Poisoned(error))
            }
            End::Asked => ThreadFate::Retired(RetireReason::Asked),
            End::Restored => {
                changed.map_or(ThreadFate::Reusable, |change| ThreadFate::Retired(RetireReason::Changed(change)))
            }
        }
    }
}
