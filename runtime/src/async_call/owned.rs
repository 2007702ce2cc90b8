//! The owned form: a body that borrows nothing, driven by its own thread at its own pace.

use std::future::poll_fn;
use std::mem;
use std::panic;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use super::body::{AnyValue, GivenBody};
use super::budget::take_unit;
use super::join::{HostGuard, JoinError, Repr, Task, TaskHandle};
use super::launch::Launch;
use super::local::LastSeen;
use super::session::{AsyncSession, HeldLease, Refused, SessionEnd};
use crate::call::Call;
use crate::call::audit::Stray;
use crate::call::context::Context;
use crate::error::Error;
use crate::thread::{Allowance, Inspect};
use crate::unwind::{catch, contain, discard};

/// Starts a body.
pub(super) fn spawn(call: Call, body: GivenBody<'static>, value: Arc<dyn AnyValue>) -> TaskHandle {
    let task = Arc::new(Task::new(value));
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
    TaskHandle::new(task, table)
}

fn host(session: Result<AsyncSession<'_>, Refused>, (task, context, body): (Arc<Task>, Context, GivenBody<'static>)) {
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

fn drive(
    mut session: AsyncSession<'_>,
    task: &Task,
    context: Context,
    body: GivenBody<'_>,
) -> (Result<(), JoinError>, (SessionEnd, HeldLease)) {
    let mut body = body.into_body(context);
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
            (Some(Err(payload)), dropped) => {
                dropped.err().into_iter().for_each(discard);
                Err(JoinError::panicked(payload))
            }
            (_, Err(payload)) => Err(JoinError::panicked(payload)),
            (Some(Ok(())), Ok(())) => Ok(()),
            (None, Ok(())) => Err(JoinError(Repr::Cancelled)),
        };
        if task.is_detached() {
            // The output is not awaited: it is dropped as the body was.
            let unwanted = mem::replace(&mut outcome, Err(JoinError(Repr::Cancelled)));
            let drop_output = || {
                drop(unwanted);
                task.discard_value();
            };
            contain(|| body.within(drop_output));
        }
        drop(body);
        outcome
    });
    let outcome = outcome.unwrap_or_else(|payload| Err(JoinError::panicked(payload)));
    task.forget_host();
    (outcome, session.end())
}

/// Starts a body and awaits it, as a call does. Its value is in its place then. Dropping the future aborts the body,
/// and a panic is resumed.
pub(crate) async fn call(
    call: Result<Call, Error>,
    body: GivenBody<'static>,
    value: Arc<dyn AnyValue>,
) -> Result<Vec<Stray>, Error> {
    struct AbortOnDrop(TaskHandle);
    impl Drop for AbortOnDrop {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    // For the reason given in `Call::execute_async`.
    take_unit().await;
    let mut task = AbortOnDrop(spawn(call?, body, value));
    match poll_fn(|cx| task.0.poll(cx)).await {
        Ok(()) => Ok(mem::take(&mut task.0.strays)),
        Err(JoinError(Repr::Entry(error))) => Err(error),
        Err(JoinError(Repr::Panicked(payload))) => {
            panic::resume_unwind(payload.into_inner().unwrap_or_else(PoisonError::into_inner))
        }
        Err(JoinError(Repr::Cancelled)) => unreachable!("only its call aborts it, when that is dropped"),
    }
}
