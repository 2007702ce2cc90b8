//! The context of the caller's thread that is also current in the body, which runs on another thread.
//!
//! With feature `tracing` it has the dispatcher and the span. With feature `tokio` it has the handle of the caller's
//! runtime, for synchronous bodies: an async body is in a runtime of its own. It always has the [`WorkerRun`] that the
//! caller is part of.

use std::cell::RefCell;
use std::panic;
#[cfg(feature = "tokio")]
use std::sync::MutexGuard;
use std::sync::{Arc, Mutex, PoisonError};

use crate::sys::process_local::in_one_process;
#[cfg(feature = "tracing")]
use crate::unwind::ContainDrop;
use crate::unwind::{Payload, catch, discard};

thread_local! {
    static WORKER_RUN: RefCell<Option<Arc<WorkerRun>>> = const { RefCell::new(None) };
}

/// The run of a closure by a [`Worker`](crate::Worker). Calls that the closure makes are part of it, on whichever
/// threads they run. By it a worker detects that it would wait for itself.
#[derive(Debug, Default)]
pub(crate) struct WorkerRun {
    /// The run that this one is part of.
    outer: Mutex<Option<Arc<WorkerRun>>>,
}

impl WorkerRun {
    /// The run that the calling thread is part of.
    pub(crate) fn current() -> Option<Arc<WorkerRun>> {
        // An access fails in the destructor of a thread-local, which is not part of a run.
        WORKER_RUN.try_with(|run| run.borrow().clone()).ok().flatten()
    }

    /// Whether the calling thread is part of this run.
    pub(crate) fn is_current(self: &Arc<Self>) -> bool {
        let mut run = WorkerRun::current();
        while let Some(inner) = run {
            if Arc::ptr_eq(&inner, self) {
                return true;
            }
            run = inner.outer();
        }
        false
    }

    fn outer(&self) -> Option<Arc<WorkerRun>> {
        self.outer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a run current on this thread, until the result is dropped.
    fn make_current(run: Arc<WorkerRun>) -> impl Drop {
        let before = WORKER_RUN.replace(Some(run));
        scopeguard::guard((), |()| drop(WORKER_RUN.replace(before)))
    }

    /// Sets the run that this one is part of.
    pub(crate) fn set_outer(&self, outer: Option<Arc<WorkerRun>>) {
        *self.outer.lock().unwrap_or_else(PoisonError::into_inner) = outer;
    }
}

/// The run that the poller of an async body is part of, which may differ at each poll. It is current on the body's
/// thread as long as the poller waits.
#[cfg(feature = "tokio")]
#[derive(Default)]
pub(crate) struct PollerRun(Mutex<Option<Arc<WorkerRun>>>);

#[cfg(feature = "tokio")]
impl PollerRun {
    /// Records the poller's run. To be called on the poller's thread, before it waits.
    pub(crate) fn note(&self) {
        *self.run() = WorkerRun::current();
    }

    /// Makes the run current on the body's thread while `serve` does what the poller waits for.
    pub(crate) fn within<R>(&self, serve: impl FnOnce() -> R) -> R {
        let run = self.run().clone();
        let _current = run.map(WorkerRun::make_current);
        serve()
    }

    fn run(&self) -> MutexGuard<'_, Option<Arc<WorkerRun>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the [module's documentation](self). It is taken on the caller's thread, and made current on the body's.
pub(crate) struct Context {
    /// Dropping it runs the subscriber, which must not keep a value or a panic from its caller.
    #[cfg(feature = "tracing")]
    tracing: Option<Tracing>,
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Handle>,
    worker_run: Option<Arc<WorkerRun>>,
}

#[cfg(feature = "tracing")]
type Tracing = ContainDrop<(tracing::Dispatch, tracing::Span)>;

/// The dispatcher of the calling thread, with a span. This costs nothing where the program has no subscriber.
#[cfg(feature = "tracing")]
fn dispatcher_and(span: fn() -> tracing::Span) -> Option<Tracing> {
    let both = || ContainDrop::new((tracing::dispatcher::get_default(Clone::clone), span()));
    tracing::dispatcher::has_been_set().then(both)
}

impl Context {
    /// The context of a synchronous body.
    pub(crate) fn of_caller() -> Context {
        Context {
            #[cfg(feature = "tracing")]
            tracing: dispatcher_and(tracing::Span::current),
            #[cfg(feature = "tokio")]
            runtime: tokio::runtime::Handle::try_current().ok(),
            worker_run: WorkerRun::current(),
        }
    }

    /// The context of a body that a worker runs.
    pub(crate) fn of_worker_run(run: Arc<WorkerRun>) -> Context {
        let mut context = Context::of_caller();
        context.worker_run = Some(run);
        context
    }

    /// The context of the thread of a pool of namespaces, which outlives the caller's span.
    pub(crate) fn of_netns_pool(run: Arc<WorkerRun>) -> Context {
        Context {
            #[cfg(feature = "tracing")]
            tracing: dispatcher_and(tracing::Span::none),
            #[cfg(feature = "tokio")]
            runtime: tokio::runtime::Handle::try_current().ok(),
            worker_run: Some(run),
        }
    }

    /// The context of an async body, which may outlive the run that its caller is part of: see [`PollerRun`].
    #[cfg(feature = "tokio")]
    pub(crate) fn of_async_caller() -> Context {
        let mut context = Context::of_caller();
        context.runtime = None;
        context.worker_run = None;
        context
    }

    /// Runs the body, or one poll of it, with this context current.
    pub(crate) fn within<R>(&self, body: impl FnOnce() -> R) -> R {
        let (mut body, mut result) = (Some(body), None);
        let run = self.run(&mut || result = body.take().map(|body| body()));
        match (run, result) {
            (Ok(()), Some(value)) => value,
            (Err(payload), result) => {
                drop(result);
                panic::resume_unwind(payload)
            }
            (Ok(()), None) => unreachable!("the body was called"),
        }
    }

    /// Whether there is nothing to make current.
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "tracing")]
        if self.tracing.is_some() {
            return false;
        }
        #[cfg(feature = "tokio")]
        if self.runtime.is_some() {
            return false;
        }
        self.worker_run.is_none()
    }

    /// Runs the body with this context current, and returns its panic, or that of a subscriber. It is not generic, so
    /// that its code is not compiled again for each body.
    pub(crate) fn run(&self, body: &mut dyn FnMut()) -> Result<(), Payload> {
        // The body's panic is caught here: a subscriber's `exit` may panic too, and two panics at once would end the
        // process. The body's panic has precedence.
        let mut thrown = None;
        let mut run = || thrown = catch(|| in_one_process(&mut *body)).err();
        let left = catch(|| in_one_process(|| self.make_current(&mut run)));
        match thrown {
            Some(payload) => {
                left.err().into_iter().for_each(discard);
                Err(payload)
            }
            None => left,
        }
    }

    fn make_current(&self, body: &mut dyn FnMut()) {
        let _run = self.worker_run.clone().map(WorkerRun::make_current);
        #[cfg(feature = "tokio")]
        let _current = self.runtime.as_ref().map(tokio::runtime::Handle::enter);
        #[cfg(feature = "tracing")]
        if let Some((dispatch, span)) = self.tracing.as_ref().and_then(ContainDrop::get) {
            return tracing::dispatcher::with_default(dispatch, || span.in_scope(body));
        }
        body();
    }
}
