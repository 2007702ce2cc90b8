//! The list of this process's pinned threads: which are idle, which exist, and how many there were.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::handle::{Status, WorkerHandle};
use super::home::{Change, Home};
use super::role::Role;
use super::spin_policy::SpinLimit;
use crate::sys;
use crate::sys::process_local::ProcessMark;

/// How many turns a side of a hand-over spins before it parks, on two CPUs or more: about 10 µs for the caller, and
/// 20 µs for the pinned thread.
const SPIN: SpinLimit = SpinLimit(1000);

/// How long an idle thread waits for its next lease, in milliseconds. One setting for a process and its forked
/// children.
static KEEP_ALIVE_MILLIS: AtomicU64 = AtomicU64::new(5_000);

/// The state that the pool, its workers and the template thread share.
pub(crate) struct Roster {
    /// The idle workers, by [`Role`]. The one that became idle last is at the end, and is leased first: it may still be
    /// awake.
    idle: [Mutex<Vec<WorkerHandle>>; Role::ALL.len()],
    home: OnceLock<Home>,
    spin: OnceLock<SpinLimit>,
    /// The kernel's ids of the pinned threads that are alive.
    registered: Mutex<Vec<u32>>,
    /// Whether the template has attributes of a thread other than the main one, which the main thread may not have.
    is_provisional: AtomicBool,
    /// How many templates were replaced for that reason. Workers of an earlier template are not taken back.
    generation: AtomicU32,
    leased: AtomicUsize,
    spawned_total: AtomicU64,
    poisoned_total: AtomicU64,
    retired_total: AtomicU64,
}

impl Roster {
    pub(super) fn new() -> Roster {
        Roster {
            idle: [const { Mutex::new(Vec::new()) }; Role::ALL.len()],
            home: OnceLock::new(),
            spin: OnceLock::new(),
            registered: Mutex::new(Vec::new()),
            is_provisional: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            leased: AtomicUsize::new(0),
            spawned_total: AtomicU64::new(0),
            poisoned_total: AtomicU64::new(0),
            retired_total: AtomicU64::new(0),
        }
    }

    /// Home, once the template thread has found it.
    pub(super) fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    pub(super) fn set_home(&self, home: Home) {
        self.home.get_or_init(|| home);
    }

    /// Zero on one CPU: spinning would starve the other side. The number of CPUs is that of
    /// [`thread::available_parallelism`] (affinity and cgroup quota) when the first worker starts.
    pub(crate) fn spin_limit(&self) -> SpinLimit {
        *self.spin.get_or_init(|| match thread::available_parallelism() {
            Ok(cpus) if cpus.get() > 1 => SPIN,
            _ => SpinLimit(0),
        })
    }

    /// Sets how long the two sides of a hand-over spin at most, if no worker has started yet.
    pub(crate) fn limit_spinning(&self, limit: SpinLimit) {
        let _ = self.spin.set(limit);
    }

