//! What a body may do: what the process may do at the moment of the call.
//!
//! **Promised:** a pooled thread has, when the body begins, the capabilities that the calling thread has now or the
//! main thread has now, and no others. A process that has changed its ids or its capabilities since its first call gets
//! what it would get by hand. What a thread gives up for itself alone, and the main thread has still, its calls on
//! pooled threads have.
//!
//! **Why this mechanism:** capabilities belong to a thread, like namespaces, and no thread can change those of another.
//! The C library changes user ids on all threads, and thereby takes capabilities from the pinned ones; capset(2) is for
//! the calling thread alone. So the caller says what it has, and the worker takes it on. What a worker has lost for
//! good it cannot take on: then it exits, and another takes its place, cloned from a template that the calling thread
//! has started anew if the template has lost it too.
//!
//! **What it costs:** one `capget` of the caller before it posts the job, 0.2 to 0.35 µs. Done beside the worker, whose
//! spinning then takes the words from the caller's cache, it cost 1.7 µs.
//!
//! **What breaks otherwise:** a daemon that drops root, and keeps `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, could make no
//! call any more (the C library had taken everything from the pool); one that lowers its capabilities would have bodies
//! that still have them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use crate::sys::{self, Capabilities, Kind, ProcTask};

/// What the calling thread has, for the pinned thread to take on. The two sides share it for the length of a call.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// One of the three below.
    state: AtomicU32,
    effective: AtomicU64,
    permitted: AtomicU64,
    inheritable: AtomicU64,
}

const UNKNOWN: u32 = 0;
const KNOWN: u32 = 1;
/// A seccomp filter refuses `capget(2)`: the pinned thread stays as it is.
const UNAVAILABLE: u32 = 2;

impl Allowance {
    /// One to be found out by [`Allowance::look`].
    pub(crate) fn unknown() -> Allowance {
        Allowance::default()
    }

    /// What the calling thread has now.
    pub(crate) fn of_caller() -> Allowance {
        let allowance = Allowance::unknown();
        allowance.look();
        allowance
    }

    /// On the caller's thread: finds out, if that is not done yet.
    pub(crate) fn look(&self) {
        if self.state.load(Ordering::Relaxed) == UNKNOWN {
            match sys::capabilities_of_current() {
                Ok(mine) => self.set(mine),
                Err(_) => self.state.store(UNAVAILABLE, Ordering::Release),
            }
        }
    }

    /// On the pinned thread: what it has taken on, for the caller to know.
    pub(super) fn set(&self, capabilities: Capabilities) {
        let Capabilities { effective, permitted, inheritable } = capabilities;
        self.effective.store(effective, Ordering::Relaxed);
        self.permitted.store(permitted, Ordering::Relaxed);
        self.inheritable.store(inheritable, Ordering::Relaxed);
        self.state.store(KNOWN, Ordering::Release);
    }

    /// On any thread, once the caller has looked or is about to. `None` where it cannot look.
    pub(crate) fn wait(&self) -> Option<Capabilities> {
        /// More than enough for a caller that is awake.
        const SPINS: u32 = 10_000;
        let mut spins = 0;
        loop {
            match self.state.load(Ordering::Acquire) {
                UNKNOWN if spins < SPINS => {
                    spins += 1;
                    std::hint::spin_loop();
                }
                UNKNOWN => thread::yield_now(),
                UNAVAILABLE => return None,
                _ => break,
            }
        }
        Some(Capabilities {
            effective: self.effective.load(Ordering::Relaxed),
            permitted: self.permitted.load(Ordering::Relaxed),
            inheritable: self.inheritable.load(Ordering::Relaxed),
        })
    }
}

/// What the process has, when this is what one of its threads has: that, and what the main thread has.
pub(super) fn of_process(thread: Capabilities) -> Capabilities {
    // A main thread that has exited keeps, to the kernel, what it had at its end.
    let exited = sys::namespace_of(ProcTask::Leader, Kind::Net).is_err();
    match sys::capabilities_of(sys::process_id()) {
        Ok(leader) if !exited => Capabilities {
            effective: thread.effective | leader.effective,
            permitted: thread.permitted | leader.permitted,
            // It decides nothing here, only what programs have that are started later.
            inheritable: leader.inheritable,
        },
        _ => thread,
    }
}
