//! The pool: leases of pinned threads.

use std::cell::Cell;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::allowance::{self, Allowance};
use super::detached::{self, run_detached};
use super::handle::WorkerHandle;
use super::home::{Change, Home};
use super::pinned::PinnedThread;
use super::rendezvous::{AssistPoint, Job, Rejected};
use super::role::Role;
use super::roster::{CountGuard, Roster};
use super::template::{Settle, Template};
use crate::error::{Error, ErrorKind};
use crate::sys::process_local::ProcessLocal;
use crate::sys::{self, Capabilities, OptionalCalls};
use crate::unwind::contain;

/// A forked child has its parent's memory and none of its threads, so it starts with a new pool.
static POOL: ProcessLocal<Pool> = ProcessLocal::new();

/// The pinned threads of one process.
pub(crate) struct Pool {
    pub(crate) roster: Roster,
    /// The first one defines home, and is kept. The last one starts the workers.
    templates: Mutex<Vec<Template>>,
}

impl Pool {
    fn new() -> Pool {
        Pool { roster: Roster::new(), templates: Mutex::new(Vec::new()) }
    }

    /// The pool of this process.
    pub(crate) fn of_process() -> &'static Pool {
        POOL.get_or_init(|| {
            detached::start_by(run_alone);
            Pool::new()
        })
    }

    /// Whether its threads belong to this process. A forked child of that process has none of these threads, and one of
    /// them may have held a lock of the pool at the fork.
    pub(crate) fn is_of_this_process(&'static self) -> bool {
        ptr::eq(self, Pool::of_process())
    }

    /// The exclusive use of a pristine thread: an idle one, or a new one.
    pub(crate) fn lease(&'static self, role: Role) -> Result<Lease, Error> {
        self.confirm();
        let worker = match self.roster.take_idle(role) {
            Some(worker) => worker,
            None => self.clone_worker(role)?,
        };
        Ok(Lease { roster: &self.roster, worker: Some(worker), found: Ok(()), _count: Some(self.roster.count_lease()) })
    }

    fn clone_worker(&'static self, role: Role) -> Result<WorkerHandle, Error> {
        let (mut templates, home) = self.templates(Settle::FindOut)?;
        // A template from which the C library has taken the capabilities counts against RLIMIT_NPROC, unlike the
        // caller. If no other one can be started, this one may do.
        if let Ok(callers) = sys::capabilities_of_current() {
            let _ = self.renew_template(&mut templates, home, callers);
        }
        templates.last().map_or_else(
            || Err(Error::new(ErrorKind::ThreadSpawn, "start a pinned thread", "there is no template thread")),
            |template| template.clone_worker(role),
        )
    }

    /// Home, with the template thread in it. Starts the template if needed.
    pub(crate) fn home_or_init(&'static self) -> Result<&'static Home, Error> {
        match self.roster.home() {
            Some(home) => Ok(home),
            None => self.templates(Settle::FindOut).map(|(_, home)| home),
        }
    }

    /// As [`Pool::home_or_init`]. If the calling thread is the main thread, its namespaces become home.
    pub(super) fn init(&'static self) -> Result<(), Error> {
        let leader = sys::is_main_thread();
        self.templates(if leader { Settle::AsTheMainThreadIs } else { Settle::FindOut }).map(drop)?;
        self.confirm();
        Ok(())
    }

    /// Ensures, in the first call of the main thread, that a template that another thread has started has the
    /// attributes of the main thread, also those that only a thread itself can read. If that is not possible now, as
    /// where threads are short, the next call of the main thread tries again.
    fn confirm(&'static self) {
        thread_local! {
            /// The pool in whose process the calling thread was found not to be the main one. It is kept because each
            /// call asks.
            static OTHER_THREAD_IN: Cell<*const Pool> = const { Cell::new(ptr::null()) };
        }
        if !self.roster.is_provisional() || OTHER_THREAD_IN.get() == ptr::from_ref(self) {
            return;
        }
        if !sys::is_main_thread() {
            OTHER_THREAD_IN.set(self);
            return;
        }
        let Ok((mut templates, home)) = self.templates(Settle::FindOut) else { return };
        match Template::start(&self.roster, Some(home), Settle::FindOut) {
            Ok((started, _)) => {
                if !templates.last().is_some_and(|template| template.has_same_private(&started)) {
                    templates.truncate(1);
                    templates.push(started);
                    self.roster.replace_workers();
                }
            }
            // The main thread has files of its own for good, which other callers must not get. But it may return from
            // a pid namespace of its own for children, in which it starts no threads.
            Err(error) if error.kind() == ErrorKind::Unsupported && !sys::can_start_processes_only() => {}
            Err(_) => return,
        }
        self.roster.set_provisional(false);
    }

    /// The templates, the first of them started if needed.
    fn templates(&'static self, settle: Settle) -> Result<(MutexGuard<'static, Vec<Template>>, &'static Home), Error> {
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        if templates.is_empty() {
            let (started, home) = Template::start(&self.roster, None, settle)?;
            if let Some(home) = home {
                self.roster.set_home(home);
            }
            templates.push(started);
            self.roster.set_provisional(!sys::is_main_thread());
        }
        match self.roster.home() {
            Some(home) => Ok((templates, home)),
            None => unreachable!("home is known before the template is kept"),
        }
    }

    /// Leases a thread that can adopt the caller's allowance. `attempt` runs a job on the lease, which begins with the
    /// thread's admission, and says what became of it. After a job that did not run, there is an attempt on another
    /// thread.
    ///
    /// It is not generic, so that its code is not compiled again for each job.
    pub(crate) fn lease_admitted(
        &'static self,
        role: Role,
        attempt: &mut dyn FnMut(&mut Lease) -> Attempt,
    ) -> Result<Lease, Error> {
        let mut unfit = UnfitThreads::default();
        loop {
            let mut lease = self.lease(role)?;
            match attempt(&mut lease) {
                Attempt::Ran => return Ok(lease),
                // The thread failed its inspection: lease another.
                Attempt::Rejected => {}
                Attempt::Unfit(allowance) => {
                    drop(lease);
                    unfit.count()?;
                    self.renew(allowance)?;
                }
            }
        }
    }

    /// As [`Pool::lease_admitted`], for a closure that returns whether it was admitted.
    pub(crate) fn run_admitted(
        &'static self,
        role: Role,
        allowance: Allowance,
        mut closure: impl FnMut(&mut PinnedThread) -> bool + Send,
    ) -> Result<Lease, Error> {
        self.lease_admitted(role, &mut |lease| lease.attempt(allowance, &mut closure))
    }

    /// Ensures that new workers can adopt the capabilities that the process has now: see [`Allowance`].
    pub(crate) fn ensure(&'static self, allowance: Allowance) -> Result<(), Error> {
        let Some(callers) = allowance.capabilities() else { return Ok(()) };
        let (mut templates, home) = self.templates(Settle::FindOut)?;
        self.renew_template(&mut templates, home, callers)
    }

    /// As [`Pool::ensure`], when a thread could not adopt the allowance.
    fn renew(&'static self, allowance: Allowance) -> Result<(), Error> {
        // The idle workers are as old as that thread, or older.
        self.roster.clear_idle();
        let Some(callers) = allowance.capabilities() else { return Ok(()) };
        let (mut templates, home) = self.templates(Settle::FindOut)?;
        self.renew_template(&mut templates, home, allowance::of_process(callers))
    }

    fn renew_template(
        &'static self,
        templates: &mut Vec<Template>,
        home: &'static Home,
        wanted: Capabilities,
    ) -> Result<(), Error> {
        let suffices =
            |template: &Template| template.capabilities().is_some_and(|its| wanted.permitted & !its.permitted == 0);
        if templates.last().is_some_and(suffices) {
            return Ok(());
        }
        self.roster.clear_idle();
        let (started, _) = Template::start(&self.roster, Some(home), Settle::FindOut)?;
        self.roster.set_provisional(!sys::is_main_thread());
        templates.truncate(1);
        templates.push(started);
        Ok(())
    }
}

