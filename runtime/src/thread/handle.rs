//! The owner's end of a worker.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pinned::PinnedThread;
use super::rendezvous::Caller;
use super::role::Role;

/// Leases pass it from one owner to the next. Dropping it tells the worker to exit.
pub(super) struct WorkerHandle {
    pub(super) retired: Arc<Retired>,
    pub(super) side: Caller<PinnedThread>,
}

impl WorkerHandle {
    /// Submits a job, and this handle with it.
    pub(super) fn submit(self, job: impl FnOnce(Option<&mut PinnedThread>, WorkerHandle) + Send + 'static) {
        let WorkerHandle { retired, side } = self;
        side.submit(move |thread, side| job(thread, WorkerHandle { retired, side }));
    }
}

// Each call moves a handle several times.
const _: () = assert!(mem::size_of::<WorkerHandle>() <= 40);

/// Set once a worker is known to be changed: its handle is not taken back, and the worker exits.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) role: Role,
    /// See [`Roster::replace_workers`](super::roster::Roster::replace_workers).
    pub(super) generation: u32,
    set: AtomicBool,
}

impl Retired {
    pub(super) fn not_yet(role: Role, generation: u32) -> Retired {
        Retired { role, generation, set: AtomicBool::new(false) }
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// Returns whether this call set it.
    pub(super) fn set(&self) -> bool {
        !self.set.swap(true, Ordering::Relaxed)
    }
}
