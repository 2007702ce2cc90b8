//! The session of an async call: that of a sync one ([`call::session`](crate::call::session)) with a runtime of the
//! call's own, and without a caller that waits.

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::runtime::CallRuntime;
use crate::call::audit::{Audit, Stray};
use crate::call::launch::Options;
use crate::call::session::Session;
use crate::error::Error;
use crate::netns::Place;
use crate::thread::fate::ThreadFate;
use crate::thread::pinned::PinnedThread;
use crate::thread::{CountGuard, Inspect, Lease, LeaseEnd, Pool, run_detached};
use crate::unwind::{Payload, catch, discard};

/// See the [module's documentation](self).
pub(super) struct AsyncSession<'t> {
    /// `None` when the session has ended.
    inside: Option<Inside<'t>>,
}

/// The state of a session until its end.
struct Inside<'t> {
    session: Session<'t>,
    runtime: CallRuntime,
    audit: Option<Audit>,
    lease_guard: LeaseGuard,
}

/// The lease of a session's thread.
pub(super) enum LeaseGuard {
    Pooled(Lease),
    /// A thread of the call's own has no lease, and is only counted.
    Counted(CountGuard),
}

/// The lease of a session that has ended. Dropping it returns the lease, if the thread is fit for another.
///
/// **Why it is kept until the owner was woken:** the owner's waker is foreign code, and runs on the pinned thread.
/// While it runs, the thread must not be idle: a call that leased it would wait for that code, or would be made by that
/// code and wait for itself.
pub(super) struct HeldLease {
    /// `None` where there was no thread.
    lease_guard: Option<LeaseGuard>,
    is_fit: bool,
    returned: Arc<Returned>,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        match self.lease_guard.take() {
            Some(LeaseGuard::Pooled(lease)) if self.is_fit => drop(lease.end()),
            Some(LeaseGuard::Pooled(lease)) => drop(lease),
            Some(LeaseGuard::Counted(count)) => drop(count),
            None => {}
        }
        self.returned.set();
    }
}

/// Whether a session's lease was returned.
#[derive(Default)]
struct Returned {
    is_returned: Mutex<bool>,
    changed: Condvar,
}

impl Returned {
    fn set(&self) {
        *self.is_returned.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits at most 10 ms: the host may run foreign code that waits for the calling thread.
    fn wait(&self) {
        let is_returned = self.is_returned.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(is_returned, Duration::from_millis(10), |is_returned| !*is_returned);
    }
}

/// How a session ended, for its owner to report.
pub(super) struct SessionEnd {
    /// The session never began.
    pub(super) refused: Option<Error>,
    /// `None` where there was no thread.
    lease_end: Option<LeaseEnd>,
    returned: Arc<Returned>,
    strays: Vec<Stray>,
}

/// A session that never began. Its lease is held until foreign code has run, as after any session.
pub(super) type Refused = (SessionEnd, HeldLease);

impl SessionEnd {
    fn new(
        refused: Option<Error>,
        lease_end: Option<LeaseEnd>,
        lease_guard: Option<LeaseGuard>,
        strays: Vec<Stray>,
    ) -> (SessionEnd, HeldLease) {
        let returned = Arc::new(Returned::default());
        let is_fit = lease_end.as_ref().is_some_and(|end| matches!(end.fate(), ThreadFate::Reusable));
        let held = HeldLease { lease_guard, is_fit, returned: Arc::clone(&returned) };
        (SessionEnd { refused, lease_end, returned, strays }, held)
    }

    pub(super) fn without_thread(error: Error) -> Refused {
        SessionEnd::new(Some(error), None, None, Vec::new())
    }

    /// Whether a hook must be called.
    pub(super) fn has_events(&self) -> bool {
        !self.strays.is_empty() || self.lease_end.as_ref().is_some_and(LeaseEnd::is_poisoned)
    }

    /// Whether the calling thread is the session's own.
    pub(super) fn is_of_current_thread(&self) -> bool {
        self.lease_end.as_ref().is_some_and(LeaseEnd::is_of_current_thread)
    }

    /// Reports the end, on the owner's thread. If that is the session's own, because an executor polls or drops where
    /// it is woken, it does not wait, and the hooks are called on another thread.
    pub(super) fn report(self) -> (ThreadFate, Vec<Stray>) {
        if self.is_of_current_thread() {
            let fate = self.lease_end.as_ref().map_or(ThreadFate::Reusable, LeaseEnd::fate);
            let strays = self.strays.clone();
            self.report_detached();
            return (fate, strays);
        }
        self.returned.wait();
        let fate = self.lease_end.map_or(ThreadFate::Reusable, LeaseEnd::report);
        Stray::notify(&self.strays);
        (fate, self.strays)
    }

