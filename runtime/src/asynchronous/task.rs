//! The owned form: a body that borrows nothing, driven by its own thread at its own pace.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, Waker};
use std::thread;

use super::entry::Work;
use super::local::LastSeen;
use super::stay::{Ending, Stay};
use crate::audit::Stray;
use crate::call::Call;
use crate::context::Context;
use crate::error::Error;
use crate::thread::Inspect;

/// Makes and polls a body, and catches what it throws, be it on its way out.
pub(super) async fn caught<F, Fut, R>(context: Context, body: F) -> thread::Result<R>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let made = panic::catch_unwind(AssertUnwindSafe(|| context.within(body)))?;
    let mut body = pin!(Some(made));
    let value = poll_fn(|cx| {
        let poll = || match body.as_mut().as_pin_mut() {
            Some(body) => context.within(|| body.poll(cx)),
            None => unreachable!("the body is there until it is ready"),
        };
        match panic::catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await;
    let dropped = panic::catch_unwind(AssertUnwindSafe(|| context.within(|| body.set(None))));
    // The first panic is the one to tell of.
    value.and_then(|value| dropped.map(|()| value))
}

/// Starts a body.
pub(super) fn spawn<F, Fut, R>(call: Call, body: F) -> JoinHandle<R>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    let task = Arc::new(Task::default());
    let cargo = (Arc::clone(&task), Context::of_async_caller(), body);
    let begun = call.into_parts().and_then(|(ns, options)| {
        let work = Work { ns, options, inspect: Inspect::Later, cargo, live: host };
        work.begin().map_err(|(error, _)| error)
    });
    if let Err(error) = begun {
        task.finish(Err(JoinError(Why::Entry(error))), None);
    }
    JoinHandle { task: Some(task), strays: Vec::new() }
}

fn host<F, Fut, R>(stay: Result<Stay<'_>, Ending>, (task, context, body): (Arc<Task<R>>, Context, F))
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let lost = Lost(&task);
    let (outcome, ending) = match stay {
        Ok(stay) => live(stay, &task, context, body),
        Err(mut ending) => {
            let why = ending.refused.take().map_or(Why::Cancelled, Why::Entry);
            // Somebody else's destructor.
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(body)));
            (Err(dropped.map_or_else(JoinError::panicked, |()| JoinError(why))), ending)
        }
    };
    std::mem::forget(lost);
    task.finish(outcome, Some(ending));
}

fn live<F, Fut, R>(mut stay: Stay<'_>, task: &Task<R>, context: Context, body: F) -> (Result<R, JoinError>, Ending)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let mut body = Box::pin(caught(context, body));
    let mut known = LastSeen::default();
    let driven = stay.drive(poll_fn(|cx| {
        if task.is_aborted(cx, &mut known) {
            return Poll::Ready(None);
        }
        body.as_mut().poll(cx).map(Some)
    }));
    let dropped = stay.drive(async { panic::catch_unwind(AssertUnwindSafe(|| drop(body))) });
    let outcome = match (driven, dropped) {
        (Some(Ok(value)), _) => Ok(value),
        (Some(Err(payload)), _) | (None, Err(payload)) => Err(JoinError::panicked(payload)),
        (None, Ok(())) => Err(JoinError(Why::Cancelled)),
    };
    (outcome, stay.end())
}

/// Starts a body and awaits it, as a call does: dropped, it aborts the body, and a panic is resumed.
pub(crate) async fn call<F, Fut, R>(call: Call, body: F) -> Result<(R, Vec<Stray>), Error>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    struct AbortOnDrop<R: Send>(JoinHandle<R>);
    impl<R: Send> Drop for AbortOnDrop<R> {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let mut task = AbortOnDrop(spawn(call, body));
    match (&mut task.0).await {
        Ok(value) => Ok((value, std::mem::take(&mut task.0.strays))),
        Err(JoinError(Why::Entry(error))) => Err(error),
        Err(JoinError(Why::Panicked(payload))) => {
            panic::resume_unwind(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
        }
        Err(JoinError(Why::Cancelled)) => unreachable!("nobody aborts it but its call, when that is dropped"),
    }
}

/// A body on its way, seen from both sides.
struct Task<R> {
    state: Mutex<State<R>>,
    aborted: AtomicBool,
}

struct State<R> {
    /// With what is left to settle, where a thread was found.
    outcome: Option<(Result<R, JoinError>, Option<Ending>)>,
    /// Nobody waits any more.
    detached: bool,
    host: Option<Waker>,
    joiner: Option<Waker>,
    finished: bool,
}

impl<R> Default for Task<R> {
    fn default() -> Task<R> {
        let state = State { outcome: None, detached: false, host: None, joiner: None, finished: false };
        Task { state: Mutex::new(state), aborted: AtomicBool::new(false) }
    }
}

impl<R> Task<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the host's thread, before each poll of the body.
    fn is_aborted(&self, cx: &task::Context<'_>, known: &mut LastSeen) -> bool {
        if known.is_new(cx.waker()) {
            self.state().host = Some(cx.waker().clone());
        }
        // After the waker was left: an abort that did not find it is seen here.
        self.aborted.load(Ordering::Acquire)
    }

    fn finish(&self, outcome: Result<R, JoinError>, ending: Option<Ending>) {
        let mut state = self.state();
        state.finished = true;
        state.host = None;
        if state.detached {
            drop(state);
            if let Some(ending) = ending {
                ending.settle_alone();
            }
            // Somebody else's destructor, which is not to end the thread.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(outcome)));
            return;
        }
        state.outcome = Some((outcome, ending));
        let joiner = state.joiner.take();
        drop(state);
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }
}

