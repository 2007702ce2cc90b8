//! The pool: leases of pinned threads.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::WorkerHandle;
use super::home::{Change, Home};
use super::pinned::PinnedThread;
use super::rendezvous::{Completion, Job};
use super::roster::{CountGuard, Roster};
use super::template::Template;
use crate::error::{Error, ErrorKind};
use crate::sys::{self, OptionalCalls};

/// How long an idle thread waits for its next lease, in milliseconds. One setting for a process and its forked children.
static KEEP_ALIVE_MILLIS: AtomicU64 = AtomicU64::new(5_000);

/// The pools of this process and of the processes that it was forked from. A forked child has its parent's memory and none of
/// its threads, so it starts with a new pool.
static POOLS: [Pool; MAX_FORK_DEPTH] = [const { Pool::new() }; MAX_FORK_DEPTH];

/// How many forks without an `exec` may lie between this process and the first one that used the crate.
const MAX_FORK_DEPTH: usize = 8;

/// How many forks lie between the first pool and the pool of this process.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The pinned threads of one process.
pub(crate) struct Pool {
    pub(crate) roster: Roster,
    template: Mutex<Option<Template>>,
}

impl Pool {
    const fn new() -> Pool {
        Pool { roster: Roster::new(), template: Mutex::new(None) }
    }

    /// The pool of this process.
    pub(crate) fn of_process() -> Result<&'static Pool, Error> {
        let generation = GENERATION.load(Ordering::Relaxed);
        POOLS.get(generation).ok_or_else(|| {
            let why = format!("{generation} forks without an exec lie between this process and one that used in-netns");
            Error::new(ErrorKind::Unsupported, "lease a pinned thread", why)
        })
    }

    /// The exclusive use of a pristine thread: an idle one, or a new one.
    pub(crate) fn lease(&'static self) -> Result<Lease, Error> {
        let worker = match self.roster.take_idle() {
            Some(worker) => worker,
            None => self.clone_worker()?,
        };
        Ok(Lease { roster: &self.roster, worker: Some(worker), _count: self.roster.count_lease() })
    }

    fn clone_worker(&'static self) -> Result<WorkerHandle, Error> {
        let (template, _) = self.template()?;
        template.as_ref().map_or_else(
            || Err(Error::new(ErrorKind::ThreadSpawn, "start a pinned thread", "there is no template thread")),
            Template::clone_worker,
        )
    }

    /// Home, with the template thread in it. Starts the template if needed.
    pub(crate) fn home_or_init(&'static self) -> Result<&'static Home, Error> {
        match self.roster.home() {
            Some(home) => Ok(home),
            None => self.template().map(|(_, home)| home),
        }
    }

    /// The template, started if needed.
    fn template(&'static self) -> Result<(MutexGuard<'static, Option<Template>>, &'static Home), Error> {
        let mut template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        if template.is_none() {
            reset_after_fork()?;
            let (started, home) = Template::start(&self.roster)?;
            self.roster.set_home(home);
            *template = Some(started);
        }
        match self.roster.home() {
            Some(home) => Ok((template, home)),
            None => unreachable!("home is known before the template is kept"),
        }
    }
}

/// Makes every later child of `fork(2)` use a pool of its own.
fn reset_after_fork() -> Result<(), Error> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    if REGISTERED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    sys::after_fork_in_child(in_child).map_err(|source| {
        REGISTERED.store(false, Ordering::Relaxed);
        Error::from_io(ErrorKind::LimitReached, "prepare for forked children (pthread_atfork)", source)
    })
}

/// The exclusive use of a worker. Dropping it without [`Lease::end`] ends the worker.
pub(crate) struct Lease {
    roster: &'static Roster,
    worker: Option<WorkerHandle>,
    _count: CountGuard,
}