    /// Reports the end, on the session's own thread, where there is no owner. Hooks are called on another thread; if
    /// this thread could not be restored, after it has exited.
    pub(super) fn report_detached(self) {
        if self.has_events() {
            run_detached(move || drop(self.report()));
        }
    }
}

impl<'t> AsyncSession<'t> {
    /// Enters the namespace and builds a runtime, on the pinned thread.
    pub(super) fn begin(
        pool: &'static Pool,
        thread: &'t mut PinnedThread,
        lease_guard: LeaseGuard,
        place: &Place,
        options: &Options,
        inspect: Inspect,
    ) -> Result<AsyncSession<'t>, Refused> {
        let name = match &lease_guard {
            LeaseGuard::Pooled(_) => options.session_name(),
            LeaseGuard::Counted(_) => None,
        };
        let entered = thread.enter_checked(place.as_target());
        let (entered, mounts) = match entered {
            Ok(mounts) => (Ok(()), mounts),
            Err(error) => (Err(error), None),
        };
        let audit = (options.audit && entered.is_ok()).then(|| Audit::begin(place.netns()));
        let begun =
            Session::begin(pool, thread, entered, inspect, audit.as_ref(), name.as_deref()).and_then(|session| {
                match CallRuntime::build(place, mounts) {
                    Ok(runtime) => Ok((session, runtime)),
                    Err(error) => Err((error, session.end(None))),
                }
            });
        match begun {
            Ok((session, runtime)) => {
                Ok(AsyncSession { inside: Some(Inside { session, runtime, audit, lease_guard }) })
            }
            Err((error, lease_end)) => {
                Err(SessionEnd::new(Some(error), Some(lease_end), Some(lease_guard), Vec::new()))
            }
        }
    }

    /// Drives the runtime until `future` is ready.
    pub(super) fn drive<F: Future>(&mut self, future: F) -> F::Output {
        match &mut self.inside {
            Some(inside) => inside.runtime.drive(future),
            None => unreachable!("a session is driven until its end"),
        }
    }

    /// As [`AsyncSession::drive`]. A panic that leaves the runtime is returned, unless the future was ready before, and
    /// the thread is retired. It is a panic of foreign code that the runtime calls, such as a waker that is not the
    /// body's.
    pub(super) fn try_drive<F: Future>(&mut self, future: F) -> Result<F::Output, Payload> {
        let mut output = None;
        let driven = catch(|| self.drive(async { output = Some(future.await) }));
        if let (Err(_), Some(inside)) = (&driven, &mut self.inside) {
            inside.session.retire_thread();
        }
        match (output, driven) {
            (Some(output), driven) => {
                driven.err().into_iter().for_each(discard);
                Ok(output)
            }
            (None, Err(payload)) => Err(payload),
            (None, Ok(())) => unreachable!("the future is ready"),
        }
    }

    /// Whether the end may have to wait, for blocking closures or for threads that the audit finds awake.
    pub(super) fn may_take_long_to_end(&self) -> bool {
        let may = |inside: &Inside<'_>| inside.audit.is_some() || inside.runtime.has_blocking_threads();
        self.inside.as_ref().is_some_and(may)
    }

    /// Ends the tasks that were spawned, and restores the thread.
    pub(super) fn end(mut self) -> (SessionEnd, HeldLease) {
        match self.inside.take() {
            Some(inside) => inside.end(),
            None => unreachable!("a session ends once"),
        }
    }
}

impl Inside<'_> {
    fn end(self) -> (SessionEnd, HeldLease) {
        let Inside { session, runtime, audit, lease_guard } = self;
        let strays = runtime.end(session.closer(), || audit.map_or_else(Vec::new, Audit::end));
        SessionEnd::new(None, Some(session.end(None)), Some(lease_guard), strays)
    }
}

/// The session is dropped before its end only if the host unwinds.
impl Drop for AsyncSession<'_> {
    fn drop(&mut self) {
        if let Some(mut inside) = self.inside.take() {
            inside.session.retire_thread();
            let (session_end, held) = inside.end();
            drop(held);
            session_end.report_detached();
        }
    }
}
