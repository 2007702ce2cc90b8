//! The owned form: a body that borrows nothing, driven by its own thread at its own pace.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::panic;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, Waker};
use std::thread;

use super::launch::Launch;
use super::local::LastSeen;
use super::session::{HeldLease, Refused, Session, SessionEnd};
use crate::call::Call;
use crate::call::audit::Stray;
use crate::call::context::Context;
use crate::error::Error;
use crate::thread::{Allowance, Inspect, Pool, wake_elsewhere};
use crate::unwind::{Payload, catch, contain, discard};

/// Makes and polls a body, and returns its value or its panic. A panic of the body's destructor is the body's, too.
pub(super) async fn catch_panics<F, Fut, R>(context: Context, body: F) -> thread::Result<R>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let made = catch(|| context.within(body))?;
    let mut body = pin!(Some(made));
    let value = poll_fn(|cx| {
        let poll = || match body.as_mut().as_pin_mut() {
            Some(body) => context.within(|| body.poll(cx)),
            None => unreachable!("the body is there until it is ready"),
        };
        match catch(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await;
    let dropped = catch(|| context.within(|| body.set(None)));
    // The first panic is returned. What is not returned has a destructor of its own.
    match (value, dropped) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(value), Err(payload)) => {
            contain(|| drop(value));
            Err(payload)
        }
        (Err(payload), dropped) => {
            dropped.err().into_iter().for_each(discard);
            Err(payload)
        }
    }
}

/// Starts a body.
pub(super) fn spawn<F, Fut, R>(call: Call, body: F) -> JoinHandle<R>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    let task = Arc::new(Task::new());
    let payload = (Arc::clone(&task), Context::of_async_caller(), body);
    let begun = call.into_parts().and_then(|(ns, options)| {
        let launch =
            Launch { ns, options, inspect: Inspect::Later, allowance: Allowance::of_caller(), payload, run: host };
        launch.begin().map_err(|(error, _)| error)
    });
    if let Err(error) = begun {
        task.finish(Err(JoinError(Repr::Entry(error))), None);
    }
    JoinHandle { task: Some(task), strays: Vec::new() }
}

fn host<F, Fut, R>(session: Result<Session<'_>, Refused>, (task, context, body): (Arc<Task<R>>, Context, F))
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let host_guard = HostGuard(&task);
    let (outcome, ended) = match session {
        Ok(session) => drive(session, &task, context, body),
        Err(refused) => {
            let (mut session_end, lease) = *refused;
            let repr = session_end.refused.take().map_or(Repr::Cancelled, Repr::Entry);
            // Foreign code: the body's destructor.
            let dropped = catch(|| drop(body));
            (Err(dropped.map_or_else(JoinError::panicked, |()| JoinError(repr))), (session_end, lease))
        }
    };
    mem::forget(host_guard);
    task.finish(outcome, Some(ended));
}

fn drive<F, Fut, R>(
    mut session: Session<'_>,
    task: &Task<R>,
    context: Context,
    body: F,
) -> (Result<R, JoinError>, (SessionEnd, HeldLease))
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
    let mut outcome = session.drive(async {
        match (driven, catch(|| drop(body))) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(payload)), dropped) => {
                dropped.err().into_iter().for_each(discard);
                Err(JoinError::panicked(payload))
            }
            (Some(Ok(value)), Err(payload)) => {
                contain(|| drop(value));
                Err(JoinError::panicked(payload))
            }
            (None, Err(payload)) => Err(JoinError::panicked(payload)),
            (None, Ok(())) => Err(JoinError(Repr::Cancelled)),
        }
    });
    if task.is_detached() {
        // No one awaits the output: it is dropped inside, as the body was.
        let unwanted = mem::replace(&mut outcome, Err(JoinError(Repr::Cancelled)));
        session.drive(async { contain(|| drop(unwanted)) });
    }
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
        Ok(value) => Ok((value, mem::take(&mut task.0.strays))),
        Err(JoinError(Repr::Entry(error))) => Err(error),
        Err(JoinError(Repr::Panicked(payload))) => {
            panic::resume_unwind(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
        }
        Err(JoinError(Repr::Cancelled)) => unreachable!("only its call aborts it, when that is dropped"),
    }
}

/// A body on its way, seen from both sides.
struct Task<R> {
    /// Of the process that began it. A child process has a copy of the task, and not of its thread. There nothing of it
    /// is touched: its lock may be held by that thread.
    pool: &'static Pool,
    state: Mutex<State<R>>,
    aborted: AtomicBool,
}

struct State<R> {
    /// With what is left to settle, where a thread was found.
    outcome: Option<(Result<R, JoinError>, Option<SessionEnd>)>,
    /// The handle was dropped.
    detached: bool,
    host: Option<Waker>,
    joiner: Option<Waker>,
    finished: bool,
}

