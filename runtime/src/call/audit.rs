//! The audit of a call: finds the threads that the call started and that are still in its namespace when it ends.
//!
//! **Promised:** a [`Stray`] appeared during the call, is in the call's namespace after the call's own thread has left
//! it, and is not about to exit. It is attributed to the call with certainty if it carries the call's mark.
//!
//! **Why a mark:** the kernel does not record which thread started a thread, and another call may run in the same
//! namespace at the same time. But a thread inherits the timer slack (`PR_SET_TIMERSLACK`, in nanoseconds) of the
//! thread that started it. So while an audited body runs, its thread has a slack that no other call uses: a little
//! shorter than before, so that no timer fires later. `/proc/TID/timerslack_ns` shows the slack to a thread with
//! `CAP_SYS_NICE`. Without that capability, or if the slack cannot be set (a real-time thread), a stray is reported as
//! possible.
//!
//! **What breaks otherwise:** counting threads would attribute the threads of a concurrent call to this one. A joined
//! thread is still listed for a moment after `join` returns, because the kernel wakes the joiner before it removes the
//! thread. Such a thread is marked as exiting (`PF_EXITING`). A scoped thread may not have reached that point:
//! `std::thread::scope` waits for its closure, but not for the destructors of its thread-locals. So a thread that is
//! awake gets a grace period.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::hook::{Event, Hook};
use crate::netns::{NetNs, NetNsId};
use crate::sys::{self, Kind, Numbering, ProcTask, TaskState};
use crate::thread::Pool;

/// The number of checks after which a thread that is awake is reported: it gets 100 ms to exit.
///
/// **Why no point in time:** the process may be stopped meanwhile (`SIGSTOP`, the freezer of a cgroup, a debugger), and
/// the time goes on.
const MOST_LOOKS: u32 = 200;

/// The time between two checks of such a thread.
const PAUSE: Duration = Duration::from_micros(500);

/// The number of consecutive checks that find a thread asleep before it is reported.
const LOOKS: u32 = 3;

/// A thread that was started inside a call, and is still in the call's namespace when the call has ended.
///
/// It keeps the namespace alive. [`Call::audit`](crate::Call::audit) finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stray {
    /// The kernel's id of the thread, as in `/proc/self/task`.
    pub thread_id: u32,
    /// Its name, as in `/proc/self/task/TID/comm`: at most 15 bytes.
    pub name: String,
    /// The namespace that it is in.
    pub netns: NetNsId,
    /// Whether the call is known to have started it, directly or through another thread. If `false`, the thread
    /// appeared during the call, but may belong to another call or to other code.
    pub certain: bool,
}

impl fmt::Display for Stray {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stray { thread_id, name, netns, certain } = self;
        let whose = if *certain { "was started in a call and outlives it" } else { "may have been started in a call" };
        write!(
            out,
            "in-netns: thread {thread_id} `{name}` {whose}, and is still in {netns}: join it in the call, or start \
             it at home first"
        )
    }
}

impl Event for Stray {
    #[cfg(feature = "tracing")]
    fn emit(&self) {
        let Stray { thread_id, name, netns, certain } = self;
        tracing::warn!(thread_id, name, %netns, certain, "a thread outlives the call that it was started in");
    }
}

static HOOK: Hook<Stray> = Hook::new();

/// Sets the hook that is called for each stray that an audit finds. Without a hook, one line is written to stderr. With
/// feature `tracing`, an event of level `WARN` is emitted in addition.
///
/// The hook runs on the thread that made the call, before the call returns; or, where an async call is no longer
/// awaited, on a thread at home, as that of [`set_poison_hook`](crate::set_poison_hook). A panic in it goes no further
/// than its message.
///
/// ```
/// in_netns::set_stray_hook(|stray| {
///     eprintln!("thread {} ({}) stays behind in {}", stray.thread_id, stray.name, stray.netns);
/// });
/// ```
pub fn set_stray_hook<F>(hook: F)
where
    F: Fn(&Stray) + Send + Sync + 'static,
{
    HOOK.set(hook);
}

impl Stray {
    /// Calls the stray hook, on the thread that made the call if there is one.
    pub(crate) fn notify(strays: &[Stray]) {
        for stray in strays {
            HOOK.notify(stray);
        }
    }
}

/// An audit in progress.
pub(crate) struct Audit {
    target: NetNs,
    /// The threads that existed before the call, sorted.
    before: Vec<u32>,
    /// The mark of the call, or 0 if it has none.
    mark: AtomicU64,
}

