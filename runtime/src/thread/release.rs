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

/// The result of a lease, which the thread returns to the owner of the lease to report.
///
/// It is transferred to another processor at the end of each call, so the part that most calls lack is boxed.
#[derive(Debug)]
pub(crate) struct LeaseEnd {
    thread_id: u32,
    /// The change that was found in a thread that is home and was inspected.
    changed: Option<Change>,
    exiting: Option<Box<Exiting>>,
}

/// The part for a thread that exits without an inspection.
#[derive(Debug)]
struct Exiting {
    outcome: RestoreOutcome,
    /// What the owner waits for, where the thread is not home or left kernel threads in a namespace.
    exit: Option<ThreadExit>,
}

impl LeaseEnd {
    /// Ends a lease whose namespace could not be entered. To be called on the pinned thread.
    pub(crate) fn not_entered(roster: &Roster, thread: &mut PinnedThread) -> LeaseEnd {
        if thread.is_poisoned() {
            return LeaseEnd::restore(roster, thread, Inspect::Later, None);
        }
        thread.end_lease_not_entered();
        LeaseEnd { thread_id: thread.id(), changed: None, exiting: None }
    }

    /// Ends a lease during which the thread has lost its privileges: it cannot go home, and exits. To be called on the
    /// pinned thread.
    pub(crate) fn powerless(roster: &Roster, thread: &mut PinnedThread) -> LeaseEnd {
        roster.count_retired();
        thread.end_lease_without_restore();
        let outcome = RestoreOutcome::Changed(Change::Capabilities);
        let exiting = Exiting { outcome, exit: Some(ThreadExit::of_current()) };
        LeaseEnd { thread_id: thread.id(), changed: None, exiting: Some(Box::new(exiting)) }
    }

    /// Ends a lease in which user code has run: goes home, and inspects the thread if `inspect` says so. To be called
    /// on the pinned thread.
    pub(crate) fn restore(
        roster: &Roster,
        thread: &mut PinnedThread,
        inspect: Inspect,
        assist_point: Option<&AssistPoint<'_>>,
    ) -> LeaseEnd {
        let assist_point = assist_point.filter(|_| inspect == Inspect::Later && thread.can_be_assisted());
        if let Some(assist_point) = assist_point {
            // The owner, which only waits, inspects what it can while this thread goes home.
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

    /// Returns the lease to the pool if the thread is fit for another one.
    pub(crate) fn return_lease(mut self, lease: Lease) -> LeaseEnd {
        match (&self.exiting, self.changed) {
            (None, None) => self.changed = lease.end(),
            // Dropping the lease makes the thread exit.
            _ => drop(lease),
        }
        self
    }

    /// Whether the poison hook must be called.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.exiting.as_ref().is_some_and(|exiting| matches!(exiting.outcome, RestoreOutcome::Poisoned { .. }))
    }

    /// Whether this is the end of a lease of the calling thread, which cannot wait for its own exit.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_of_current_thread(&self) -> bool {
        self.thread_id == sys::current_thread_id()
    }

    /// The fate of the thread.
    pub(crate) fn fate(&self) -> ThreadFate {
        let changed = |change| ThreadFate::Retired(RetireReason::Changed(change));
        match self.exiting.as_ref().map(|exiting| &exiting.outcome) {
            None | Some(RestoreOutcome::Restored) => self.changed.map_or(ThreadFate::Reusable, changed),
            Some(RestoreOutcome::Poisoned { error, .. }) => ThreadFate::Retired(RetireReason::Poisoned(error.clone())),
            Some(RestoreOutcome::Asked) => ThreadFate::Retired(RetireReason::Asked),
            Some(RestoreOutcome::Changed(change)) => changed(*change),
        }
    }

    /// Waits until the thread has left the namespace, then calls the poison hook for a failed restore. To be called on
    /// the owner's thread. The fate is in the counters as well.
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
