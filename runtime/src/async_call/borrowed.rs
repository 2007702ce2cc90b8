//! The borrowed form: each poll of the call's future runs on the body's thread, and the poller waits for it.

use std::future::poll_fn;
use std::mem;
use std::panic;
use std::sync::Arc;
use std::task::{self, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::body::GivenBody;
use super::launch::Launch;
use super::poll_rendezvous::{self, Detached, Ended, Finished, HostLost, Make, PendingHost, PollBudget, Poller};
use super::session::{AsyncSession, Refused, SessionEnd};
use super::table::CallTable;
use crate::call::Outcome;
use crate::call::context::{Context, PollerRun};
use crate::call::launch::{Options, ThreadKind};
use crate::error::Error;
use crate::netns::Place;
use crate::thread::{Allowance, Inspect, Pool, wake_elsewhere};
use crate::unwind::discard;

/// 128 polls are as many operations as tokio allows a task in one poll before it yields. A turn takes half a
/// microsecond. The time is that of two crossings to the other thread: the executor waits for one poll that computes,
/// and not for 128.
const POLL_BUDGET: PollBudget = PollBudget { polls: 128, turns: 3, time: Duration::from_micros(100), close_orders: 16 };

/// Runs a call, on the side that awaits it. The outcome has the panic of the body, and no value.
pub(crate) async fn call(
    place: Place,
    options: Options,
    inspect: Inspect,
    body: GivenBody<'_>,
) -> Result<Outcome<()>, Error> {
    let context = Context::of_async_caller();
    let make: Make<'_> = Box::new(move || Box::pin(body.into_body(context)));
    Running::begin(place, options, inspect, make)?.end().await
}

/// Runs a call, on the pinned thread.
fn host(
    session: Result<AsyncSession<'_>, Refused>,
    (pending_host, poller_run): (PendingHost<SessionEnd>, Arc<PollerRun>),
) {
    // An executor may poll its task on the thread that wakes it. A thread that could not be restored must not run that.
    let left = match session {
        Err((refused, lease)) => {
            let avoid_this_thread = refused.has_events();
            pending_host.reject(refused, lease, avoid_this_thread)
        }
        Ok(mut session) => {
            let mut host = pending_host.accept();
            let ended =
                session.try_drive(poll_fn(|cx| poller_run.within(|| host.serve(cx)))).unwrap_or_else(|payload| {
                    host.fail(payload);
                    // The runtime may not work any more.
                    poll_until_ready(|cx| host.serve(cx))
                });
            if ended == Ended::Finished && session.may_take_long_to_end() {
                host.release();
            }
            let (session_end, lease) = session.end();
            let avoid_this_thread = session_end.has_events();
            host.finish(session_end, lease, avoid_this_thread)
        }
    };
    left.into_iter().for_each(SessionEnd::report_detached);
}

/// Calls `poll` until it is ready, and parks the calling thread in between. It must be a thread of the crate, because
/// the park token is used.
fn poll_until_ready<R>(mut poll: impl FnMut(&mut task::Context<'_>) -> Poll<R>) -> R {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match poll(&mut task::Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A running call. Dropping it cancels the body.
///
/// A child process has a copy of it, but not its thread, which may have held the locks of the call at the fork. So
/// nothing of the call is used there, and the copy of the body leaks.
struct Running<'b> {
    /// `Some` until this is dropped.
    poller: Option<Poller<'b, SessionEnd>>,
    poller_run: Arc<PollerRun>,
    /// The pool of the process that began the call.
    pool: &'static Pool,
    kind: ThreadKind,
    table: CallTable,
}

impl<'b> Running<'b> {
    fn begin(place: Place, options: Options, inspect: Inspect, make: Make<'b>) -> Result<Running<'b>, Error> {
        let pool = Pool::of_process();
        let (poller, pending_host) =
            poll_rendezvous::pair(pool.roster.spin_limit().0, POLL_BUDGET, wake_elsewhere, make);
        let poller_run = Arc::<PollerRun>::default();
        // The thread gets this reference to the namespace, so that the call holds none when it returns.
        let launch = Launch {
            place,
            options,
            inspect,
            allowance: Allowance::of_caller(),
            payload: (pending_host, Arc::clone(&poller_run)),
            run: host,
        };
        match launch.begin() {
            Ok((kind, table)) => Ok(Running { poller: Some(poller), poller_run, pool, kind, table }),
            Err((error, Launch { payload: (pending_host, _), .. })) => {
                poller.reclaim(pending_host);
                Err(error)
            }
        }
    }

    /// Polls the body to its end. The outcome has its panic, and no value.
    async fn end(mut self) -> Result<Outcome<()>, Error> {
        let Ok(Finished { end: mut session_end, thrown }) = poll_fn(|cx| self.poll(cx.waker())).await? else {
            panic!("the thread of an async call was lost")
        };
        let refused = session_end.refused.take();
        let (fate, strays) = session_end.report();
        if let Some(error) = refused {
            return Err(error);
        }
        Ok(Outcome { value: thrown.map_or(Ok(()), Err), thread: self.kind.fate(fate), strays })
    }

    /// An error in another process than the one that began the call, and in another table of descriptors.
    fn poll(&mut self, waker: &Waker) -> Poll<Result<Result<Finished<SessionEnd>, HostLost>, Error>> {
        const OPERATION: &str = "await an async call";
        match &mut self.poller {
            Some(poller) if self.pool.is_of_this_process() => {
                if !self.table.is_known_here() && !poller.is_inline() {
                    self.table.check(OPERATION)?;
                }
                self.poller_run.note();
                poller.poll(waker).map(Ok)
            }
            _ => Poll::Ready(Err(Error::of_other_process(OPERATION))),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(mut poller) = self.poller.take() else { return };
        if !self.pool.is_of_this_process() {
            mem::forget(poller);
            return;
        }
        self.poller_run.note();
        let Detached { ended, thrown } = poller.leave(|host| self.table.wake(host));
        drop(poller);
        if let Some(session_end) = ended {
            session_end.report();
        }
        if let Some(payload) = thrown {
            // As if the body had been dropped here.
            if thread::panicking() { discard(payload) } else { panic::resume_unwind(payload) }
        }
    }
}