impl<R> Task<R> {
    fn new() -> Task<R> {
        let state = State { outcome: None, detached: false, host: None, joiner: None, finished: false };
        Task { pool: Pool::of_process(), state: Mutex::new(state), aborted: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the host's thread, before each poll of the body.
    fn is_aborted(&self, cx: &task::Context<'_>, known: &mut LastSeen) -> bool {
        if known.is_new(cx.waker()) {
            let host = cx.waker().clone();
            let before = self.state().host.replace(host);
            drop(before);
        }
        // After the waker was registered: an abort that did not find it is seen here.
        self.aborted.load(Ordering::Acquire)
    }

    fn is_detached(&self) -> bool {
        self.state().detached
    }

    /// The lease is dropped last: the wake, and the destructor of an output that nothing awaits, are foreign code on
    /// its thread.
    fn finish(&self, outcome: Result<R, JoinError>, ended: Option<(SessionEnd, HeldLease)>) {
        let (session_end, lease) = ended.unzip();
        let mut state = self.state();
        state.finished = true;
        let host = state.host.take();
        if state.detached {
            drop(state);
            drop(host);
            contain(|| drop(outcome));
            drop(lease);
            session_end.into_iter().for_each(SessionEnd::report_detached);
            return;
        }
        let avoid_this_thread = session_end.as_ref().is_some_and(SessionEnd::has_events);
        state.outcome = Some((outcome, session_end));
        let joiner = state.joiner.take();
        drop(state);
        drop(host);
        if let Some(joiner) = joiner {
            wake_joiner(joiner, avoid_this_thread);
        }
        drop(lease);
    }
}

/// Calls the waker of a handle, which is foreign code.
fn wake_joiner(joiner: Waker, avoid_this_thread: bool) {
    let left = if avoid_this_thread { wake_elsewhere(joiner).err() } else { Some(joiner) };
    if let Some(joiner) = left {
        contain(|| joiner.wake());
    }
}

/// Tells the joiner if the host unwinds.
struct HostGuard<'t, R>(&'t Task<R>);

impl<R> Drop for HostGuard<'_, R> {
    fn drop(&mut self) {
        self.0.finish(Err(JoinError(Repr::Cancelled)), None);
    }
}

trait Abort: Send + Sync {
    fn abort(&self);
    fn is_finished(&self) -> bool;
}

impl<R: Send> Abort for Task<R> {
    fn abort(&self) {
        if !self.pool.is_of_this_process() {
            return;
        }
        self.aborted.store(true, Ordering::Release);
        // One wake is enough: the host sees that it is aborted, and polls no more.
        let host = self.state().host.take();
        if let Some(host) = host {
            host.wake();
        }
    }

    fn is_finished(&self) -> bool {
        if !self.pool.is_of_this_process() {
            return true;
        }
        let state = self.state();
        state.finished || state.outcome.is_some()
    }
}

/// The handle of a body that [`NetNs::spawn_async`](crate::NetNs::spawn_async) started: a future of its output.
///
/// Ready when the body, and all that it spawned, has ended and its thread is home. Dropping it detaches the body, which
/// then goes on.
pub struct JoinHandle<R> {
    /// `None` when the outcome was taken.
    task: Option<Arc<Task<R>>>,
    /// What the audit found, when the outcome was taken.
    strays: Vec<Stray>,
}

impl<R> JoinHandle<R> {
    /// Has the body dropped on its thread, inside the namespace, as soon as it yields. Where it has finished already,
    /// nothing happens.
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

    /// Whether everything has ended. In a child process of the one that started the body: yes.
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
        if !task.pool.is_of_this_process() {
            mem::forget(self.task.take());
            return Poll::Ready(Err(JoinError(Repr::Entry(Error::of_other_process("await an async body")))));
        }
        // Cloning and dropping wakers is foreign code: it does not run under the lock.
        let mut waker = cx.waker().clone();
        let mut state = task.state();
        let is_own_thread =
            |(_, end): &(_, Option<SessionEnd>)| end.as_ref().is_some_and(SessionEnd::is_of_current_thread);
        if state.outcome.as_ref().is_some_and(is_own_thread) {
            // Woken on the call's own thread, by an executor that polls where it is woken. It goes on elsewhere, unless
            // no thread can be had.
            drop(state);
            waker = match wake_elsewhere(waker) {
                Ok(()) => return Poll::Pending,
                Err(waker) => waker,
            };
            state = task.state();
        }
        let Some((outcome, session_end)) = state.outcome.take() else {
            let before = state.joiner.replace(waker);
            drop(state);
            drop(before);
            return Poll::Pending;
        };
        drop(state);
        drop(waker);
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
        if !task.pool.is_of_this_process() {
            mem::forget(task);
            return;
        }
        let mut state = task.state();
        state.detached = true;
        let (outcome, joiner) = (state.outcome.take(), state.joiner.take());
        drop(state);
        // Reported first: the destructors of the waker and of the output may panic.
        let (_output, session_end) = outcome.unzip();
        session_end.flatten().into_iter().for_each(|session_end| drop(session_end.report()));
        drop(joiner);
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
    Panicked(Mutex<Payload>),
}

impl JoinError {
    fn panicked(payload: Payload) -> JoinError {
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
