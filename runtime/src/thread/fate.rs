//! What happens to a thread after a call, and the hook that reports a failed restore.

use std::fmt;

use crate::error::Error;
use crate::hook::{Event, Hook};
use crate::thread::home::Change;

/// What happened to the pinned thread that ran a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ThreadFate {
    /// It is restored and pristine: another call may use it.
    Reusable,
    /// It runs no further call, and exits.
    Retired(RetireReason),
}

/// Why a thread is not used again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RetireReason {
    /// Its restore failed, with this error.
    Poisoned(Error),
    /// The closure changed something that no restore undoes.
    Changed(Change),
    /// [`retire`](crate::PinnedThread::retire) or [`retire_current_thread`](crate::retire_current_thread) was called.
    Asked,
    /// It was made for this call alone ([`Call::fresh`](crate::Call::fresh)), and nothing is wrong with it.
    Fresh,
}

impl fmt::Display for RetireReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetireReason::Poisoned(error) => write!(out, "poisoned: {error}"),
            RetireReason::Changed(change) => change.fmt(out),
            RetireReason::Asked => out.write_str("it was asked to retire"),
            RetireReason::Fresh => out.write_str("it was made for one call"),
        }
    }
}

/// A thread whose restore failed, as passed to the poison hook.
#[derive(Clone, Debug)]
pub struct Poisoning {
    pub(crate) thread_id: u32,
    pub(crate) error: Error,
}

impl Poisoning {
    /// The kernel's id of the thread, as in `/proc/self/task`. The thread has exited, or is at home and about to exit.
    #[must_use]
    pub fn thread_id(&self) -> u32 {
        self.thread_id
    }

    /// The error of the restore.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for Poisoning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "in-netns: thread {} is poisoned and will not be used again: {}", self.thread_id, self.error)
    }
}

impl Event for Poisoning {
    #[cfg(feature = "tracing")]
    fn emit(&self) {
        let Poisoning { thread_id, error } = self;
        tracing::error!(thread_id, %error, "a thread is poisoned and will not be used again");
    }
}

static HOOK: Hook<Poisoning> = Hook::new();

/// Sets the hook that is called when a thread could not be restored. Without a hook, one line is written to stderr.
/// With feature `tracing`, an event of level `ERROR` is emitted in addition.
///
/// The hook runs after the poisoned thread has left the namespace. A panic in the hook has no other effect than its
/// message. Where it runs:
///
/// - A synchronous call, or an async one that is awaited: on the thread that made the call, or that polls its future,
///   before the call returns or its future is ready.
/// - An async call that is no longer awaited (a future that was dropped before its end, a `JoinHandle` that was
///   dropped): soon after, on a pinned thread at home that does nothing else and exits afterwards. If none can be
///   started then, the hook waits for a later call that can start one.
///
/// It never runs on the poisoned thread.
///
/// ```
/// in_netns::set_poison_hook(|poisoning| {
///     eprintln!("lost thread {}: {}", poisoning.thread_id(), poisoning.error());
/// });
/// ```
pub fn set_poison_hook<F>(hook: F)
where
    F: Fn(&Poisoning) + Send + Sync + 'static,
{
    HOOK.set(hook);
}

/// Calls the poison hook.
pub(crate) fn report_poisoning(poisoning: &Poisoning) {
    HOOK.notify(poisoning);
}
