//! The borrowed form: each poll of the call's future is handed over to the body's thread, and waited for.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::launch::Launch;
use super::owned::catch_panics;
use super::poll_rendezvous::{self, Detached, Ended, PendingHost, PollBudget, Poller};
use super::session::{Session, SessionEnd};
use crate::call::context::Context;
use crate::call::{Options, Outcome};
use crate::error::Error;
use crate::netns::NetNs;
use crate::thread::{Inspect, Pool};

/// As much as tokio lets a task do in one poll before it has it yield: 128 operations. A turn takes half a microsecond. Polls that
/// compute end it after the time that two crossings take: whoever awaits waits for one of those, and not for 128.
const POLL_BUDGET: PollBudget = PollBudget { polls: 128, turns: 3, time: Duration::from_micros(100) };

thread_local! {
    /// The call that the calling thread is host of: the address of its line.
    static HOST_OF: Cell<usize> = const { Cell::new(0) };
}

/// The life of a call, on the side of whoever awaits it.
pub(crate) async fn call<F, Fut, R>(ns: NetNs, options: Options, inspect: Inspect, body: F) -> Result<Outcome<R>, Error>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = R>,
    R: Send,
{
    let brought = Arc::new(Mutex::new(None));
    let (poller, pending_host) = {
        let (brought, context) = (Arc::clone(&brought), Context::of_async_caller());
        let body = move || async move {
            let value = catch_panics(context, body).await;
            *brought.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        };
        poll_rendezvous::pair(Pool::of_process().roster.spin_limit().0, POLL_BUDGET, body)
    };
    let payload = (pending_host, poller.address());
    // The call holds no reference to the namespace when it returns: its thread gets this one.
    let launch = Launch { ns, options: options.clone(), inspect, payload, run: host };
    if let Err((error, Launch { payload: (pending_host, _), .. })) = launch.begin() {
        poller.reclaim(pending_host);
        return Err(error);
    }
    let mut running = Running { poller };
    let ended = poll_fn(|cx| {
        assert!(
            !running.is_hosted_here(),
            "the future of an async call was polled by a task of that very call, which would wait for itself for ever"
        );
        running.poller.poll(cx.waker())
    })
    .await;
    let Ok(mut session_end) = ended else { unreachable!("the thread of an async call was lost") };
    let refused = session_end.refused.take();
    let (fate, strays) = session_end.report();
    let value = brought.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (refused, value) {
        (Some(error), _) => Err(error),
        (None, Some(value)) => Ok(Outcome { value, thread: options.fate(fate), strays }),
        (None, None) => unreachable!("a body that has finished brings something back"),
    }
}

/// The same life, on the pinned thread.
fn host(session: Result<Session<'_>, SessionEnd>, (pending_host, address): (PendingHost<SessionEnd>, usize)) {
    let mut session = match session {
        Ok(session) => session,
        Err(refused) => return pending_host.reject(refused),
    };
    HOST_OF.set(address);
    let mut host = pending_host.accept();
    let ended = session.drive(poll_fn(|cx| host.serve(cx)));
    if ended == Ended::Finished && session.may_take_long_to_end() {
        host.release();
    }
    let session_end = session.end();
    HOST_OF.set(0);
    if let Some(session_end) = host.finish(session_end) {
        session_end.report_detached();
    }
}

/// A call under way. Dropping it cancels the body.
struct Running<F, Fut> {
    poller: Poller<F, Fut, SessionEnd>,
}

impl<F, Fut> Running<F, Fut> {
    fn is_hosted_here(&self) -> bool {
        HOST_OF.get() == self.poller.address()
    }
}

impl<F, Fut> Drop for Running<F, Fut> {
    fn drop(&mut self) {
        let on_host = self.is_hosted_here();
        let Detached { ended, thrown } = self.poller.leave(on_host);
        if let Some(session_end) = ended {
            session_end.report();
        }
        if let Some(payload) = thrown {
            if !thread::panicking() {
                // As if the body had been dropped here.
                panic::resume_unwind(payload);
            }
        }
    }
}
