//! A session: the time of a pinned thread in a namespace, from its entry to its restore, in sync and async calls.
//!
//! ```text
//! entered ─ begin: marked for the audit, named ─ body ─ end: restored, inspected if wanted now
//! ```

use std::cell::Cell;
use std::ffi::CStr;
use std::mem;
use std::os::fd::BorrowedFd;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use crate::call::audit::{Audit, MarkGuard};
use crate::call::context::Context;
use crate::error::Error;
use crate::netns::{NetNs, Target};
use crate::sys;
use crate::sys::process_local::in_one_process;
#[cfg(feature = "tokio")]
use crate::thread::keeper::Closer;
use crate::thread::late_value::LateValue;
use crate::thread::pinned::PinnedThread;
use crate::thread::rendezvous::{AssistPoint, Job};
use crate::thread::{Allowance, Inspect, Lease, LeaseEnd, Pool, WORKER_NAME};
use crate::unwind::{catch, contain};

/// See the [module's documentation](self).
pub(crate) struct Session<'t> {
    pool: &'static Pool,
    thread: &'t mut PinnedThread,
    inspect: Inspect,
    is_named: bool,
    mark_guard: Option<MarkGuard>,
}

impl<'t> Session<'t> {
    /// Begins a session on the pinned thread, unless it could not enter. A pooled thread is called `name` during the
    /// session.
    pub(crate) fn begin(
        pool: &'static Pool,
        thread: &'t mut PinnedThread,
        entered: Result<(), Error>,
        inspect: Inspect,
        audit: Option<&Audit>,
        name: Option<&CStr>,
    ) -> Result<Session<'t>, (Error, LeaseEnd)> {
        if let Err(error) = entered {
            return Err((error, LeaseEnd::not_entered(&pool.roster, thread)));
        }
        // Best effort: the name is diagnostic only.
        let is_named = name.is_some_and(|name| sys::name_current_thread(name).is_ok());
        Ok(Session { pool, thread, inspect, is_named, mark_guard: audit.map(Audit::mark_current) })
    }

    /// Runs the only body of a session, and returns its panic.
    fn run(&mut self, context: Option<&Context>, body: &mut dyn RunBody) -> thread::Result<()> {
        catch(|| {
            // Only the body is timed, between two calls of one function: after a pause, each further cache line that is
            // touched takes 0.1 µs.
            let start = Instant::now();
            match context {
                None => body.run(self.thread),
                Some(context) => run_within(context, self.thread, body),
            }
            let end = Instant::now();
            // Of a clock that went back nothing is known, and the thread is inspected.
            self.thread.body_took(end.checked_duration_since(start).unwrap_or(Duration::MAX));
        })
    }

    /// See [`PinnedThread::closer`].
    #[cfg(feature = "tokio")]
    pub(crate) fn closer(&self) -> Closer<PinnedThread> {
        self.thread.closer()
    }

    /// Makes the thread exit when the session has ended.
    #[cfg(feature = "tokio")]
    pub(crate) fn retire_thread(&mut self) {
        self.thread.retire();
    }

    /// Returns the thread home.
    pub(crate) fn end(self, assist_point: Option<&AssistPoint<'_>>) -> LeaseEnd {
        let Session { pool, thread, inspect, is_named, mark_guard } = self;
        drop(mark_guard);
        if is_named {
            let _ = sys::name_current_thread(WORKER_NAME);
        }
        LeaseEnd::restore(&pool.roster, thread, inspect, assist_point)
    }
}

/// The parameters of a sync call.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'c> {
    /// Without a target, the thread stays at home.
    pub(super) target: Option<Target<'c>>,
    pub(super) inspect: Inspect,
    pub(super) audit: Option<&'c Audit>,
    /// The name of a pooled thread during the session.
    pub(super) name: Option<&'c CStr>,
    /// `None` where there is nothing to make current.
    pub(super) context: Option<&'c Context>,
}

/// The [`Parameters`] as they go to a pooled thread: by value in most calls, because each cache line of the caller that
/// the thread reads takes 0.1 µs.
#[derive(Clone, Copy)]
pub(super) enum Sent<'c> {
    Plain { fd: BorrowedFd<'c>, ns: &'c NetNs },
    Other(&'c Parameters<'c>),
}

impl<'c> Sent<'c> {
    pub(super) fn new(parameters: &'c Parameters<'c>) -> Sent<'c> {
        match parameters {
            Parameters { target: Some(target), inspect: Inspect::Later, audit: None, name: None, context: None } => {
                match target.of_network() {
                    Some((fd, ns)) => Sent::Plain { fd, ns },
                    None => Sent::Other(parameters),
                }
            }
            _ => Sent::Other(parameters),
        }
    }

    pub(super) fn parameters(self) -> Parameters<'c> {
        match self {
            Sent::Plain { fd, ns } => Parameters {
                target: Some(Target::from_network(fd, ns)),
                inspect: Inspect::Later,
                audit: None,
                name: None,
                context: None,
            },
            Sent::Other(parameters) => *parameters,
        }
    }
}

/// A body, and then its value, in one place.
pub(super) enum SyncBody<F, R> {
    /// `None` once it was called.
    Given(Option<F>),
    Returned(R),
}