    fn idle(&self, role: Role) -> MutexGuard<'_, Vec<WorkerHandle>> {
        self.idle[role as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many workers are idle.
    pub(super) fn idle_count(&self) -> usize {
        Role::ALL.into_iter().map(|role| self.idle(role).len()).sum()
    }

    /// Removes and returns the worker of this role that became idle last.
    pub(super) fn take_idle(&self, role: Role) -> Option<WorkerHandle> {
        self.idle(role).pop()
    }

    /// Whether a thread other than the main one started the template, and the main thread has made no call yet.
    pub(super) fn is_provisional(&self) -> bool {
        self.is_provisional.load(Ordering::Relaxed)
    }

    pub(super) fn set_provisional(&self, is_provisional: bool) {
        self.is_provisional.store(is_provisional, Ordering::Relaxed);
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Ends all workers that exist: the idle ones now, and the leased ones when their leases end.
    pub(super) fn replace_workers(&self) {
        // Before the lists are cleared: a lease that ends now is either on a list already, or sees it.
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.clear_idle();
    }

    /// Ends all idle workers.
    pub(super) fn clear_idle(&self) {
        for role in Role::ALL {
            drop(std::mem::take(&mut *self.idle(role)));
        }
    }

    /// Takes a worker back, unless the owner of its lease or the worker itself found it changed.
    pub(super) fn take_back(&self, worker: WorkerHandle, inspected: Result<(), Change>) {
        let mut idle = self.idle(worker.status.role);
        if inspected.is_ok() && !worker.status.is_retired() {
            if worker.status.generation == self.generation() {
                idle.push(worker);
            }
            // Nothing is wrong with one of an earlier template: it exits, and is not counted.
            return;
        }
        if worker.status.retire() {
            self.count_retired();
        }
        drop(idle);
        // Dropping the handle tells the worker to exit.
        drop(worker);
    }

    /// Removes an idle worker from the list, so that it is not leased again. One that has children stays, if it is the
    /// last idle one of its role.
    pub(super) fn remove_idle(&self, worker: &Arc<Status>, has_children: bool) -> Removal {
        let mut idle = self.idle(worker.role);
        let removed = match position(&idle, worker) {
            None => return Removal::Leased,
            Some(_) if has_children && idle.len() == 1 => return Removal::Last,
            Some(at) => idle.remove(at),
        };
        drop(idle);
        drop(removed);
        Removal::Done
    }

    /// Retires a worker that failed its inspection. If it is leased, it is not returned to the list.
    pub(super) fn retire(&self, worker: &Arc<Status>) {
        let mut idle = self.idle(worker.role);
        // Under the lock: a lease that ends now is either on the list already, or sees the flag.
        if worker.retire() {
            self.count_retired();
        }
        let removed = position(&idle, worker).map(|at| idle.remove(at));
        drop(idle);
        drop(removed);
    }

    /// Registers the calling thread as a pinned one, until the result is dropped.
    pub(crate) fn register_current(&'static self) -> Registration {
        let id = sys::current_thread_id();
        self.spawned_total.fetch_add(1, Ordering::Relaxed);
        self.registered().push(id);
        Registration { roster: self, id, process: ProcessMark::current() }
    }

    /// Whether a thread is a pinned one.
    pub(crate) fn is_registered(&self, thread: u32) -> bool {
        self.registered().contains(&thread)
    }

    pub(super) fn registered_count(&self) -> usize {
        self.registered().len()
    }

    fn registered(&self) -> MutexGuard<'_, Vec<u32>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a lease, until the result is dropped.
    pub(crate) fn count_lease(&'static self) -> CountGuard {
        self.leased.fetch_add(1, Ordering::Relaxed);
        CountGuard(&self.leased)
    }

    pub(super) fn leased_count(&self) -> usize {
        self.leased.load(Ordering::Relaxed)
    }

    pub(crate) fn count_retired(&self) {
        self.retired_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_poisoned(&self) {
        self.poisoned_total.fetch_add(1, Ordering::Relaxed);
        self.count_retired();
    }

    /// Threads ever registered, poisoned and retired.
    pub(super) fn totals(&self) -> [u64; 3] {
        [&self.spawned_total, &self.poisoned_total, &self.retired_total].map(|total| total.load(Ordering::Relaxed))
    }
}

fn position(idle: &[WorkerHandle], worker: &Arc<Status>) -> Option<usize> {
    idle.iter().position(|other| Arc::ptr_eq(&other.status, worker))
}

/// The result of removing a worker from the list of idle ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    Done,
    /// It is the last idle one of its role, and stays.
    Last,
    /// It is not on the list: it is leased, or about to be put there.
    Leased,
}

/// Decrements a count when it is dropped.
pub(crate) struct CountGuard(&'static AtomicUsize);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pinned thread is registered for as long as this lives.
pub(crate) struct Registration {
    roster: &'static Roster,
    id: u32,
    process: ProcessMark,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // In a child that a body forked, the list is a copy of the parent's and may be locked.
        if self.process.is_current() {
            self.roster.registered().retain(|id| *id != self.id);
        }
    }
}

pub(super) fn keep_alive() -> Duration {
    Duration::from_millis(KEEP_ALIVE_MILLIS.load(Ordering::Relaxed))
}

/// Sets how long an idle thread waits for its next lease before it exits. The default is 5 seconds; fractions of a
/// millisecond are ignored. Returns the previous value.
///
/// A thread whose child processes run stays until they have ended: its exit would send them the parent-death signal
/// (`PR_SET_PDEATHSIG`), if they asked for one.
///
/// A thread that is idle already waits by the previous value once more.
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