/// What became of a job on a leased thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attempt {
    Ran,
    /// The thread has failed an inspection since its last lease, and runs nothing more.
    Rejected,
    /// The thread cannot adopt this allowance, or did not admit the job for another reason.
    Unfit(Allowance),
}

/// Counts the threads that were unfit for a call.
///
/// There may be more than one, because other callers return unfit threads to the pool meanwhile. But not without end:
/// what keeps one from adopting the allowance, such as a seccomp filter, may keep all others.
#[derive(Default)]
pub(crate) struct UnfitThreads(u32);

impl UnfitThreads {
    /// Counts one more. An error if they are too many.
    pub(crate) fn count(&mut self) -> Result<(), Error> {
        const AT_MOST: u32 = 16;
        if self.0 < AT_MOST {
            self.0 += 1;
            return Ok(());
        }
        let why = "no pinned thread can be given the capabilities that the calling thread has (capset(2)); \
                   `Call::fresh` has them";
        Err(Error::new(ErrorKind::PermissionDenied, "start a pinned thread", why))
    }
}

/// Determines the attributes of all pinned threads, and starts the thread that they are cloned from.
///
/// It is optional: the first call does the same. Call it at the beginning of `main`, before the program starts threads
/// or enters namespaces. Every pinned thread then has what the main thread has at that moment: its namespaces (home),
/// its signal mask, its scheduling, and the other attributes in the table of [`inheritance`](crate::inheritance). So a
/// program that moves itself to another namespace, or blocks signals for all its threads, does that first.
///
/// It may be called from any thread, and more than once: only the first call of any kind in this process determines
/// anything. On a thread other than the main one it does what the first call does.
///
/// **A program that becomes a daemon, or forks processes that do not exec, does so before its first call of any kind**,
/// this one included. Such a process has no pinned threads, and determines everything again. But it shares with its
/// parent what is in [`escapes`](crate::escapes#what-a-forked-process-shares-with-its-parent).
///
/// **A program that closes all its descriptors** (`close_range(2)`) does so before, too. This crate and tokio keep some
/// for the process. Without them, calls and runtimes of tokio are errors. Where another namespace or process has such
/// a number by then, a pinned thread may take that for home.
///
/// # Errors
///
/// [`ErrorKind::ThreadSpawn`]; [`ErrorKind::Unsupported`] where the calling thread, which is not the main one, has
/// changed an attribute that no thread can change back.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// fn main() -> Result<(), in_netns::Error> {
///     // Set the signal mask, or call `NetNs::join`, for the whole process before this.
///     in_netns::init()?;
///     std::thread::spawn(|| in_netns::with_netns(in_netns::NetNs::new()?, || println!("inside"))).join().unwrap()
/// }
/// ```
///
/// # References
///
/// `clone(2)`, `pthreads(7)`.
pub fn init() -> Result<(), Error> {
    Pool::of_process().init()
}

