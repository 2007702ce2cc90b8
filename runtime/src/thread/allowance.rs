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
//! **What it costs:** one `capget` of the caller before it posts the job, 0.1 to 0.35 µs. It goes to the worker by
//! value, with the job: each further place to look at costs a trip to another CPU.
//!
//! **What breaks otherwise:** a daemon that drops root, and keeps `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, could make no
//! call any more (the C library had taken everything from the pool); one that lowers its capabilities would have bodies
//! that still have them.

use crate::sys::{self, Capabilities, Kind, ProcTask};

/// What the calling thread has, for the pinned thread to take on. Unknown where a seccomp filter refuses `capget(2)`:
/// the pinned thread then stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance(Option<Capabilities>);

impl Allowance {
    /// What the calling thread has now.
    pub(crate) fn of_caller() -> Allowance {
        Allowance(sys::capabilities_of_current().ok())
    }

    /// Of a thread that may use all that it has, and passes nothing on to programs, as most do. In eight bytes.
    pub(crate) fn simple(self) -> Option<u64> {
        let Capabilities { effective, permitted, inheritable } = self.0?;
        (effective == permitted && inheritable == 0).then_some(effective)
    }

    /// The inverse of [`Allowance::simple`].
    pub(crate) fn of_simple(capabilities: u64) -> Allowance {
        Allowance(Some(Capabilities { effective: capabilities, permitted: capabilities, inheritable: 0 }))
    }

    /// `None` where they are unknown.
    pub(crate) fn capabilities(self) -> Option<Capabilities> {
        self.0
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
