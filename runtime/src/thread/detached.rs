//! Runs what must not run on the current thread: hooks that no caller waits for, wakers that poll inline, and the
//! closing of a file in a descriptor table that the thread has left.
//!
//! **Promised:** such a job runs at home, on a pinned thread that runs nothing else and exits afterwards. Where no
//! thread can be started, [`run_detached`] keeps the job until the next call, worker or process. No thread waits for
//! these jobs. `run_elsewhere` is for what must be done before a call returns: it waits.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "tokio")]
use std::task::Waker;

#[cfg(feature = "tokio")]
use super::allowance::Allowance;
#[cfg(feature = "tokio")]
use super::pinned::PinnedThread;
use super::pool::{Lease, Pool};
#[cfg(feature = "tokio")]
use super::release::{Inspect, LeaseEnd};
#[cfg(feature = "tokio")]
use super::rendezvous::AssistPoint;
use super::role::Role;
#[cfg(feature = "tokio")]
use crate::netns::Place;
use crate::sys::process_local::ProcessLocal;
use crate::sys::{self, descriptor_table};
use crate::unwind::contain;

type Job = Box<dyn FnOnce() + Send>;

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

/// Runs a job on another pinned thread in `place`, and waits. The place is dropped there too. Returns the job where no
/// thread could enter.
#[cfg(feature = "tokio")]
pub(crate) fn run_elsewhere<R: Send, J: FnOnce() -> R + Send>(place: Place, job: J) -> Result<R, J> {
    let pool = Pool::of_process();
    let (role, allowance) = (Role::for_bodies_in(&place), Allowance::of_caller());
    let mut unrun = Some((place, job));
    let run = move |unrun, thread: &mut PinnedThread, _: &AssistPoint<'_>| {
        if thread.admit(None, allowance).is_none() {
            return Err(unrun);
        }
        let taken: &mut Option<(Place, J)> = unrun;
        if taken.as_ref().is_none_or(|(place, _)| thread.enter_checked(place.as_target()).is_err()) {
            return Ok((None, LeaseEnd::not_entered(&pool.roster, thread)));
        }
        let result = taken.take().map(|(_place, job)| job());
        Ok((result, LeaseEnd::restore(&pool.roster, thread, Inspect::Later, None)))
    };
    let result = match pool.lease_admitted(role, allowance, &mut unrun, run) {
        Ok((lease, (result, lease_end))) => {
            // The fate of the thread is in the counters, and `report` calls the poison hook.
            let _ = lease_end.return_lease(lease).report();
            result
        }
        Err(_) => None,
    };
    match (result, unrun) {
        (Some(result), _) => Ok(result),
        (None, Some((_place, job))) => Err(job),
        (None, None) => unreachable!("a job that was taken has a result"),
    }
}

/// Starts the jobs for which no thread could be started earlier. To be called for each call, worker and process.
pub(crate) fn start_pending() {
    #[cfg(feature = "tokio")]
    super::tokio_at_home::settle_later();
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

fn start(job: Job) -> Result<(), Job> {
    let Ok(lease) = Pool::of_process().lease(Role::Bodies).map(Lease::uncounted) else { return Err(job) };
    lease.submit(move |thread, lease| {
        let is_pristine = thread.is_some();
        if is_pristine {
            contain(job);
            // The lease ends without a restore, so the thread exits: no call is responsible for what the job changed.
            drop(lease);
        } else {
            drop(lease);
            run_detached(job);
        }
    });
    Ok(())
}