/// The exclusive use of a worker. Dropping it without [`Lease::end`] ends the worker.
pub(crate) struct Lease {
    roster: &'static Roster,
    worker: Option<WorkerHandle>,
    /// What the owner of the lease found in its part of the inspection.
    found: Result<(), Change>,
    _count: Option<CountGuard>,
}

impl Lease {
    /// Runs a job on the worker, waits for it, and returns it. A job that is rejected comes back as it was: the worker
    /// failed an inspection since its last lease, and the caller leases another one.
    ///
    /// The job receives the allowance that this thread has now, which is read while the worker begins the job, and
    /// stored in `allowance`.
    ///
    /// When the job has reached its [`AssistPoint`], this thread inspects the worker, unless this thread sleeps. The
    /// worker then has the capabilities of the allowance.
    pub(crate) fn run_job<J>(&mut self, allowance: &Cell<Allowance>, job: J) -> J
    where
        J: Job<PinnedThread, Allowance> + Send,
    {
        let Lease { roster, worker: Some(worker), found, .. } = self else { return job };
        let inspect = Lease::inspection(roster, worker.status.role, allowance, found);
        worker.side.run_job(job, &mut Lease::reading(allowance), inspect)
    }

    /// As [`Lease::run_job`], for a closure and its result. A panic of the closure is resumed here.
    pub(crate) fn run<F, R>(&mut self, allowance: Allowance, closure: F) -> Result<R, Rejected<F>>
    where
        F: FnOnce(&mut PinnedThread, &AssistPoint<'_>) -> R + Send,
        R: Send,
    {
        let Lease { roster, worker: Some(worker), found, .. } = self else { return Err(Rejected(closure)) };
        let allowance = Cell::new(allowance);
        let inspect = Lease::inspection(roster, worker.status.role, &allowance, found);
        worker.side.run(closure, inspect)
    }

    /// As [`Lease::run`], for an attempt: the closure returns whether it was admitted.
    pub(crate) fn attempt(
        &mut self,
        allowance: Allowance,
        closure: impl FnOnce(&mut PinnedThread) -> bool + Send,
    ) -> Attempt {
        match self.run(allowance, |thread, _| closure(thread)) {
            Ok(true) => Attempt::Ran,
            Ok(false) => Attempt::Unfit(allowance),
            Err(Rejected(_)) => Attempt::Rejected,
        }
    }

    /// Reads the allowance of the calling thread, and stores it. Not generic, as [`Lease::inspection`].
    fn reading(allowance: &Cell<Allowance>) -> impl FnMut() -> Allowance {
        || {
            allowance.set(Allowance::of_caller());
            allowance.get()
        }
    }

    /// It is not generic, so that the code that waits for the worker is not compiled again for each body.
    fn inspection<'l>(
        roster: &'static Roster,
        role: Role,
        allowance: &'l Cell<Allowance>,
        found: &'l mut Result<(), Change>,
    ) -> impl FnOnce(u32) + 'l {
        let own_files = role.has_own_files();
        move |thread| {
            *found = roster.home().map_or(Ok(()), |home| {
                let capabilities = allowance.get().capabilities().unwrap_or(home.capabilities());
                home.inspect_from_anywhere(thread, capabilities, own_files, None, OptionalCalls::of_current_thread())
            });
        }
    }

    /// The same lease, which [`pool_stats`] does not count: no call has it.
    pub(crate) fn uncounted(self) -> Lease {
        Lease { _count: None, ..self }
    }

    /// Runs a job on the worker without waiting. The job owns the lease from then on. It gets no thread where it was
    /// rejected, as by [`Lease::run`].
    pub(crate) fn submit(mut self, job: impl FnOnce(Option<&mut PinnedThread>, Lease) + Send + 'static) {
        if let Some(worker) = self.worker.take() {
            worker.submit(move |thread, worker| {
                self.worker = Some(worker);
                job(thread, self);
            });
        }
    }

    /// Ends the lease of a worker that is restored. Where this thread found a change in [`Lease::run`], the worker
    /// exits, and the change is returned.
    pub(crate) fn end(mut self) -> Option<Change> {
        if let Some(worker) = self.worker.take() {
            self.roster.take_back(worker, self.found);
        }
        self.found.err()
    }
}