/// Tells the joiner, should the host unwind.
struct Lost<'t, R>(&'t Task<R>);

impl<R> Drop for Lost<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.finished = true;
        state.outcome = Some((Err(JoinError(Why::Cancelled)), None));
        let joiner = state.joiner.take();
        drop(state);
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }
}

trait Abort: Send + Sync {
    fn abort(&self);
    fn is_finished(&self) -> bool;
}

impl<R: Send> Abort for Task<R> {
    fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        let host = self.state().host.clone();
        if let Some(host) = host {
            host.wake();
        }
    }

    fn is_finished(&self) -> bool {
        let state = self.state();
        state.finished || state.outcome.is_some()
    }
}

/// The handle of a body that [`NetNs::spawn_async`](crate::NetNs::spawn_async) started: a future of its output.
///
/// Ready when the body, and all that it spawned, has ended and its thread is home. Dropping it detaches the body, which then goes
/// on.
pub struct JoinHandle<R> {
    /// `None` when the outcome was taken.
    task: Option<Arc<Task<R>>>,
    /// What the audit found, when the outcome was taken.
    strays: Vec<Stray>,
}

impl<R> JoinHandle<R> {
    /// Has the body dropped on its thread, inside the namespace, as soon as it yields. Where it has finished already, nothing happens.
    ///
    /// What it spawned ends as it does when a body finishes; blocking closures that run are left to end by themselves.
    pub fn abort(&self)
    where
        R: Send,
    {
        if let Some(task) = &self.task {
            Abort::abort(&**task);
        }
    }

    /// A handle that can abort the body, and do nothing else.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle
    where
        R: Send + 'static,
    {
        AbortHandle { task: self.task.clone().map(|task| task as Arc<dyn Abort>) }
    }

    /// Whether everything has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool
    where
        R: Send,
    {
        self.task.as_ref().is_none_or(|task| Abort::is_finished(&**task))
    }
}

impl<R> Future for JoinHandle<R> {
    type Output = Result<R, JoinError>;

    /// # Panics
    ///
    /// Where it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &self.task else { panic!("`JoinHandle` polled after completion") };
        let mut state = task.state();
        let Some((outcome, ending)) = state.outcome.take() else {
            state.joiner = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.task = None;
        if let Some(ending) = ending {
            (_, self.strays) = ending.settle();
        }
        Poll::Ready(outcome)
    }
}

impl<R> Drop for JoinHandle<R> {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        let mut state = task.state();
        state.detached = true;
        let outcome = state.outcome.take();
        drop(state);
        if let Some((_, Some(ending))) = outcome {
            ending.settle();
        }
    }
}

impl<R> fmt::Debug for JoinHandle<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// What aborts a body: see [`JoinHandle::abort_handle`].
#[derive(Clone)]
pub struct AbortHandle {
    task: Option<Arc<dyn Abort>>,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether everything has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(|task| task.is_finished())
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AbortHandle").finish_non_exhaustive()
    }
}

/// Why a body that was started brought nothing back.
pub struct JoinError(Why);

enum Why {
    Entry(Error),
    Cancelled,
    /// In a lock, because a payload need not be `Sync`.
    Panicked(Mutex<Box<dyn Any + Send>>),
}

impl JoinError {
    fn panicked(payload: Box<dyn Any + Send>) -> JoinError {
        JoinError(Why::Panicked(Mutex::new(payload)))
    }

    /// The failure to find a thread, or to enter: the body was never made.
    #[must_use]
    pub fn entry(&self) -> Option<&Error> {
        match &self.0 {
            Why::Entry(error) => Some(error),
            Why::Cancelled | Why::Panicked(_) => None,
        }
    }

    /// Whether the body was aborted.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Why::Cancelled)
    }

    /// Whether the body panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Why::Panicked(_))
    }

    /// What the body panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    ///
    /// The error itself, where it is something else than a panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.0 {
            Why::Panicked(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            why => Err(JoinError(why)),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Entry(error) => error.fmt(out),
            Why::Cancelled => out.write_str("the async body was aborted"),
            Why::Panicked(_) => out.write_str("the async body panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Entry(error) => out.debug_tuple("JoinError::Entry").field(error).finish(),
            Why::Cancelled => out.write_str("JoinError::Cancelled"),
            Why::Panicked(_) => out.write_str("JoinError::Panicked(…)"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.entry().and_then(std::error::Error::source)
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        match error.0 {
            Why::Entry(error) => error.into(),
            why => io::Error::other(JoinError(why)),
        }
    }
}
