//! What becomes of a thread after a call, and who is told when that is bad news.

use std::fmt;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Error;
use crate::home::Change;

/// What becomes of the pinned thread that ran a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ThreadFate {
    /// Restored and pristine: another call may get it.
    Reusable,
    /// It runs no other work, and exits.
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

/// A thread whose restore failed, as the poison hook is told.
#[derive(Clone, Debug)]
pub struct Poisoning {
    pub(crate) thread_id: u32,
    pub(crate) error: Error,
}

impl Poisoning {
    /// The kernel's id of the thread, as in `/proc/self/task`. The thread is gone, or at home and about to exit.
    #[must_use]
    pub fn thread_id(&self) -> u32 {
        self.thread_id
    }

    /// Why it could not go back.
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

type Hook = Arc<dyn Fn(&Poisoning) + Send + Sync>;

static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

/// Sets what is called when a thread could not be restored. Without a hook, one line goes to stderr.
///
/// The hook runs on the thread that made the call, before the call returns, and after the poisoned thread has let go of the
/// namespace. A panic in it goes no further than its message.
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
    let hook: Hook = Arc::new(hook);
    let before = HOOK.write().unwrap_or_else(PoisonError::into_inner).replace(hook);
    // Its destructor is somebody else's code: not under the lock.
    drop(before);
}

/// Tells whoever wants to know.
pub(crate) fn report_poisoning(poisoning: &Poisoning) {
    let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
    match hook {
        // The call has a value or a panic to deliver, and the hook is not to hide it.
        Some(hook) => drop(panic::catch_unwind(AssertUnwindSafe(|| hook(poisoning)))),
        // Not `eprintln!`, which panics where stderr is closed.
        None => drop(writeln!(io::stderr(), "{poisoning}")),
    }
}
