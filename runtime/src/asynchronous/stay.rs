//! A pinned thread's stay in a namespace with a runtime of the call's own, from its first task to the thread's return.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};

use super::local::LocalTasks;
use crate::audit::{Audit, Marked, Stray};
use crate::call::Options;
use crate::error::{Error, ErrorKind};
use crate::fate::ThreadFate;
use crate::guard::PinnedThread;
use crate::netns::NetNs;
use crate::sys;
use crate::thread::{Counted, Departure, Farewell, Handed, Inspect, Lease, Pool, WORKER_NAME};

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
        builder.on_thread_start(move || starts.one_starts(&ns)).on_thread_stop(move || stops.one_stops());
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
    departures: Mutex<Vec<Departure>>,
}

impl BlockingThreads {
    /// On the new thread. It inherited the namespace of whoever had it started, which may be elsewhere: a handle of the runtime can
    /// be carried anywhere.
    fn one_starts(&self, ns: &NetNs) {
        self.any.store(true, Ordering::Relaxed);
        run_nothing_elsewhere(ns, enter_by_birth_or_now(ns));
    }

    fn one_stops(&self) {
        let mut departures = self.departures.lock().unwrap_or_else(PoisonError::into_inner);
        departures.retain(|departure| !departure.is_over());
        departures.push(Departure::of_current());
    }

    fn wait_until_gone(&self) {
        let departures = std::mem::take(&mut *self.departures.lock().unwrap_or_else(PoisonError::into_inner));
        departures.into_iter().for_each(Departure::wait);
    }
}

/// Takes a runtime's new thread into `ns`, if it is not there by birth.
pub(super) fn enter_by_birth_or_now(ns: &NetNs) -> Result<(), Error> {
    match ns.is_current() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => ns.door().enter_for_good(),
    }
}

/// Ends a runtime's new thread that could not enter. tokio has no other way to be told: a thread that panics when it starts takes
/// no work, which is left to another thread, or cancelled at the runtime's end.
pub(super) fn run_nothing_elsewhere(ns: &NetNs, entered: Result<(), Error>) {
    if let Err(error) = entered {
        panic!("a thread of the runtime in {ns} could not get there, and runs nothing: {error}");
    }
}

/// See the [module's documentation](self).
pub(super) struct Stay<'t> {
    pool: &'static Pool,
    thread: &'t mut PinnedThread,
    runtime: Option<CallRuntime>,
    inspect: Inspect,
    audit: Option<(Audit, Marked)>,
    /// Whether the thread was given a name for this.
    named: bool,
    /// `None` when the stay has ended.
    leased: Option<Leased>,
}

/// What ends with a stay.
pub(super) enum Leased {
    Pooled(Lease),
    /// A count, for a thread of the call's own.
    Counted(Counted),
}

impl Leased {
    fn end(self, farewell: Farewell) -> Farewell {
        match self {
            Leased::Pooled(lease) => farewell.end(lease, Handed::Done(None)),
            Leased::Counted(counted) => {
                drop(counted);
                farewell
            }
        }
    }
}

/// How a stay ended, for whoever waits to settle.
#[derive(Debug)]
pub(super) struct Ending {
    /// That it never began.
    pub(super) refused: Option<Error>,
    /// `None` where there was no thread.
    farewell: Option<Farewell>,
    strays: Vec<Stray>,
}

impl Ending {
    pub(super) fn without_thread(error: Error) -> Ending {
        Ending { refused: Some(error), farewell: None, strays: Vec::new() }
    }

    /// On the thread of whoever waited.
    pub(super) fn settle(self) -> (ThreadFate, Vec<Stray>) {
        let fate = self.farewell.map_or(ThreadFate::Reusable, Farewell::settle);
        Stray::tell(&self.strays);
        (fate, self.strays)
    }

    /// On the pinned thread, where nobody waits.
    pub(super) fn settle_alone(self) {
        if let Some(farewell) = self.farewell {
            farewell.settle_alone();
        }
        Stray::tell(&self.strays);
    }
}

impl<'t> Stay<'t> {
    /// On the pinned thread: enters, and makes a runtime.
    pub(super) fn begin(
        pool: &'static Pool,
        thread: &'t mut PinnedThread,
        leased: Leased,
        ns: &NetNs,
        options: &Options,
        inspect: Inspect,
    ) -> Result<Stay<'t>, Ending> {
        let entered = match thread.go(ns.door()) {
            Ok(()) => CallRuntime::build(ns).map_err(|error| (error, Farewell::say(pool, thread, inspect, None))),
            Err(error) => Err((error, Farewell::at_the_door(thread))),
        };
        let runtime = match entered {
            Ok(runtime) => runtime,
            Err((error, farewell)) => {
                return Err(Ending { refused: Some(error), farewell: Some(leased.end(farewell)), strays: Vec::new() });
            }
        };
        // A name is for whoever looks; that it could not be set is no reason to refuse the call.
        let name = if options.fresh { None } else { options.name_for_kernel() };
        let named = name.is_some_and(|name| sys::name_current_thread(&name).is_ok());
        let audit = options.audit.then(|| Audit::begin(ns)).map(|audit| {
            let marked = audit.mark_current();
            (audit, marked)
        });
        Ok(Stay { pool, thread, runtime: Some(runtime), inspect, audit, named, leased: Some(leased) })
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
    pub(super) fn end(mut self) -> Ending {
        self.wind_up()
    }

    fn wind_up(&mut self) -> Ending {
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
        let farewell = Farewell::say(self.pool, self.thread, self.inspect, None);
        let farewell = match self.leased.take() {
            Some(leased) => leased.end(farewell),
            None => farewell,
        };
        Ending { refused: None, farewell: Some(farewell), strays }
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.leased.is_some() {
            self.thread.retire();
            self.wind_up().settle_alone();
        }
    }
}