impl Lease {
    /// Has the worker run a job, and waits for it.
    ///
    /// Where the job says that it is [`AssistPoint`](crate::thread::rendezvous::AssistPoint), this thread inspects the worker meanwhile, unless it
    /// sleeps.
    pub(crate) fn run(&mut self, job: &mut Job<'_, PinnedThread>) -> Handed {
        let Lease { roster, worker: Some(worker), .. } = self else { return Handed::Rejected };
        let mut found = None;
        let inspect = |thread| {
            found = roster.home().map(|home| home.inspect_from_anywhere(thread, OptionalCalls::of_current_thread()));
        };
        match worker.run(job, inspect) {
            Completion::Completed => Handed::Completed(found),
            Completion::Rejected => Handed::Rejected,
        }
    }

    /// Has the worker run a job, which has the lease from then on, and does not wait. Without a thread it was declined, as
    /// [`Handed::Rejected`] says.
    #[cfg(feature = "tokio")]
    pub(crate) fn submit(mut self, job: impl FnOnce(Option<&mut PinnedThread>, Lease) + Send + 'static) {
        if let Some(worker) = self.worker.take() {
            worker.submit(move |thread, worker| {
                self.worker = Some(worker);
                job(thread, self);
            });
        }
    }

    /// Ends the lease of a worker that is restored. Where its owner found a change, the worker goes, and the change is
    /// returned.
    pub(crate) fn end(mut self, handed: Handed) -> Option<Change> {
        let found = match handed {
            Handed::Completed(Some(found)) => found,
            Handed::Completed(None) | Handed::Rejected => Ok(()),
        };
        if let Some(worker) = self.worker.take() {
            self.roster.take_back(worker, found);
        }
        found.err()
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    /// It was run; and this is what its owner found of the thread, if it did look.
    Completed(Option<Result<(), Change>>),
    /// It was not: the worker was found changed since its last lease. Lease another.
    Rejected,
}

/// What [`pool_stats`] tells about this process's pinned threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Pinned threads alive: idle, leased, fresh ones, and such as are about to exit. The template is not counted.
    pub threads: usize,
    /// Threads that wait for their next lease.
    pub idle: usize,
    /// Threads that a call has, the fresh ones among them.
    pub leased: usize,
    /// Threads ever started.
    pub spawned_total: u64,
    /// Threads ever poisoned: their restore failed.
    pub poisoned_total: u64,
    /// Threads ever retired: poisoned, changed beyond a restore, or asked to. Threads that end as they should (fresh ones, and
    /// idle ones after the keep-alive) are not counted.
    pub retired_total: u64,
}

/// Counts this process's pinned threads.
///
/// The numbers are read one after another, so that they may not add up while calls are under way.
///
/// ```
/// # in_netns::rootless!();
/// in_netns::with_netns(in_netns::NetNs::new()?, || assert_eq!(in_netns::pool_stats().leased, 1))?;
/// assert_eq!(in_netns::pool_stats().leased, 0);
/// # Ok::<(), in_netns::Error>(())
/// ```
#[must_use]
pub fn pool_stats() -> PoolStats {
    let Ok(Pool { roster, .. }) = Pool::of_process() else { return PoolStats::default() };
    let [spawned_total, poisoned_total, retired_total] = roster.totals();
    PoolStats {
        threads: roster.registered_count(),
        idle: roster.idle_count(),
        leased: roster.leased_count(),
        spawned_total,
        poisoned_total,
        retired_total,
    }
}

pub(super) fn keep_alive() -> Duration {
    Duration::from_millis(KEEP_ALIVE_MILLIS.load(Ordering::Relaxed))
}

/// Sets how long an idle thread waits for its next lease before it exits: 5 seconds unless set, in milliseconds at the finest.
///
/// Threads that are idle already go by the earlier value once more. Returns the earlier value.
///
/// ```
/// use std::time::Duration;
///
/// in_netns::set_keep_alive(Duration::from_secs(60));
/// ```
#[allow(clippy::must_use_candidate)] // Called for its effect.
pub fn set_keep_alive(keep_alive: Duration) -> Duration {
    let millis = u64::try_from(keep_alive.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(KEEP_ALIVE_MILLIS.swap(millis, Ordering::Relaxed))
}
