//! Who has which worker.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::template::Template;
use super::worker::{Worker, WorkerId};
use crate::error::{Error, ErrorKind};
use crate::guard::PinnedThread;
use crate::handover::{Answer, Job, SpinLimit};
use crate::home::{Change, Home};
use crate::sys;

/// How long an idle thread waits for its next lease, in milliseconds. For a process and its forked children alike.
static KEEP_ALIVE_MILLIS: AtomicU64 = AtomicU64::new(5_000);

/// How long to watch for the other side before sleeping, where there are two CPUs to meet on: about 10 µs.
const SPIN: SpinLimit = SpinLimit(1000);

/// The pools of this process and of those that it was forked from: a forked child has its parent's memory and none of its
/// threads, so it begins with a new one.
static POOLS: [Pool; GENERATIONS] = [const { Pool::new() }; GENERATIONS];

/// How deep a process may be forked, without an `exec`, from one that used the crate already.
const GENERATIONS: usize = 8;

/// How many forks lie between the first pool and this process's.
static GENERATION: AtomicUsize = AtomicUsize::new(0);

/// The threads, idle and leased, and the numbers about them.
pub(crate) struct Pool {
    waiting: Mutex<Waiting>,
    template: Mutex<Option<Template>>,
    home: OnceLock<Home>,
    spin: OnceLock<SpinLimit>,
    last_id: AtomicU64,
    /// The kernel's ids of the pinned threads.
    known: Mutex<Vec<u32>>,
    threads: AtomicUsize,
    leased: AtomicUsize,
    spawned_total: AtomicU64,
    poisoned_total: AtomicU64,
    retired_total: AtomicU64,
}

struct Waiting {
    /// The one that was idle for the shortest time comes last, and is leased first: it may still be awake.
    idle: Vec<Worker>,
    /// Workers found changed while somebody held them. They are not taken back.
    condemned: Vec<WorkerId>,
}

impl Waiting {
    fn withdraw(&mut self, id: WorkerId) -> Option<Worker> {
        let at = self.idle.iter().position(|worker| worker.id == id)?;
        Some(self.idle.remove(at))
    }
}

impl Pool {
    const fn new() -> Pool {
        Pool {
            waiting: Mutex::new(Waiting { idle: Vec::new(), condemned: Vec::new() }),
            template: Mutex::new(None),
            home: OnceLock::new(),
            spin: OnceLock::new(),
            last_id: AtomicU64::new(0),
            known: Mutex::new(Vec::new()),
            threads: AtomicUsize::new(0),
            leased: AtomicUsize::new(0),
            spawned_total: AtomicU64::new(0),
            poisoned_total: AtomicU64::new(0),
            retired_total: AtomicU64::new(0),
        }
    }

