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

use super::launch::Launch;
use super::local::LastSeen;
use super::session::{Session, SessionEnd};
use crate::call::Call;
use crate::call::audit::Stray;
use crate::call::context::Context;
use crate::error::Error;
use crate::thread::Inspect;

/// Makes and polls a body, and catches what it throws, be it on its way out.
pub(super) async fn catch_panics<F, Fut, R>(context: Context, body: F) -> thread::Result<R>
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
    let payload = (Arc::clone(&task), Context::of_async_caller(), body);
    let begun = call.into_parts().and_then(|(ns, options)| {
        let launch = Launch { ns, options, inspect: Inspect::Later, payload, run: host };
        launch.begin().map_err(|(error, _)| error)
    });
    if let Err(error) = begun {
        task.finish(Err(JoinError(Repr::Entry(error))), None);
    }
    JoinHandle { task: Some(task), strays: Vec::new() }
}

fn host<F, Fut, R>(session: Result<Session<'_>, SessionEnd>, (task, context, body): (Arc<Task<R>>, Context, F))
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let lost = HostGuard(&task);
    let (outcome, session_end) = match session {
        Ok(session) => drive(session, &task, context, body),
        Err(mut session_end) => {
            let why = session_end.refused.take().map_or(Repr::Cancelled, Repr::Entry);
            // Somebody else's destructor.
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(body)));
            (Err(dropped.map_or_else(JoinError::panicked, |()| JoinError(why))), session_end)
        }
    };
    std::mem::forget(lost);
    task.finish(outcome, Some(session_end));
}

fn drive<F, Fut, R>(
    mut session: Session<'_>,
    task: &Task<R>,
    context: Context,
    body: F,
) -> (Result<R, JoinError>, SessionEnd)
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let mut body = Box::pin(catch_panics(context, body));
    let mut known = LastSeen::default();
    let driven = session.drive(poll_fn(|cx| {
        if task.is_aborted(cx, &mut known) {
            return Poll::Ready(None);
        }
        body.as_mut().poll(cx).map(Some)
    }));
    let dropped = session.drive(async { panic::catch_unwind(AssertUnwindSafe(|| drop(body))) });
    let outcome = match (driven, dropped) {
        (Some(Ok(value)), _) => Ok(value),
        (Some(Err(payload)), _) | (None, Err(payload)) => Err(JoinError::panicked(payload)),
        (None, Ok(())) => Err(JoinError(Repr::Cancelled)),
    };
    (outcome, session.end())
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
        Err(JoinError(Repr::Entry(error))) => Err(error),
        Err(JoinError(Repr::Panicked(payload))) => {
            panic::resume_unwind(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
        }
        Err(JoinError(Repr::Cancelled)) => unreachable!("nobody aborts it but its call, when that is dropped"),
    }
}

/// A body on its way, seen from both sides.
struct Task<R> {
    state: Mutex<State<R>>,
    aborted: AtomicBool,
}

struct State<R> {
    /// With what is left to settle, where a thread was found.
    outcome: Option<(Result<R, JoinError>, Option<SessionEnd>)>,
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

    fn finish(&self, outcome: Result<R, JoinError>, session_end: Option<SessionEnd>) {
        let mut state = self.state();
        state.finished = true;
        state.host = None;
        if state.detached {
            drop(state);
            if let Some(session_end) = session_end {
                session_end.report_detached();
            }
            // Somebody else's destructor, which is not to end the thread.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(outcome)));
            return;
        }
        state.outcome = Some((outcome, session_end));
        let joiner = state.joiner.take();
        drop(state);
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }
}

/// Tells the joiner, should the host unwind.
struct HostGuard<'t, R>(&'t Task<R>);

impl<R> Drop for HostGuard<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.finished = true;
        state.outcome = Some((Err(JoinError(Repr::Cancelled)), None));
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
        let Some((outcome, session_end)) = state.outcome.take() else {
            state.joiner = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.task = None;
        if let Some(session_end) = session_end {
            (_, self.strays) = session_end.report();
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
        if let Some((_, Some(session_end))) = outcome {
            session_end.report();
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
pub struct JoinError(Repr);

enum Repr {
    Entry(Error),
    Cancelled,
    /// In a lock, because a payload need not be `Sync`.
    Panicked(Mutex<Box<dyn Any + Send>>),
}

impl JoinError {
    fn panicked(payload: Box<dyn Any + Send>) -> JoinError {
        JoinError(Repr::Panicked(Mutex::new(payload)))
    }

    /// The failure to find a thread, or to enter: the body was never made.
    #[must_use]
    pub fn entry(&self) -> Option<&Error> {
        match &self.0 {
            Repr::Entry(error) => Some(error),
            Repr::Cancelled | Repr::Panicked(_) => None,
        }
    }

    /// Whether the body was aborted.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Repr::Cancelled)
    }

    /// Whether the body panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Repr::Panicked(_))
    }

    /// What the body panicked with, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    ///
    /// The error itself, where it is something else than a panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.0 {
            Repr::Panicked(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            why => Err(JoinError(why)),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Entry(error) => error.fmt(out),
            Repr::Cancelled => out.write_str("the async body was aborted"),
            Repr::Panicked(_) => out.write_str("the async body panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Entry(error) => out.debug_tuple("JoinError::Entry").field(error).finish(),
            Repr::Cancelled => out.write_str("JoinError::Cancelled"),
            Repr::Panicked(_) => out.write_str("JoinError::Panicked(…)"),
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
            Repr::Entry(error) => error.into(),
            why => io::Error::other(JoinError(why)),
        }
    }
}
