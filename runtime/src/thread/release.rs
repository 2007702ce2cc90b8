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
///
/// It crosses to another processor at the end of each call, so what most calls lack is elsewhere.
#[derive(Debug)]
pub(crate) struct LeaseEnd {
    thread_id: u32,
    /// Of a thread that is home, and was inspected.
    changed: Option<Change>,
    exiting: Option<Box<Exiting>>,
}

/// Of a thread that exits, without an inspection.
#[derive(Debug)]
struct Exiting {
    outcome: RestoreOutcome,
    /// Of a thread that is not home, or left kernel threads in a namespace, and is to be waited for.
    exit: Option<ThreadExit>,
}

impl LeaseEnd {
    /// On the pinned thread, when it was not let in.
    pub(crate) fn not_entered(roster: &Roster, thread: &mut PinnedThread) -> LeaseEnd {
        if thread.is_poisoned() {
            return LeaseEnd::restore(roster, thread, Inspect::Later, None);
        }
        thread.end_lease_not_entered();
        LeaseEnd { thread_id: thread.id(), changed: None, exiting: None }
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
        let outcome = thread.end_lease();
        let mut lease_end = LeaseEnd { thread_id: thread.id(), changed: None, exiting: None };
        match outcome {
            RestoreOutcome::Restored => {
                if inspect == Inspect::Now {
                    lease_end.changed = thread.inspect().err();
                    lease_end.changed.inspect(|_| roster.count_retired());
                }
                return lease_end;
            }
            RestoreOutcome::Asked | RestoreOutcome::Changed(_) => roster.count_retired(),
            RestoreOutcome::Poisoned { .. } => roster.count_poisoned(),
        }
        let exit = thread.exit_to_wait_for(&outcome);
        lease_end.exiting = Some(Box::new(Exiting { outcome, exit }));
        lease_end
    }

    /// Gives the lease back if the thread is fit for another.
    pub(crate) fn return_lease(mut self, lease: Lease) -> LeaseEnd {
        match (&self.exiting, self.changed) {
            (None, None) => self.changed = lease.end(),
            // Dropped: the thread is leaving.
            _ => drop(lease),
        }
        self
    }

    /// Whether a hook is to be called.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.exiting.as_ref().is_some_and(|exiting| matches!(exiting.outcome, RestoreOutcome::Poisoned { .. }))
    }

    /// Whether this is the end of a lease of the calling thread, which cannot wait for its own exit.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_of_current_thread(&self) -> bool {
        self.thread_id == sys::current_tid().as_raw().unsigned_abs()
    }

    /// What became of the thread.
    pub(crate) fn fate(&self) -> ThreadFate {
        let changed = |change| ThreadFate::Retired(RetireReason::Changed(change));
        match self.exiting.as_ref().map(|exiting| &exiting.outcome) {
            None | Some(RestoreOutcome::Restored) => self.changed.map_or(ThreadFate::Reusable, changed),
            Some(RestoreOutcome::Poisoned { error, .. }) => ThreadFate::Retired(RetireReason::Poisoned(error.clone())),
            Some(RestoreOutcome::Asked) => ThreadFate::Retired(RetireReason::Asked),
            Some(RestoreOutcome::Changed(change)) => changed(*change),
        }
    }

    /// On the owner's thread: waits until the thread has left the namespace, then reports a failed restore.
    pub(crate) fn report(mut self) -> ThreadFate {
        if let Some(Exiting { outcome, exit }) = self.exiting.as_deref_mut() {
            if let Some(exit) = exit.take() {
                exit.wait();
            }
            if let RestoreOutcome::Poisoned { error, .. } = outcome {
                report_poisoning(&Poisoning { thread_id: self.thread_id, error: error.clone() });
            }
        }
        self.fate()
    }
}