    /// The pool of this process.
    pub(crate) fn of_process() -> Result<&'static Pool, Error> {
        let generation = GENERATION.load(Ordering::Relaxed);
        POOLS.get(generation).ok_or_else(|| {
            let why =
                format!("this process was forked {generation} deep, without an exec, from one that used in-netns");
            Error::new(ErrorKind::Unsupported, "lease a pinned thread", why)
        })
    }

    /// The exclusive use of a pristine thread: an idle one, or a new one.
    pub(crate) fn lease(&'static self) -> Result<Lease, Error> {
        let idle = self.waiting().idle.pop();
        let worker = match idle {
            Some(worker) => worker,
            None => self.clone_worker()?,
        };
        self.leased.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { pool: self, worker: Some(worker) })
    }

    fn clone_worker(&'static self) -> Result<Worker, Error> {
        let (template, _) = self.template()?;
        template.as_ref().map_or_else(
            || Err(Error::new(ErrorKind::ThreadSpawn, "start a pinned thread", "there is no template thread")),
            Template::clone_worker,
        )
    }

    /// Home, with the template thread standing there.
    pub(crate) fn settled_home(&'static self) -> Result<&'static Home, Error> {
        match self.home() {
            Some(home) => Ok(home),
            None => self.template().map(|(_, home)| home),
        }
    }

    /// The template, started if need be.
    fn template(&'static self) -> Result<(MutexGuard<'static, Option<Template>>, &'static Home), Error> {
        let mut template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        if template.is_none() {
            begin_anew_after_fork()?;
            let (started, home) = Template::start(self)?;
            self.home.get_or_init(|| home);
            *template = Some(started);
        }
        match self.home.get() {
            Some(home) => Ok((template, home)),
            None => unreachable!("home is known before the template is kept"),
        }
    }

    pub(super) fn home(&'static self) -> Option<&'static Home> {
        self.home.get()
    }

    /// None at all where the process has one CPU: whoever watches keeps the other from running. The number is that of
    /// `std::thread::available_parallelism` (affinity and cgroup quota) when the first worker starts.
    pub(crate) fn spin_limit(&self) -> SpinLimit {
        *self.spin.get_or_init(|| match thread::available_parallelism() {
            Ok(cpus) if cpus.get() > 1 => SPIN,
            _ => SpinLimit(0),
        })
    }

    /// Has the two sides of a hand-over watch for so long at most, if no worker was started yet.
    pub(crate) fn limit_spinning(&self, limit: SpinLimit) {
        let _ = self.spin.set(limit);
    }

    pub(super) fn next_worker_id(&self) -> WorkerId {
        WorkerId(self.last_id.fetch_add(1, Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker back, unless its lease's owner or the worker itself found it changed.
    fn take_back(&self, worker: Worker, found: Result<(), Change>) {
        let mut waiting = self.waiting();
        let condemned = waiting.condemned.contains(&worker.id);
        if found.is_ok() && !condemned {
            waiting.idle.push(worker);
            return;
        }
        if !condemned {
            waiting.condemned.push(worker.id);
            self.count_retired();
        }
        drop(waiting);
        // This tells it to go.
        drop(worker);
    }

    /// Takes an idle worker out for good. `false` where it is leased.
    pub(super) fn withdraw(&self, id: WorkerId) -> bool {
        let worker = self.waiting().withdraw(id);
        worker.is_some()
    }

    /// As [`Pool::withdraw`], for a worker that found itself changed. One that is leased is not taken back either.
    pub(super) fn condemn(&self, id: WorkerId) -> bool {
        let mut waiting = self.waiting();
        let worker = waiting.withdraw(id);
        if !waiting.condemned.contains(&id) {
            waiting.condemned.push(id);
            self.count_retired();
        }
        drop(waiting);
        worker.is_some()
    }

    /// Forgets a worker that is gone.
    pub(super) fn pardon(&self, id: WorkerId) {
        self.waiting().condemned.retain(|condemned| *condemned != id);
    }

    /// Counts a thread, until the result is dropped.
    pub(crate) fn count_thread(&'static self) -> Counted {
        self.spawned_total.fetch_add(1, Ordering::Relaxed);
        Counted::one_more(&self.threads)
    }

    /// Takes down the calling thread as one of the pinned ones, until the result is dropped.
    pub(crate) fn know_current(&'static self) -> Known {
        let id = sys::current_tid().as_raw().unsigned_abs();
        self.known_threads().push(id);
        Known { pool: self, id }
    }

    /// Whether a thread is a pinned one.
    pub(crate) fn knows(&self, thread: u32) -> bool {
        self.known_threads().contains(&thread)
    }

    fn known_threads(&self) -> MutexGuard<'_, Vec<u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a lease of a thread that is not from the pool.
    pub(crate) fn count_lease(&'static self) -> Counted {
        Counted::one_more(&self.leased)
    }

    pub(crate) fn count_retired(&self) {
        self.retired_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_poisoned(&self) {
        self.poisoned_total.fetch_add(1, Ordering::Relaxed);
        self.count_retired();
    }
}

/// One more of something, for as long as this lives.
pub(crate) struct Counted(&'static AtomicUsize);

impl Counted {
    fn one_more(count: &'static AtomicUsize) -> Counted {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pinned thread that is known as one for as long as this lives.
pub(crate) struct Known {
    pool: &'static Pool,
    id: u32,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.pool.known_threads().retain(|id| *id != self.id);
    }
}

/// Has every later child of `fork(2)` begin with a pool of its own.
fn begin_anew_after_fork() -> Result<(), Error> {
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

/// The exclusive use of a worker. Dropping it without [`Lease::give_back`] ends the worker.
pub(crate) struct Lease {
    pool: &'static Pool,
    worker: Option<Worker>,
}

impl Lease {
    /// Has the worker run a job, and waits for it.
    ///
    /// Where the job says that it is [`Halfway`](crate::handover::Halfway), this thread inspects the worker meanwhile, unless it
    /// sleeps.
    pub(crate) fn hand_over(&mut self, job: &mut Job<'_, PinnedThread>) -> Handed {
        let Lease { pool, worker: Some(worker) } = self else { return Handed::Declined };
        let mut found = None;
        let inspect = |thread| found = pool.home().map(|home| home.inspect_from_anywhere(thread));
        match worker.hand_over(job, inspect) {
            Answer::Done => Handed::Done(found),
            Answer::Declined => Handed::Declined,
        }
    }

    /// Has the worker run an errand, which has the lease from then on, and does not wait. Without a thread it was declined, as
    /// [`Handed::Declined`] says.
    #[cfg(feature = "tokio")]
    pub(crate) fn give(mut self, errand: impl FnOnce(Option<&mut PinnedThread>, Lease) + Send + 'static) {
        if let Some(worker) = self.worker.take() {
            worker.give(move |thread, worker| {
                self.worker = Some(worker);
                errand(thread, self);
            });
        }
    }

    /// Ends the lease of a worker that is restored. Where its owner found a change, the worker goes, and the change is
    /// returned.
    pub(crate) fn give_back(mut self, handed: Handed) -> Option<Change> {
        let found = match handed {
            Handed::Done(Some(found)) => found,
            Handed::Done(None) | Handed::Declined => Ok(()),
        };
        if let Some(worker) = self.worker.take() {
            self.pool.take_back(worker, found);
        }
        found.err()
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    /// It was run; and this is what its owner found of the thread, if it did look.
    Done(Option<Result<(), Change>>),
    /// It was not: the worker was found changed since its last lease. Lease another.
    Declined,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.leased.fetch_sub(1, Ordering::Relaxed);
    }
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
    let Ok(pool) = Pool::of_process() else { return PoolStats::default() };
    PoolStats {
        threads: pool.threads.load(Ordering::Relaxed),
        idle: pool.waiting().idle.len(),
        leased: pool.leased.load(Ordering::Relaxed),
        spawned_total: pool.spawned_total.load(Ordering::Relaxed),
        poisoned_total: pool.poisoned_total.load(Ordering::Relaxed),
        retired_total: pool.retired_total.load(Ordering::Relaxed),
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

// A worker goes from hand to hand on every call: moving it must stay cheap.
const _: () = assert!(mem::size_of::<Worker>() <= 48);
