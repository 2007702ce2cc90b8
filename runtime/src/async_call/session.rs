//! A pinned thread's session in a namespace with a runtime of the call's own, from its first task to the thread's
//! return.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::local::LocalTasks;
use crate::call::Options;
use crate::call::audit::{Audit, MarkGuard, Stray};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys;
use crate::thread::fate::ThreadFate;
use crate::thread::pinned::PinnedThread;
use crate::thread::{CountGuard, Inspect, Lease, LeaseEnd, Pool, ThreadExit, WORKER_NAME, run_detached};
use crate::unwind::contain;

/// The runtime of a call. All its threads are in the call's namespace, or do no work.
pub(super) struct CallRuntime {
    runtime: Runtime,
    local: LocalTasks,
    blocking: Arc<BlockingThreads>,
}

impl CallRuntime {
    /// On the pinned thread, which is inside already.
    pub(super) fn build(ns: &NetNs) -> Result<CallRuntime, Error> {
        let blocking = Arc::new(BlockingThreads::default());
        let mut builder = Builder::new_current_thread();
        builder.enable_all().thread_name("in-netns-block");
        let (starts, stops, ns) = (Arc::clone(&blocking), Arc::clone(&blocking), ns.clone());
        builder.on_thread_start(move || starts.on_start(&ns)).on_thread_stop(move || stops.on_stop());
        let runtime = builder.build().map_err(|source| {
            Error::from_io(ErrorKind::LimitReached, "build the tokio runtime of an async call", source)
        })?;
        Ok(CallRuntime { runtime, local: LocalTasks::new(), blocking })
    }
}

/// The threads that run blocking closures.
#[derive(Default)]
struct BlockingThreads {
    any: AtomicBool,
    /// Of the threads that have stopped: they hold the namespace for a moment after a join has returned.
    exits: Mutex<Vec<ThreadExit>>,
}

impl BlockingThreads {
    /// On the new thread. It inherited the namespace of the thread that started it, which may be elsewhere: a handle of
    /// the runtime can be carried anywhere.
    fn on_start(&self, ns: &NetNs) {
        self.any.store(true, Ordering::Relaxed);
        panic_unless_entered(ns, enter_by_birth_or_now(ns));
    }

    fn on_stop(&self) {
        let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        exits.retain(|exit| !exit.is_over());
        exits.push(ThreadExit::of_current());
    }

    fn wait_until_gone(&self) {
        let exits = std::mem::take(&mut *self.exits.lock().unwrap_or_else(PoisonError::into_inner));
        exits.into_iter().for_each(ThreadExit::wait);
    }
}

/// Takes a runtime's new thread into `ns`, if it is not there by birth.
pub(super) fn enter_by_birth_or_now(ns: &NetNs) -> Result<(), Error> {
    match ns.is_current() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => ns.as_target().setns(),
    }
}

/// Ends a runtime's new thread that could not enter. tokio has no other interface for this: a thread that panics
/// when it starts takes no work. The work is left to another thread, or cancelled at the runtime's end.
pub(super) fn panic_unless_entered(ns: &NetNs, entered: Result<(), Error>) {
    if let Err(error) = entered {
        panic!("a thread of the runtime in {ns} could not get there, and runs nothing: {error}");
    }
}

/// See the [module's documentation](self).
pub(super) struct Session<'t> {
    pool: &'static Pool,
    thread: &'t mut PinnedThread,
    runtime: Option<CallRuntime>,
    inspect: Inspect,
    audit: Option<(Audit, MarkGuard)>,
    /// Whether the thread was given a name for this.
    named: bool,
    /// `None` when the session has ended.
    lease_guard: Option<LeaseGuard>,
}

/// What ends with a session.
pub(super) enum LeaseGuard {
    Pooled(Lease),
    /// A count, for a thread of the call's own.
    Counted(CountGuard),
}

/// The lease of a session that has ended. Dropping it returns the lease, if the thread is fit for another.
///
/// **Why it is kept until the owner was woken:** the owner's waker is foreign code, and runs on the pinned
/// thread. A thread that runs it is not idle: a call that leased it would wait for that code, or be made by that very
/// code and wait for itself.
pub(super) struct HeldLease {
    /// `None` where there was no thread.
    lease_guard: Option<LeaseGuard>,
    is_fit: bool,
    returned: Arc<Returned>,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        match self.lease_guard.take() {
            Some(LeaseGuard::Pooled(lease)) if self.is_fit => drop(lease.end()),
            Some(LeaseGuard::Pooled(lease)) => drop(lease),
            Some(LeaseGuard::Counted(count)) => drop(count),
            None => {}
        }
        self.returned.set();
    }
}

/// Whether a session's lease was returned.
#[derive(Default)]
struct Returned {
    is_returned: Mutex<bool>,
    changed: Condvar,
}

impl Returned {
    fn set(&self) {
        *self.is_returned.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for a moment only: the host may run foreign code that waits for the calling thread.
    fn wait(&self) {
        let is_returned = self.is_returned.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(is_returned, Duration::from_millis(10), |is_returned| !*is_returned);
    }
}

/// How a session ended, for its owner to report.
pub(super) struct SessionEnd {
    /// The session never began.
    pub(super) refused: Option<Error>,
    /// `None` where there was no thread.
    lease_end: Option<LeaseEnd>,
    returned: Arc<Returned>,
    strays: Vec<Stray>,
}

/// A session that never began. Its lease is held until foreign code has run, as after any session.
pub(super) type Refused = Box<(SessionEnd, HeldLease)>;

impl SessionEnd {
    fn new(
        refused: Option<Error>,
        lease_end: Option<LeaseEnd>,
        lease_guard: Option<LeaseGuard>,
        strays: Vec<Stray>,
    ) -> (SessionEnd, HeldLease) {
        let returned = Arc::new(Returned::default());
        let is_fit = lease_end.as_ref().is_some_and(|end| matches!(end.fate(), ThreadFate::Reusable));
        let held = HeldLease { lease_guard, is_fit, returned: Arc::clone(&returned) };
        (SessionEnd { refused, lease_end, returned, strays }, held)
    }

