//! The handle of an async body that runs by itself, and what it shares with the thread of that body.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, Waker, ready};

use super::body::{AnyValue, Value};
use super::budget::Unit;
use super::local::LastSeen;
use super::session::{HeldLease, SessionEnd};
use super::table::CallTable;
use crate::call::audit::Stray;
use crate::error::Error;
use crate::thread::{Pool, wake_elsewhere};
use crate::unwind::{Payload, contain};

/// The state of a running body, which its host and its handle share.
pub(super) struct Task {
    /// The pool of the process that began it. A child process has a copy of the task, but not its thread, which may
    /// have held the lock at the fork. So nothing of the task is used there.
    pool: &'static Pool,
    state: Mutex<State>,
    aborted: AtomicBool,
    /// The value, where the body has ended without a panic.
    value: Arc<dyn AnyValue>,
}

struct State {
    /// The outcome, and the end of the session where there was a thread.
    outcome: Option<(Result<(), JoinError>, Option<SessionEnd>)>,
    /// The handle was dropped.
    detached: bool,
    host: Option<Waker>,
    joiner: Option<Waker>,
    finished: bool,
}

impl Task {
    pub(super) fn new(value: Arc<dyn AnyValue>) -> Task {
        let state = State { outcome: None, detached: false, host: None, joiner: None, finished: false };
        Task { pool: Pool::of_process(), state: Mutex::new(state), aborted: AtomicBool::new(false), value }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the host's waker. To be called on the host's thread, before each poll of the body.
    pub(super) fn is_aborted(&self, cx: &task::Context<'_>, known: &mut LastSeen) -> bool {
        if known.is_new(cx.waker()) {
            let host = cx.waker().clone();
            let before = self.state().host.replace(host);
            drop(before);
        }
        // Read after the waker was registered: an abort that did not find the waker is seen here.
        self.aborted.load(Ordering::Acquire)
    }

    /// Drops the host's waker, which keeps the runtime. To be called when the body has ended, and before the runtime
    /// ends.
    pub(super) fn forget_host(&self) {
        let host = self.state().host.take();
        drop(host);
    }

    pub(super) fn is_detached(&self) -> bool {
        self.state().detached
    }

    /// Drops the value, if there is one. Its destructor is foreign code.
    pub(super) fn discard_value(&self) {
        self.value.discard();
    }

    /// Stores the outcome and wakes the joiner. The lease is dropped last: the waker, and the destructor of an output
    /// that is not awaited, are foreign code on its thread.
    pub(super) fn finish(&self, outcome: Result<(), JoinError>, ended: Option<(SessionEnd, HeldLease)>) {
        let (session_end, lease) = ended.unzip();
        let mut state = self.state();
        state.finished = true;
        if state.detached {
            drop(state);
            contain(|| drop(outcome));
            contain(|| self.discard_value());
            drop(lease);
            session_end.into_iter().for_each(SessionEnd::report_detached);
            return;
        }
        let avoid_this_thread = session_end.as_ref().is_some_and(SessionEnd::has_events);
        state.outcome = Some((outcome, session_end));
        let joiner = state.joiner.take();
        drop(state);
        if let Some(joiner) = joiner {
            wake_joiner(joiner, avoid_this_thread);
        }
        drop(lease);
    }

    fn abort(&self, table: Option<&CallTable>) {
        if !self.pool.is_of_this_process() {
            return;
        }
        self.aborted.store(true, Ordering::Release);
        // One wake is enough: the host sees that it is aborted, and polls no more.
        let host = self.state().host.take();
        // There is none where the body was not started, and has no table.
        if let Some((host, table)) = host.zip(table) {
            table.wake(host);
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

/// Calls the waker of a handle, which is foreign code.
fn wake_joiner(joiner: Waker, avoid_this_thread: bool) {
    let left = if avoid_this_thread { wake_elsewhere(joiner).err() } else { Some(joiner) };
    if let Some(joiner) = left {
        contain(|| joiner.wake());
    }
}

/// Tells the joiner if the host unwinds.
pub(super) struct HostGuard<'t>(pub(super) &'t Task);

impl Drop for HostGuard<'_> {
    fn drop(&mut self) {
        self.0.forget_host();
        self.0.finish(Err(JoinError(Repr::Cancelled)), None);
    }
}

/// The handle of a body that [`NetNs::spawn_async`](crate::NetNs::spawn_async) started: a future of its output.
///
/// It is ready when the body, and all that it spawned, has ended and its thread is home. Dropping it detaches the body,
/// which then goes on.
pub struct JoinHandle<R> {
    task: TaskHandle,
    value: Arc<Value<R>>,
}

impl<R> JoinHandle<R> {
    pub(super) fn new(task: TaskHandle, value: Arc<Value<R>>) -> JoinHandle<R> {
        JoinHandle { task, value }
    }

    /// Makes the body be dropped on its thread, inside the namespace, as soon as it yields. If it has finished already,
    /// nothing happens.
    ///
    /// The tasks that it spawned end as when a body finishes; blocking closures that run are not interrupted.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// A handle that can only abort the body.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle { task: self.task.task.clone(), table: self.task.table.clone() }
    }

    /// Whether everything has ended. `true` in a forked child of the process that started the body.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.task.as_ref().is_none_or(|task| task.is_finished())
    }
}

