//! The audit of a call: which threads that it started are still in its namespace when it has ended.
//!
//! **Promised:** a [`Stray`] appeared during the call, is in the call's namespace when the call's own thread has left it, and is
//! not about to exit. It is blamed on the call for certain if it carries the call's mark.
//!
//! **Repr a mark:** the kernel does not tell which thread started a thread, and another call may be under way in the same
//! namespace. But a thread inherits its timer slack (`PR_SET_TIMERSLACK`), in nanoseconds, from the one that started it, and so
//! from one generation to the next. So for the length of an audited body its thread has a slack that no other call's has: a
//! little shorter than before, which makes no timer later. `/proc/TID/timerslack_ns` shows it to whoever has `CAP_SYS_NICE`; without,
//! or where a slack cannot be set (a real-time thread), a stray is reported as possible.
//!
//! **What breaks otherwise:** counting threads blames a call for what its neighbour did, and a joined thread is seen for a moment
//! after `join` has returned: the kernel wakes the joiner before it takes the thread away. Such a one says that it is
//! exiting (`PF_EXITING`). A scoped thread may not be so far: `std::thread::scope` waits for its closure, and not for the
//! destructors of its thread-locals. So whoever is awake is given a moment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::hook::{Event, Hook};
use crate::netns::{NetNs, NetNsId};
use crate::sys::{self, TaskState};
use crate::thread::Pool;

/// Where the kernel shows this process.
const PROCESS: &str = "/proc/self";

/// How long a thread that is awake may take to go.
const GRACE: Duration = Duration::from_millis(100);

/// The time between two looks at such a thread.
const PAUSE: Duration = Duration::from_micros(500);

/// So often in a row is a thread found asleep that is not about to exit.
const LOOKS: u32 = 3;

/// A thread that was started inside a call, and is still in the call's namespace when the call has ended.
///
/// It keeps the namespace alive. [`Call::audit`](crate::Call::audit) finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stray {
    /// The kernel's id of the thread, as in `/proc/self/task`.
    pub thread_id: u32,
    /// Its name, as `/proc/self/task/TID/comm` has it: 15 bytes at most.
    pub name: String,
    /// The namespace that it is in.
    pub netns: NetNsId,
    /// Whether the call is known to have started it, or a thread that it started. `false`: it appeared during the call, and may be
    /// another call's or somebody else's.
    pub certain: bool,
}

impl fmt::Display for Stray {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stray { thread_id, name, netns, certain } = self;
        let whose = if *certain { "was started in a call and outlives it" } else { "may have been started in a call" };
        write!(
            out,
            "in-netns: thread {thread_id} `{name}` {whose}, and is still in {netns}: join it in the call, or start it at home first"
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

/// Sets what is called for each stray that an audit finds. Without a hook, one line goes to stderr. With feature `tracing` there
/// is an event of level `WARN` besides.
///
/// The hook runs on the thread that made the call, before the call returns; or, where an async call is no longer awaited, on a thread
/// at home, as that of [`set_poison_hook`](crate::set_poison_hook). A panic in it goes no further than its message.
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
    /// Tells whoever wants to know. On the thread that made the call, where there is one.
    pub(crate) fn notify(strays: &[Stray]) {
        for stray in strays {
            HOOK.notify(stray);
        }
    }
}

/// An audit under way.
pub(crate) struct Audit {
    target: NetNs,
    /// The threads that were there before, sorted.
    before: Vec<u32>,
    /// The mark of the call; 0 where it has none.
    mark: AtomicU64,
}

impl Audit {
    /// Before the call; or on its own thread, before the body.
    pub(crate) fn begin(target: &NetNs) -> Audit {
        // One look will do: a thread that it lacks is looked at in vain later, for it has not the call's mark. (Where marks cannot be
        // read, it may be told of as possible.) Where `/proc` does not tell, everything is new.
        let before = sys::threads_at_a_look(Path::new(PROCESS)).unwrap_or_default();
        Audit { target: target.clone(), before, mark: AtomicU64::new(0) }
    }

    /// Marks the calling thread, until the result is dropped.
    pub(crate) fn mark_current(&self) -> MarkGuard {
        let mark = |before| {
            let mark = next_mark(before)?;
            sys::set_timer_slack(mark).ok()?;
            // Of a real-time thread the kernel says that it did, and does not.
            let is_set = sys::timer_slack() == Ok(mark);
            self.mark.store(if is_set { mark } else { 0 }, Ordering::Relaxed);
            Some(before)
        };
        MarkGuard { before: sys::timer_slack().ok().and_then(mark) }
    }

    /// When the call's own thread has left the namespace, or was there at the beginning.
    pub(crate) fn end(self) -> Vec<Stray> {
        let now = sys::threads_of(Path::new(PROCESS)).unwrap_or_default();
        let appeared = now.into_iter().filter(|thread| self.before.binary_search(thread).is_err());
        let mut candidates: Vec<Candidate> = appeared.filter_map(|thread| self.candidate(thread)).collect();
        let mut strays = Vec::new();
        let start = Instant::now();
        while !candidates.is_empty() {
            let in_time = start.elapsed() < GRACE;
            candidates.retain_mut(|candidate| {
                if !self.is_in_target(candidate.thread) {
                    return false;
                }
                match sys::task_state(candidate.thread) {
                    None | Some(TaskState::Exiting) => return false,
                    Some(TaskState::Awake) => candidate.asleep = 0,
                    Some(TaskState::Asleep) => candidate.asleep += 1,
                }
                let may_go = in_time && candidate.asleep < LOOKS;
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

    /// A thread that this call may have to answer for.
    fn candidate(&self, thread: u32) -> Option<Candidate> {
        if !self.is_in_target(thread) {
            return None;
        }
        let certain = match (self.mark.load(Ordering::Relaxed), sys::timer_slack_of(thread)) {
            (mark, Ok(slack)) if mark != 0 => (slack == mark).then_some(true)?,
            // Without a mark to go by. One of this crate's own is there for another call.
            _ => (!Pool::of_process().roster.is_registered(thread)).then_some(false)?,
        };
        Some(Candidate { thread, certain, asleep: 0 })
    }

    fn stray(&self, candidate: &Candidate) -> Option<Stray> {
        let name = sys::task_name(&directory_of(candidate.thread)).ok()?;
        Some(Stray { thread_id: candidate.thread, name, netns: self.target.id(), certain: candidate.certain })
    }

    fn is_in_target(&self, thread: u32) -> bool {
        let id = self.target.id();
        sys::net_of_task(&directory_of(thread)).is_ok_and(|there| there == (id.device(), id.inode()))
    }
}

struct Candidate {
    thread: u32,
    certain: bool,
    /// How often in a row it was found asleep.
    asleep: u32,
}

/// A thread that carries its call's mark. Dropping it takes the mark off.
pub(crate) struct MarkGuard {
    before: Option<u64>,
}

impl Drop for MarkGuard {
    fn drop(&mut self) {
        // The same call has worked before.
        let _ = self.before.map(sys::set_timer_slack);
    }
}

/// A timer slack that no other call has now: one of the 25,000 below the usual one of 50 µs, in turn.
///
/// `None` where the slack is so short that there is no room below it.
fn next_mark(before: u64) -> Option<u64> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    const ROOM: u64 = 1_000;
    (before >= ROOM).then(|| before - 1 - LAST.fetch_add(1, Ordering::Relaxed) % (before / 2))
}

fn directory_of(thread: u32) -> PathBuf {
    PathBuf::from(format!("{PROCESS}/task/{thread}"))
}
