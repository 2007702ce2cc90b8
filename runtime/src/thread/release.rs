//! The end of a lease, from the thread's last steps in it to what its owner is told.

use super::exit::ThreadExit;
use super::pool::Lease;
use super::roster::Roster;
use crate::thread::fate::{Poisoning, RetireReason, ThreadFate, report_poisoning};
use crate::thread::home::Change;
use crate::thread::pinned::{PinnedThread, RestoreOutcome};
use crate::thread::rendezvous::AssistPoint;

/// When to inspect the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspect {
    /// Before the owner is told: it wants to know.
    Now,
    /// When the owner has been told, or by the owner while it waits.
    Later,
}

/// What a thread leaves behind at the end of its lease, for its owner to report.
#[derive(Debug)]
pub(crate) struct LeaseEnd {
    end: RestoreOutcome,
    changed: Option<Change>,
    /// Of a thread that could not be brought home, and is to be waited for.
    exit: Option<ThreadExit>,
    thread_id: u32,
}

impl LeaseEnd {
    /// On the pinned thread, when it was not let in.
    pub(crate) fn not_entered(thread: &mut PinnedThread) -> LeaseEnd {
        LeaseEnd { end: thread.end_lease_not_entered(), changed: None, exit: None, thread_id: thread.id() }
    }

    /// On the pinned thread, when user code has run: goes home, and inspects the thread if that is wanted now.
    pub(crate) fn restore(
        roster: &Roster,
        thread: &mut PinnedThread,
        inspect: Inspect,
        assist_point: Option<&AssistPoint<'_>>,
    ) -> LeaseEnd {
        let assist_point = assist_point.filter(|_| inspect == Inspect::Later);
        if let Some(assist_point) = assist_point {
            // The owner, who has nothing else to do, inspects what it can while this thread goes home.
            assist_point.reached(thread.id());
        }
        let end = thread.end_lease();
        let mut lease_end = LeaseEnd { end, changed: None, exit: None, thread_id: thread.id() };
        match &lease_end.end {
            RestoreOutcome::Restored => {
                if inspect == Inspect::Now {
                    lease_end.changed = thread.inspect().err();
                    lease_end.changed.inspect(|_| roster.count_retired());
                }
            }
            RestoreOutcome::Asked => roster.count_retired(),
            RestoreOutcome::Poisoned { is_home, .. } => {
                roster.count_poisoned();
                lease_end.exit = (!is_home).then(ThreadExit::of_current);
            }
        }
        lease_end
    }

    /// Gives the lease back if the thread is fit for another.
    pub(crate) fn return_lease(mut self, lease: Lease) -> LeaseEnd {
        match (&self.end, self.changed) {
            (RestoreOutcome::Restored, None) => self.changed = lease.end(),
            // Dropped: the thread is leaving.
            _ => drop(lease),
        }
        self
    }

    /// As [`LeaseEnd::report`], where there is no owner any more, on the thread itself: it cannot wait for its own exit.
    #[cfg(feature = "tokio")]
    pub(crate) fn report_detached(self) {
        let _ = LeaseEnd { exit: None, ..self }.report();
    }

    /// On the owner's thread: the namespace is let go of, and then the bad news told, before anything is returned.
    pub(crate) fn report(self) -> ThreadFate {
        let LeaseEnd { end, changed, exit, thread_id } = self;
        if let Some(exit) = exit {
            exit.wait();
        }
        match end {
            RestoreOutcome::Poisoned { error, .. } => {
                report_poisoning(&Poisoning { thread_id, error: error.clone() });
                ThreadFate::Retired(RetireReason::Poisoned(error))
            }
            RestoreOutcome::Asked => ThreadFate::Retired(RetireReason::Asked),
            RestoreOutcome::Restored => {
                changed.map_or(ThreadFate::Reusable, |change| ThreadFate::Retired(RetireReason::Changed(change)))
            }
        }
    }
}