    pub(super) fn without_thread(error: Error) -> Refused {
        Box::new(SessionEnd::new(Some(error), None, None, Vec::new()))
    }

    /// Whether a hook is to be called.
    pub(super) fn has_events(&self) -> bool {
        !self.strays.is_empty() || self.lease_end.as_ref().is_some_and(LeaseEnd::is_poisoned)
    }

    /// Whether the calling thread is the session's own.
    pub(super) fn is_of_current_thread(&self) -> bool {
        self.lease_end.as_ref().is_some_and(LeaseEnd::is_of_current_thread)
    }

    /// On the owner's thread. Where that is the session's own, because an executor polls or drops where it is woken,
    /// nothing is waited for, and the hooks are called elsewhere.
    pub(super) fn report(self) -> (ThreadFate, Vec<Stray>) {
        if self.is_of_current_thread() {
            let fate = self.lease_end.as_ref().map_or(ThreadFate::Reusable, LeaseEnd::fate);
            let strays = self.strays.clone();
            self.report_detached();
            return (fate, strays);
        }
        self.returned.wait();
        let fate = self.lease_end.map_or(ThreadFate::Reusable, LeaseEnd::report);
        Stray::notify(&self.strays);
        (fate, self.strays)
    }

    /// On the session's own thread, where there is no owner. Hooks are called on another thread, when this one is gone
    /// if it could not be restored.
    pub(super) fn report_detached(self) {
        if self.has_events() {
            run_detached(move || drop(self.report()));
        }
    }
}

impl<'t> Session<'t> {
    /// On the pinned thread: enters, and makes a runtime.
    pub(super) fn begin(
        pool: &'static Pool,
        thread: &'t mut PinnedThread,
        lease_guard: LeaseGuard,
        ns: &NetNs,
        options: &Options,
        inspect: Inspect,
    ) -> Result<Session<'t>, Refused> {
        let entered = match thread.enter_checked(ns.as_target()) {
            Ok(()) => {
                CallRuntime::build(ns).map_err(|error| (error, LeaseEnd::restore(&pool.roster, thread, inspect, None)))
            }
            Err(error) => Err((error, LeaseEnd::not_entered(&pool.roster, thread))),
        };
        let runtime = match entered {
            Ok(runtime) => runtime,
            Err((error, lease_end)) => {
                return Err(Box::new(SessionEnd::new(Some(error), Some(lease_end), Some(lease_guard), Vec::new())));
            }
        };
        // Best effort: the name is diagnostic only.
        let name = if options.needs_fresh_thread() { None } else { options.name_for_kernel() };
        let named = name.is_some_and(|name| sys::name_current_thread(&name).is_ok());
        let audit = options.audit.then(|| Audit::begin(ns)).map(|audit| {
            let mark_guard = audit.mark_current();
            (audit, mark_guard)
        });
        Ok(Session { pool, thread, runtime: Some(runtime), inspect, audit, named, lease_guard: Some(lease_guard) })
    }

    /// Drives the runtime until `future` is ready.
    pub(super) fn drive<F: Future>(&mut self, future: F) -> F::Output {
        match &mut self.runtime {
            Some(CallRuntime { runtime, local, .. }) => local.run_until(runtime, future),
            None => unreachable!("the runtime is there until the end"),
        }
    }

    /// Whether the end may have to wait, for blocking closures or for what the audit finds awake.
    pub(super) fn may_take_long_to_end(&self) -> bool {
        let blocks = |runtime: &CallRuntime| runtime.blocking.any.load(Ordering::Relaxed);
        self.audit.is_some() || self.runtime.as_ref().is_some_and(blocks)
    }

    /// Ends what was spawned, and restores the thread.
    pub(super) fn end(mut self) -> (SessionEnd, HeldLease) {
        self.close()
    }

    fn close(&mut self) -> (SessionEnd, HeldLease) {
        if let Some(CallRuntime { runtime, local, blocking }) = self.runtime.take() {
            // tokio catches the panics of tasks' destructors, as it does in any runtime. Should it not, the restore
            // still happens.
            contain(|| {
                let inside = runtime.enter();
                drop(local);
                drop(inside);
                // Drops the tasks, and waits for blocking closures that run.
                drop(runtime);
            });
            blocking.wait_until_gone();
        }
        let strays = self.audit.take().map_or_else(Vec::new, |(audit, _marked)| audit.end());
        if std::mem::take(&mut self.named) {
            let _ = sys::name_current_thread(WORKER_NAME);
        }
        let lease_end = LeaseEnd::restore(&self.pool.roster, self.thread, self.inspect, None);
        SessionEnd::new(None, Some(lease_end), self.lease_guard.take(), strays)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.lease_guard.is_some() {
            self.thread.retire();
            let (session_end, held) = self.close();
            drop(held);
            session_end.report_detached();
        }
    }
}
