//! The capabilities of a body: those that the process has at the moment of the call.
//!
//! **Promised:** when the body begins, a pooled thread has the capabilities that the calling thread or the main thread
//! has at that moment, and no others. A process that has changed its ids or capabilities since its first call gets the
//! same as with a plain `setns`. A capability that only the calling thread has given up, and the main thread still has,
//! is available to the bodies of its calls on pooled threads.
//!
//! **Why this mechanism:** capabilities belong to a thread, like namespaces, and no thread can change those of another.
//! The C library changes user ids on all threads, and thereby removes capabilities from the pinned ones; `capset(2)`
//! only changes the calling thread. So the caller passes its capabilities, and the worker adopts them. A worker cannot
//! adopt a capability that it has lost for good: it exits, and another worker is leased. If the template has lost it
//! too, the calling thread starts a new template.
//!
//! **What it costs:** one `capget` of the caller, 0.1 to 0.35 µs. In a synchronous call on a worker that spins, the
//! worker enters the namespace meanwhile.
//!
//! **What breaks otherwise:** a daemon that drops root, and keeps `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, could make no
//! more calls (the C library had removed all capabilities from the pool); in a process that lowers its capabilities,
//! bodies would keep them.

use crate::sys::{self, Capabilities, Kind, ProcTask};

/// The calling thread's capabilities, for the pinned thread to adopt. Unknown where a seccomp filter refuses
/// `capget(2)`: the pinned thread then stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance(Option<Capabilities>);

impl Allowance {
    /// The capabilities that the calling thread has now.
    pub(crate) fn of_caller() -> Allowance {
        Allowance(sys::capabilities_of_current().ok())
    }

    /// Whether a pinned thread that adopts it can enter namespaces.
    pub(crate) fn may_administer(self) -> bool {
        self.0.is_some_and(|callers| of_process(callers).has(sys::CAP_SYS_ADMIN))
    }

    /// `None` where they are unknown.
    pub(crate) fn capabilities(self) -> Option<Capabilities> {
        self.0
    }
}

/// The capabilities of the process, given those of one of its threads: the union with those of the main thread.
pub(super) fn of_process(thread: Capabilities) -> Capabilities {
    // The kernel still reports the capabilities of a main thread that has exited.
    let exited = sys::namespace_of(ProcTask::Leader, Kind::Net).is_err();
    match sys::capabilities_of(sys::process_id()) {
        Ok(leader) if !exited => Capabilities {
            effective: thread.effective | leader.effective,
            permitted: thread.permitted | leader.permitted,
            // The inheritable set only affects programs that are started later.
            inheritable: leader.inheritable,
        },
        _ => thread,
    }
}
