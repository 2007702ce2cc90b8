//! Runs what must not run on the current thread: hooks that no caller waits for, wakers that poll inline, and the
//! closing of a file in a descriptor table that the thread has left.
//!
//! **Promised:** such a job runs at home, on a pinned thread that runs nothing else and exits afterwards. Where no
//! thread can be started, [`run_detached`] keeps the job until the next call, worker or process. No thread waits for
//! these jobs. The pool starts the threads: it is above this module, and says how.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "tokio")]
use std::task::Waker;

use crate::sys::inherited::Inherited;
use crate::sys::process_local::ProcessLocal;
use crate::sys::{self, descriptor_table};

/// A job that runs once, on a thread of its own.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Starts a job on another thread, and does not wait. Returns the job where there is no thread.
type Start = fn(Job) -> Result<(), Job>;

/// The pool's.
static START: Inherited<Start> = Inherited::new();

/// Says how a job is started. To be called with the same function each time.
pub(super) fn start_by(start: Start) {
    START.replace(start);
}

/// Each process has its own: the parent runs the jobs of the parent, whose lock may be held by a thread that the child
/// does not have.
static PENDING: ProcessLocal<Pending> = ProcessLocal::new();

#[derive(Default)]
struct Pending {
    /// The jobs for which no thread could be started.
    jobs: Mutex<Vec<Job>>,
    /// Whether there are any: each call reads this instead of taking the lock.
    is_any: AtomicBool,
}

impl Pending {
    fn of_process() -> &'static Pending {
        PENDING.get_or_init(Pending::default)
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a job on another thread, at home, and does not wait. If there is no thread, the next call starts it.
pub(crate) fn run_detached(job: impl FnOnce() + Send + 'static) {
    if let Err(job) = start(Box::new(job)) {
        keep(job);
    }
}

/// Closes a file, with this identity, in the table of descriptors that the threads of the process share. It does not
/// wait.
pub(super) fn close_elsewhere(fd: OwnedFd, identity: (u64, u64)) {
    run_detached(move || {
        // A forked child process of a thread with another table has that table.
        if sys::identity(&fd) == Ok(identity) { drop(fd) } else { descriptor_table::forget(fd) }
    });
}

/// Calls a waker on another thread, and does not wait. Returns the waker where there is no thread.
#[cfg(feature = "tokio")]
pub(crate) fn wake_elsewhere(waker: Waker) -> Result<(), Waker> {
    // The job takes it out, or this function where the job was not started.
    let shared = std::sync::Arc::new(Mutex::new(Some(waker)));
    let take = |shared: &Mutex<Option<Waker>>| shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    let job = {
        let shared = std::sync::Arc::clone(&shared);
        Box::new(move || take(&shared).into_iter().for_each(Waker::wake))
    };
    match start(job) {
        Ok(()) => Ok(()),
        Err(_job) => take(&shared).map_or(Ok(()), Err),
    }
}

/// Starts the jobs for which no thread could be started earlier.
pub(super) fn start_pending() {
    let pending = Pending::of_process();
    if pending.is_any.load(Ordering::Relaxed) {
        retry(pending);
    }
}

#[cold]
fn retry(pending: &Pending) {
    pending.is_any.store(false, Ordering::Relaxed);
    let jobs = std::mem::take(&mut *pending.jobs());
    for job in jobs {
        if let Err(job) = start(job) {
            keep(job);
        }
    }
}

fn keep(job: Job) {
    let pending = Pending::of_process();
    pending.jobs().push(job);
    pending.is_any.store(true, Ordering::Relaxed);
}

/// Before the process has a pool, there is no thread.
fn start(job: Job) -> Result<(), Job> {
    match START.get() {
        Some(start) => start(job),
        None => Err(job),
    }
}