impl Audit {
    /// Starts an audit: before the call, or on the call's own thread before the body.
    pub(crate) fn begin(target: &NetNs) -> Audit {
        // One listing is enough. A thread that it misses does not have the call's mark, so it is not reported. (If
        // marks cannot be read, it may be reported as possible.) If `/proc` cannot be read, every thread counts as new.
        let before = sys::list_threads_once(ProcTask::Leader.proc_path()).unwrap_or_default();
        Audit { target: target.clone(), before, mark: AtomicU64::new(0) }
    }

    /// Marks the calling thread, until the result is dropped.
    pub(crate) fn mark_current(&self) -> MarkGuard {
        let mark = |before| {
            let mark = next_mark(before)?;
            sys::set_timer_slack(mark).ok()?;
            // For a real-time thread, the kernel reports success but does not set the slack.
            let is_set = sys::timer_slack() == Ok(mark);
            self.mark.store(if is_set { mark } else { 0 }, Ordering::Relaxed);
            Some(before)
        };
        MarkGuard { before: sys::timer_slack().ok().and_then(mark) }
    }

    /// Ends the audit. The call's own thread has left the namespace, or was in it at the beginning.
    pub(crate) fn end(self) -> Vec<Stray> {
        let now = sys::threads_of(ProcTask::Leader.proc_path()).unwrap_or_default();
        let appeared = now.into_iter().filter(|thread| self.before.binary_search(thread).is_err());
        let mut candidates: Vec<Candidate> = appeared.filter_map(|thread| self.candidate(thread)).collect();
        let mut strays = Vec::new();
        let mut looks = 0;
        while !candidates.is_empty() {
            looks += 1;
            candidates.retain_mut(|candidate| {
                if !self.is_in_target(candidate.thread) {
                    return false;
                }
                match sys::task_state(candidate.thread) {
                    None | Some(TaskState::Exiting) => return false,
                    Some(TaskState::Awake) => candidate.asleep = 0,
                    Some(TaskState::Asleep) => candidate.asleep += 1,
                }
                let may_go = looks < MOST_LOOKS && candidate.asleep < LOOKS;
                if !may_go {
                    strays.extend(self.stray(candidate));
                }
                may_go
            });
            if !candidates.is_empty() {
                thread::sleep(PAUSE);
            }
        }
        strays
    }

    /// Returns the thread if this call may have started it.
    fn candidate(&self, thread: u32) -> Option<Candidate> {
        if !self.is_in_target(thread) {
            return None;
        }
        let certain = match (self.mark.load(Ordering::Relaxed), sys::timer_slack_of(thread)) {
            (mark, Ok(slack)) if mark != 0 => (slack == mark).then_some(true)?,
            // There is no mark to compare. A thread of this crate belongs to another call.
            _ => {
                let id = Numbering::of_proc().ok()?.id_of(thread)?;
                (!Pool::of_process().roster.is_registered(id)).then_some(false)?
            }
        };
        Some(Candidate { thread, certain, asleep: 0 })
    }

    fn stray(&self, candidate: &Candidate) -> Option<Stray> {
        let name = sys::task_name(&sys::directory_of_task(candidate.thread)).ok()?;
        Some(Stray { thread_id: candidate.thread, name, netns: self.target.id(), certain: candidate.certain })
    }

    fn is_in_target(&self, thread: u32) -> bool {
        let net = Kind::Net.file_in(&sys::directory_of_task(thread));
        sys::identity_of(&net) == Ok(self.target.id().device_and_inode())
    }
}

struct Candidate {
    thread: u32,
    certain: bool,
    /// The number of consecutive checks that found it asleep.
    asleep: u32,
}

/// A thread that carries its call's mark. Dropping the guard removes the mark.
pub(crate) struct MarkGuard {
    before: Option<u64>,
}

impl Drop for MarkGuard {
    fn drop(&mut self) {
        // Cannot fail: the same call succeeded before.
        let _ = self.before.map(sys::set_timer_slack);
    }
}

/// Returns a timer slack that no other call uses now: one of the 25,000 values below the default of 50 µs, in turn.
///
/// Returns `None` if the slack is so short that there is no room below it.
fn next_mark(before: u64) -> Option<u64> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    const ROOM: u64 = 1_000;
    (before >= ROOM).then(|| before - 1 - LAST.fetch_add(1, Ordering::Relaxed) % (before / 2))
}
