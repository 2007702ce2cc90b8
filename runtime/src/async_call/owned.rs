//! The owned form: a body that borrows nothing, driven by its own thread at its own pace.

use std::future::{Future, poll_fn};
use std::mem;
use std::panic;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use super::body::Body;
use super::budget::take_unit;
use super::join::{HostGuard, JoinError, JoinHandle, Repr, Task};
use super::launch::Launch;
use super::local::LastSeen;
use super::session::{AsyncSession, HeldLease, Refused, SessionEnd};
use crate::call::audit::Stray;
use crate::call::context::Context;
use crate::call::{Call, LARGEST_MOVED};
use crate::error::Error;
use crate::thread::{Allowance, Inspect};
use crate::unwind::{catch, contain, discard};

/// Starts a body.
pub(super) fn spawn<F, Fut, R>(call: Call, body: F) -> JoinHandle<R>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    if const { size_of::<F>() <= LARGEST_MOVED } { spawn_moved(call, body) } else { spawn_moved(call, Box::new(body)) }
}

/// As [`spawn`], for a body that is moved to its thread.
fn spawn_moved<F, Fut, R>(call: Call, body: F) -> JoinHandle<R>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    let task = Arc::new(Task::new());
    let payload = (Arc::clone(&task), Context::of_async_caller(), body);
    let begun = call.into_parts().and_then(|(place, options)| {
        let launch =
            Launch { place, options, inspect: Inspect::Later, allowance: Allowance::of_caller(), payload, run: host };
        launch.begin().map_err(|(error, _)| error)
    });
    let table = match begun {
        Ok((_, table)) => Some(table),
        Err(error) => {
            task.finish(Err(JoinError(Repr::Entry(error))), None);
            None
        }
    };
    JoinHandle::new(task, table)
}

fn host<F, Fut, R>(session: Result<AsyncSession<'_>, Refused>, (task, context, body): (Arc<Task<R>>, Context, F))
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let host_guard = HostGuard(&task);
    let (outcome, ended) = match session {
        Ok(session) => drive(session, &task, context, body),
        Err((mut session_end, lease)) => {
            let repr = session_end.refused.take().map_or(Repr::Cancelled, Repr::Entry);
            // The body's destructor is foreign code.
            let dropped = catch(|| drop(body));
            (Err(dropped.map_or_else(JoinError::panicked, |()| JoinError(repr))), (session_end, lease))
        }
    };
    mem::forget(host_guard);
    task.finish(outcome, Some(ended));
}

fn drive<F, Fut, R>(
    mut session: AsyncSession<'_>,
    task: &Task<R>,
    context: Context,
    body: F,
) -> (Result<Box<R>, JoinError>, (SessionEnd, HeldLease))
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    let mut body = Body::new(context, body);
    let mut known = LastSeen::default();
    let driven = session.try_drive(poll_fn(|cx| {
        if task.is_aborted(cx, &mut known) {
            return Poll::Ready(None);
        }
        body.poll(cx).map(Some)
    }));
    let driven = driven.unwrap_or_else(|payload| Some(Err(payload)));
    let outcome = session.try_drive(async {
        let cleared = catch(|| body.clear());
        let mut outcome = match (driven, cleared) {
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
        };
        if task.is_detached() {
            // The output is not awaited: it is dropped as the body was.
            let unwanted = mem::replace(&mut outcome, Err(JoinError(Repr::Cancelled)));
            contain(|| body.within(|| drop(unwanted)));
        }
        drop(body);
        outcome
    });
    let outcome = outcome.unwrap_or_else(|payload| Err(JoinError::panicked(payload)));
    task.forget_host();
    (outcome, session.end())
}

/// Starts a body and awaits it, as a call does. Dropping the future aborts the body, and a panic is resumed.
pub(crate) async fn call<F, Fut, R>(call: Result<Call, Error>, body: Box<F>) -> Result<(Box<R>, Vec<Stray>), Error>
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
    // For the reason given in `Call::execute_async`.
    take_unit().await;
    let mut task = AbortOnDrop(spawn(call?, body));
    match poll_fn(|cx| task.0.poll_boxed(cx)).await {
        Ok(value) => Ok((value, mem::take(&mut task.0.strays))),
        Err(JoinError(Repr::Entry(error))) => Err(error),
        Err(JoinError(Repr::Panicked(payload))) => {
            panic::resume_unwind(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
        }
        Err(JoinError(Repr::Cancelled)) => unreachable!("only its call aborts it, when that is dropped"),
    }
}
