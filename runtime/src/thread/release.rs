//! The end of a lease, from the thread's last steps in it to the report to its owner.

use super::exit::ThreadExit;
use super::pool::Lease;
use super::roster::Roster;
#[cfg(feature = "tokio")]
use crate::sys;
use crate::thread::fate::{Poisoning, RetireReason, ThreadFate, report_poisoning};
use crate::thread::home::Change;
use crate::thread::pinned::{PinnedThread, RestoreOutcome};
use crate::thread::rendezvous::AssistPoint;

/// When to inspect the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspect {
    /// Before the owner is notified, which reports the result.
    Now,
    /// After the owner was notified, or by the owner while it waits.
    Later,
}

/// What a thread leaves behind at the end of its lease, for its owner to report.
#[derive(Debug)]
pub(crate) struct LeaseEnd {
    end: RestoreOutcome,
    changed: Option<Change>,
    /// Of a thread that is not home, or left kernel threads in a namespace, and is to be waited for.
    exit: Option<ThreadExit>,
    thread_id: u32,
}

impl LeaseEnd {
    /// On the pinned thread, when it was not let in.
    pub(crate) fn not_entered(roster: &Roster, thread: &mut PinnedThread) -> LeaseEnd {
        if thread.is_poisoned() {
            return LeaseEnd::restore(roster, thread, Inspect::Later, None);
        }
        LeaseEnd { end: thread.end_lease_not_entered(), changed: None, exit: None, thread_id: thread.id() }
    }

    /// On the pinned thread, when user code has run: goes home, and inspects the thread if that is wanted now.
    pub(crate) fn restore(
        roster: &Roster,
        thread: &mut PinnedThread,
        inspect: Inspect,
        assist_point: Option<&AssistPoint<'_>>,
    ) -> LeaseEnd {
        let assist_point = assist_point.filter(|_| inspect == Inspect::Later && thread.can_be_assisted());
        if let Some(assist_point) = assist_point {
            // The owner, who has nothing else to do, inspects what it can while this thread goes home.
            assist_point.reached(thread.id());
        }
        let end = thread.end_lease();
        let exit = thread.exit_to_wait_for(&end);
        let mut lease_end = LeaseEnd { end, changed: None, exit, thread_id: thread.id() };
        match &lease_end.end {
            RestoreOutcome::Restored => {
                if inspect == Inspect::Now {
                    lease_end.changed = thread.inspect().err();
                    lease_end.changed.inspect(|_| roster.count_retired());
                }
            }
            RestoreOutcome::Asked | RestoreOutcome::Changed(_) => roster.count_retired(),
            RestoreOutcome::Poisoned { .. } => roster.count_poisoned(),
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

    /// Whether a hook is to be called.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_poisoned(&self) -> bool {
        matches!(self.end, RestoreOutcome::Poisoned { .. })
    }

    /// Whether this is the end of a lease of the calling thread, which cannot wait for its own exit.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_of_current_thread(&self) -> bool {
        self.thread_id == sys::current_tid().as_raw().unsigned_abs()
    }

    /// What became of the thread.
    pub(crate) fn fate(&self) -> ThreadFate {
        match &self.end {
            RestoreOutcome::Poisoned { error, .. } => ThreadFate::Retired(RetireReason::Poisoned(error.clone())),
            RestoreOutcome::Asked => ThreadFate::Retired(RetireReason::Asked),
            RestoreOutcome::Changed(change) => ThreadFate::Retired(RetireReason::Changed(*change)),
            RestoreOutcome::Restored => {
                self.changed.map_or(ThreadFate::Reusable, |change| ThreadFate::Retired(RetireReason::Changed(change)))
            }
        }
    }

    /// On the owner's thread: waits until the thread has left the namespace, then reports a failed restore.
    pub(crate) fn report(mut self) -> ThreadFate {
        if let Some(exit) = self.exit.take() {
            exit.wait();
        }
        if let RestoreOutcome::Poisoned { error, .. } = &self.end {
            report_poisoning(&Poisoning { thread_id: self.thread_id, error: error.clone() });
        }
        self.fate()
    }
}
