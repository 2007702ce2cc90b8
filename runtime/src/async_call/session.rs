//! A pinned thread's session in a namespace with a runtime of the call's own, from its first task to the thread's return.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};

use super::local::LocalTasks;
use crate::call::Options;
use crate::call::audit::{Audit, MarkGuard, Stray};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys;
use crate::thread::fate::ThreadFate;
use crate::thread::pinned::PinnedThread;
use crate::thread::{CountGuard, Inspect, Lease, LeaseEnd, Pool, ThreadExit, WORKER_NAME};

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
    /// Of such as have stopped: they hold the namespace for a moment longer than whoever joins them is told.
    exits: Mutex<Vec<ThreadExit>>,
}

impl BlockingThreads {
    /// On the new thread. It inherited the namespace of whoever had it started, which may be elsewhere: a handle of the runtime can
    /// be carried anywhere.
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

/// Ends a runtime's new thread that could not enter. tokio has no other way to be told: a thread that panics when it starts takes
/// no work, which is left to another thread, or cancelled at the runtime's end.
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

impl LeaseGuard {
    fn end(self, lease_end: LeaseEnd) -> LeaseEnd {
        match self {
            LeaseGuard::Pooled(lease) => lease_end.return_lease(lease),
            LeaseGuard::Counted(counted) => {
                drop(counted);
                lease_end
            }
        }
    }
}

/// How a session ended, for whoever waits to settle.
#[derive(Debug)]
pub(super) struct SessionEnd {
    /// That it never began.
    pub(super) refused: Option<Error>,
    /// `None` where there was no thread.
    lease_end: Option<LeaseEnd>,
    strays: Vec<Stray>,
}

impl SessionEnd {
    pub(super) fn without_thread(error: Error) -> SessionEnd {
        SessionEnd { refused: Some(error), lease_end: None, strays: Vec::new() }
    }

    /// On the thread of whoever waited.
    pub(super) fn report(self) -> (ThreadFate, Vec<Stray>) {
        let fate = self.lease_end.map_or(ThreadFate::Reusable, LeaseEnd::report);
        Stray::notify(&self.strays);
        (fate, self.strays)
    }

    /// On the pinned thread, where nobody waits.
    pub(super) fn report_detached(self) {
        if let Some(lease_end) = self.lease_end {
            lease_end.report_detached();
        }
        Stray::notify(&self.strays);
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
    ) -> Result<Session<'t>, SessionEnd> {
        let entered = match thread.enter_unguarded(ns.as_target()) {
            Ok(()) => {
                CallRuntime::build(ns).map_err(|error| (error, LeaseEnd::restore(&pool.roster, thread, inspect, None)))
            }
            Err(error) => Err((error, LeaseEnd::not_entered(thread))),
        };
        let runtime = match entered {
            Ok(runtime) => runtime,
            Err((error, lease_end)) => {
                return Err(SessionEnd {
                    refused: Some(error),
                    lease_end: Some(lease_guard.end(lease_end)),
                    strays: Vec::new(),
                });
            }
        };
        // A name is for whoever looks; that it could not be set is no reason to refuse the call.
        let name = if options.fresh { None } else { options.name_for_kernel() };
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

    /// Ends what was spawned, goes home, and gives the lease back.
    pub(super) fn end(mut self) -> SessionEnd {
        self.close()
    }

    fn close(&mut self) -> SessionEnd {
        if let Some(CallRuntime { runtime, local, blocking }) = self.runtime.take() {
            // tokio catches what the destructors of tasks throw, as it does in any runtime. Should it not, the way home comes first.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| {
                let inside = runtime.enter();
                drop(local);
                drop(inside);
                // Drops the tasks, and waits for blocking closures that run.
                drop(runtime);
            }));
            blocking.wait_until_gone();
        }
        let strays = self.audit.take().map_or_else(Vec::new, |(audit, _marked)| audit.end());
        if std::mem::take(&mut self.named) {
            let _ = sys::name_current_thread(WORKER_NAME);
        }
        let lease_end = LeaseEnd::restore(&self.pool.roster, self.thread, self.inspect, None);
        let lease_end = match self.lease_guard.take() {
            Some(lease_guard) => lease_guard.end(lease_end),
            None => lease_end,
        };
        SessionEnd { refused: None, lease_end: Some(lease_end), strays }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.lease_guard.is_some() {
            self.thread.retire();
            self.close().report_detached();
        }
    }
}