/// Runs a job on a pinned thread that runs nothing else, and does not wait. Returns the job where there is no thread.
fn run_alone(job: detached::Job) -> Result<(), detached::Job> {
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

/// The counts of this process's pinned threads that [`pool_stats`] returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Pinned threads alive: idle, leased, fresh, about to exit, and that of each [`NetNsPool`](crate::NetNsPool). The
    /// template is not counted.
    pub threads: usize,
    /// Threads that wait for their next lease.
    pub idle: usize,
    /// Threads that run a call, including fresh ones, and those that [`Worker`](crate::Worker)s keep.
    pub leased: usize,
    /// Threads ever started.
    pub spawned_total: u64,
    /// Threads ever poisoned: their restore failed.
    pub poisoned_total: u64,
    /// Threads ever retired: poisoned, changed beyond a restore, or retired by user code. Threads that end normally
    /// (fresh ones, and idle ones after the keep-alive) are not counted.
    pub retired_total: u64,
}

/// Counts this process's pinned threads.
///
/// The numbers are read one after another, so they may not add up while calls are running.
///
/// ```standalone_crate
/// # in_netns::rootless!();
/// in_netns::with_netns(in_netns::NetNs::new()?, || assert_eq!(in_netns::pool_stats().leased, 1))?;
/// assert_eq!(in_netns::pool_stats().leased, 0);
/// # Ok::<(), in_netns::Error>(())
/// ```
#[must_use]
pub fn pool_stats() -> PoolStats {
    let Pool { roster, .. } = Pool::of_process();
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