impl<R> Future for JoinHandle<R> {
    type Output = Result<R, JoinError>;

    /// # Panics
    ///
    /// If it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.task.poll(cx).map_ok(|()| self.value.take())
    }
}

/// A [`JoinHandle`] without the value.
pub(super) struct TaskHandle {
    /// `None` when the outcome was taken.
    task: Option<Arc<Task>>,
    /// `None` if the body could not be started.
    table: Option<CallTable>,
    /// It was polled on the call's own thread, and the task was woken on another one.
    was_woken_elsewhere: bool,
    /// What it takes of the budget of the task that awaits it.
    unit: Unit,
    /// What the audit found, when the outcome was taken.
    pub(super) strays: Vec<Stray>,
}

impl TaskHandle {
    pub(super) fn new(task: Arc<Task>, table: Option<CallTable>) -> TaskHandle {
        TaskHandle { task: Some(task), table, was_woken_elsewhere: false, unit: Unit::default(), strays: Vec::new() }
    }

    pub(super) fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort(self.table.as_ref());
        }
    }

    /// Once it is ready without an error, the value is in its place.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), JoinError>> {
        const OPERATION: &str = "await an async body";
        let Some(task) = &self.task else { panic!("`JoinHandle` polled after completion") };
        if !task.pool.is_of_this_process() {
            mem::forget(self.task.take());
            return Poll::Ready(Err(JoinError(Repr::Entry(Error::of_other_process(OPERATION)))));
        }
        // Cloning and dropping wakers is foreign code: it does not run under the lock.
        let mut waker = cx.waker().clone();
        let mut state = task.state();
        let is_own_thread =
            |(_, end): &(_, Option<SessionEnd>)| end.as_ref().is_some_and(SessionEnd::is_of_current_thread);
        if !self.was_woken_elsewhere && state.outcome.as_ref().is_some_and(is_own_thread) {
            // An executor that polls where it is woken polls on the call's own thread. The task is woken on another
            // thread instead, unless none can be started. A waker that blocks on the handle polls again.
            drop(state);
            self.was_woken_elsewhere = true;
            waker = match wake_elsewhere(waker) {
                Ok(()) => return Poll::Pending,
                Err(waker) => waker,
            };
            state = task.state();
        } else if let Some(table) = self.table.as_mut().filter(|table| !table.is_known_here()) {
            drop(state);
            // The body goes on, and the handle can be awaited on another thread.
            table.check(OPERATION).map_err(|error| JoinError(Repr::Entry(error)))?;
            state = task.state();
        }
        if state.outcome.is_some() {
            // It takes budget, as tokio's own handle does. The outcome stays until there is some.
            drop(state);
            ready!(self.unit.poll(cx));
            state = task.state();
        }
        let Some((outcome, session_end)) = state.outcome.take() else {
            let before = state.joiner.replace(waker);
            drop(state);
            drop(before);
            return Poll::Pending;
        };
        drop(state);
        // A panic of its destructor must not lose the outcome.
        contain(|| drop(waker));
        self.task = None;
        if let Some(session_end) = session_end {
            (_, self.strays) = session_end.report();
        }
        Poll::Ready(outcome)
    }
}

impl Drop for TaskHandle {
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
        // The report comes first, because the destructors of the waker and of the output may panic.
        let (outcome, session_end) = outcome.unzip();
        session_end.flatten().into_iter().for_each(|session_end| drop(session_end.report()));
        let _output = outcome.map(|outcome| scopeguard::guard(outcome, |_| task.discard_value()));
        drop(joiner);
    }
}

impl<R> fmt::Debug for JoinHandle<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// A handle that aborts a body: see [`JoinHandle::abort_handle`].
#[derive(Clone)]
pub struct AbortHandle {
    task: Option<Arc<Task>>,
    table: Option<CallTable>,
}

impl AbortHandle {
    /// As [`JoinHandle::abort`].
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort(self.table.as_ref());
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

/// Why a body that was started returned no value.
pub struct JoinError(pub(super) Repr);

pub(super) enum Repr {
    Entry(Error),
    Cancelled,
    /// In a lock, because a payload need not be `Sync`.
    Panicked(Mutex<Payload>),
}

impl JoinError {
    pub(super) fn panicked(payload: Payload) -> JoinError {
        JoinError(Repr::Panicked(Mutex::new(payload)))
    }

    /// The failure to find a thread or to enter: the body was never made.
    ///
    /// An error of kind [`Unsupported`](crate::ErrorKind::Unsupported) may also concern the handle alone: it was
    /// awaited in a forked child, or on a thread with another table of file descriptors
    /// ([`inheritance`](crate::inheritance#tables-of-file-descriptors)). Then the body goes on.
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

    /// The payload of the body's panic, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    ///
    /// The error itself, where it is not a panic.
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
