//! The owner's end of a worker.

use std::mem;
use std::sync::Arc;

use super::pinned::PinnedThread;
use super::rendezvous::Caller;
use super::roster::Retired;

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
