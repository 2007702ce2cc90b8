//! The launch of an async call: a pinned thread, pooled or fresh ([`call::launch`](crate::call::launch)), enters the
//! namespace and goes on by itself. The caller does not wait for it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;

use super::session::{AsyncSession, LeaseGuard, Refused, SessionEnd};
use crate::call::launch::{FreshThread, Options, ThreadKind};
use crate::error::Error;
use crate::netns::Place;
use crate::thread::pinned::PinnedThread;
use crate::thread::{Allowance, Inspect, Pool, Role, start_pending};

/// What a pinned thread does: it enters the namespace, and calls `run` with the payload. If it cannot enter, `run` gets
/// the refusal.
pub(super) struct Launch<T, L> {
    pub(super) place: Place,
    pub(super) options: Options,
    pub(super) inspect: Inspect,
    /// What the caller has.
    pub(super) allowance: Allowance,
    pub(super) payload: T,
    pub(super) run: L,
}

impl<T, L> Launch<T, L>
where
    T: Send + 'static,
    L: FnOnce(Result<AsyncSession<'_>, Refused>, T) + Send + 'static,
{
    /// Starts it on a pinned thread: a pooled one, or one for this call alone. Does not wait. Where no thread can be
    /// started, the launch is returned.
    pub(super) fn begin(self) -> Result<(), (Error, Self)> {
        start_pending();
        let pool = Pool::of_process();
        match self.options.choose(pool) {
            Ok(ThreadKind::Fresh) => self.on_fresh_thread(pool),
            Ok(ThreadKind::Pooled) => match pool.ensure(self.allowance) {
                Ok(()) => self.on_leased_thread(pool),
                Err(error) => Err((error, self)),
            },
            Err(error) => Err((error, self)),
        }
    }

    fn on_leased_thread(self, pool: &'static Pool) -> Result<(), (Error, Self)> {
        let lease = match pool.lease(Role::for_bodies_in(&self.place)) {
            Ok(lease) => lease,
            Err(error) => return Err((error, self)),
        };
        lease.submit(move |thread, lease| {
            if let Some(thread) = thread {
                if thread.admit(None, self.allowance).is_some() {
                    return self.enter_and_run(pool, thread, LeaseGuard::Pooled(lease));
                }
            }
            // The worker failed its inspection, or has lost what the process has: lease another from it.
            drop(lease);
            if let Err((error, Launch { payload, run, .. })) = self.on_leased_thread(pool) {
                run(Err(SessionEnd::without_thread(error)), payload);
            }
        });
        Ok(())
    }

    fn on_fresh_thread(self, pool: &'static Pool) -> Result<(), (Error, Self)> {
        let fresh = match FreshThread::prepare(pool) {
            Ok(fresh) => fresh,
            Err(error) => return Err((error, self)),
        };
        let builder = self.options.builder();
        let count = pool.roster.count_lease();
        // What a thread that cannot be started was given is lost, so this is given afterwards.
        let (hand_on, work_to_come) = mpsc::sync_channel::<Self>(1);
        let body = move || {
            let lease_guard = LeaseGuard::Counted(count);
            if let Ok(launch) = work_to_come.recv() {
                fresh.pin(|thread| launch.enter_and_run(pool, thread, lease_guard));
            }
        };
        match builder.spawn(body) {
            Ok(_) => {
                let _ = hand_on.send(self);
                Ok(())
            }
            Err(source) => Err((Error::spawn_failed("a thread for one call", source), self)),
        }
    }

    /// On the pinned thread. It does not unwind.
    fn enter_and_run(self, pool: &'static Pool, thread: &mut PinnedThread, lease_guard: LeaseGuard) {
        let Launch { place, options, inspect, allowance: _, payload, run } = self;
        // What user code throws is caught where it is run. Should anything else unwind, the session's destructor has
        // the thread retire, and those who wait for the payload learn that it is gone.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| {
            let session = AsyncSession::begin(pool, thread, lease_guard, &place, &options, inspect);
            // The session has one of its own.
            drop(place);
            run(session, payload);
        }));
    }
}
