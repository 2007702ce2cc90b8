//! The owner's end of a worker.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::allowance::Allowance;
use super::pinned::PinnedThread;
use super::rendezvous::{Caller, FIRST_LINE};
use super::role::Role;

/// Leases pass it from one owner to the next. Dropping it tells the worker to exit.
pub(super) struct WorkerHandle {
    pub(super) status: Arc<Status>,
    pub(super) side: Caller<PinnedThread, Allowance>,
}

impl WorkerHandle {
    /// Submits a job, and this handle with it.
    pub(super) fn submit(self, job: impl FnOnce(Option<&mut PinnedThread>, WorkerHandle) + Send + 'static) {
        let WorkerHandle { status, side } = self;
        side.submit(move |thread, side| job(thread, WorkerHandle { status, side }));
    }
}

// Each call moves a handle several times.
const _: () = assert!(mem::size_of::<WorkerHandle>() <= 40);
const _: () = assert!(FIRST_LINE == 64);

/// What the owner of a worker, the worker and the roster know of it.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) role: Role,
    /// See [`Roster::replace_workers`](super::roster::Roster::replace_workers).
    pub(super) generation: u32,
    /// It is known to be changed: its handle is not taken back, and it exits.
    is_retired: AtomicBool,
}

impl Status {
    pub(super) fn new(role: Role, generation: u32) -> Status {
        Status { role, generation, is_retired: AtomicBool::new(false) }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// Retires it. Returns whether it was not retired before.
    pub(super) fn retire(&self) -> bool {
        !self.is_retired.swap(true, Ordering::Relaxed)
    }
}