impl<F, R> SyncBody<F, R> {
    /// The value of the body, or the panic with which it ended. To be called on the caller's thread: destructors are
    /// user code.
    pub(super) fn into_result(self, ran: thread::Result<()>) -> thread::Result<R> {
        if let Err(payload) = ran {
            // There is a body if a subscriber panicked before it, and a value if one panicked after it.
            contain(|| drop(self));
            return Err(payload);
        }
        match self {
            SyncBody::Returned(value) => Ok(value),
            SyncBody::Given(_) => unreachable!("a body that ran and did not panic has returned a value"),
        }
    }
}

/// A [`SyncBody`] of any type.
///
/// **Why:** what makes a call is compiled once, and not for each body.
pub(super) trait RunBody: Send {
    /// Runs it, if it has not run.
    fn run(&mut self, thread: &mut PinnedThread);

    /// Runs a call on a leased thread. The body goes there and back. The caller's allowance is stored.
    fn run_on<'c>(&mut self, lease: &mut Lease, allowance: &Cell<Allowance>, call: PooledCall<'c>) -> PooledCall<'c>;
}

impl<F, R> RunBody for SyncBody<F, R>
where
    F: FnOnce(&mut PinnedThread) -> R + Send,
    R: Send,
{
    fn run(&mut self, thread: &mut PinnedThread) {
        // The body alone is moved to this stack, and not the room for its value: either may be large.
        let SyncBody::Given(body) = self else { return };
        if let Some(body) = body.take() {
            *self = SyncBody::Returned(in_one_process(|| body(thread)));
        }
    }

    fn run_on<'c>(&mut self, lease: &mut Lease, allowance: &Cell<Allowance>, call: PooledCall<'c>) -> PooledCall<'c> {
        let (call, body) = call.run_with(lease, allowance, mem::replace(self, SyncBody::Given(None)));
        *self = body;
        call
    }
}

/// A body that stays where it is.
impl<B: RunBody> RunBody for &mut B {
    fn run(&mut self, thread: &mut PinnedThread) {
        (**self).run(thread);
    }

    fn run_on<'c>(&mut self, lease: &mut Lease, allowance: &Cell<Allowance>, call: PooledCall<'c>) -> PooledCall<'c> {
        call.run_with(lease, allowance, &mut **self).0
    }
}

fn run_within(context: &Context, thread: &mut PinnedThread, body: &mut dyn RunBody) {
    if let Err(payload) = context.run(&mut || body.run(thread)) {
        panic::resume_unwind(payload);
    }
    // Making the context current may run a subscriber.
    thread.user_code_took(None);
}

/// A sync call on a leased thread, without its body.
pub(super) enum PooledCall<'c> {
    Given(Sent<'c>),
    /// The thread cannot make it.
    Unfit,
    /// It was made, and the body returned.
    Returned(LeaseEnd),
    /// It was made, and ended in another way. A panic is not one of the body.
    Failed(Box<thread::Result<(SessionResult, LeaseEnd)>>),
}

// It goes to the pinned thread and back in one cache line, with bodies of up to 16 bytes.
const _: () = assert!(size_of::<PooledCall<'_>>() <= 24);

/// A call, and its body beside it.
struct PooledJob<'c, B: ?Sized> {
    call: PooledCall<'c>,
    body: B,
}

impl<'c> PooledCall<'c> {
    fn run_with<B: RunBody>(self, lease: &mut Lease, allowance: &Cell<Allowance>, body: B) -> (PooledCall<'c>, B) {
        let PooledJob { call, body } = lease.run_job(allowance, PooledJob { call: self, body });
        (call, body)
    }
}

impl<B: RunBody> Job<PinnedThread, Allowance> for PooledJob<'_, B> {
    fn run(
        mut self,
        thread: &mut PinnedThread,
        allowance: &LateValue<'_, Allowance>,
        assist_point: &AssistPoint<'_>,
    ) -> Self {
        run_pooled(&mut self, thread, allowance, assist_point);
        self
    }
}

fn run_pooled(
    job: &mut PooledJob<'_, dyn RunBody + '_>,
    thread: &mut PinnedThread,
    allowance: &LateValue<'_, Allowance>,
    assist_point: &AssistPoint<'_>,
) {
    let PooledJob { call, body } = job;
    let PooledCall::Given(sent) = call else { return };
    let parameters = sent.parameters();
    let made = catch(|| {
        let entered = thread.admit(parameters.target, || allowance.receive())?;
        Some(run_session(parameters, entered, Pool::of_process(), thread, body, Some(assist_point)))
    });
    *call = match made.transpose() {
        None => PooledCall::Unfit,
        Some(Ok((Ok(Ok(())), lease_end))) => PooledCall::Returned(lease_end),
        Some(other) => PooledCall::Failed(Box::new(other)),
    };
}

/// The result of a session. An error if the namespace was not entered, and the body did not run; otherwise, whether the
/// body panicked.
pub(super) type SessionResult = Result<thread::Result<()>, Error>;

/// Runs a session, on the pinned thread.
pub(super) fn run_session(
    parameters: Parameters<'_>,
    entered: Result<(), Error>,
    pool: &'static Pool,
    thread: &mut PinnedThread,
    body: &mut dyn RunBody,
    assist_point: Option<&AssistPoint<'_>>,
) -> (SessionResult, LeaseEnd) {
    let Parameters { inspect, audit, name, context, .. } = parameters;
    match Session::begin(pool, thread, entered, inspect, audit, name) {
        Ok(mut session) => {
            let ran = session.run(context, body);
            (Ok(ran), session.end(assist_point))
        }
        Err((error, lease_end)) => (Err(error), lease_end),
    }
}
