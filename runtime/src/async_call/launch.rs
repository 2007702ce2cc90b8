//! The launch of an async call: a pinned thread, pooled or fresh ([`call::launch`](crate::call::launch)), enters the
//! namespace and goes on by itself. The caller does not wait for it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;

use super::session::{AsyncSession, LeaseGuard, Refused, SessionEnd};
use crate::call::launch::{FreshThread, Options, ThreadKind};
use crate::error::Error;
use crate::netns::Place;
use crate::thread::pinned::PinnedThread;
use crate::thread::{Allowance, Inspect, Pool, Role, UnfitThreads, start_pending};

/// The work of a pinned thread: it enters the namespace, and calls `run` with the payload. If it cannot enter, `run`
/// gets the refusal.
pub(super) struct Launch<T, L> {
    pub(super) place: Place,
    pub(super) options: Options,
    pub(super) inspect: Inspect,
    /// The caller's capabilities.
    pub(super) allowance: Allowance,
    pub(super) payload: T,
    pub(super) run: L,
}

impl<T, L> Launch<T, L>
where
    T: Send + 'static,
    L: FnOnce(Result<AsyncSession<'_>, Refused>, T) + Send + 'static,
{
    /// Starts it on a pinned thread, a pooled one or one for this call alone, without waiting. Returns which of them.
    /// Where no thread can be started, the launch is returned.
    pub(super) fn begin(self) -> Result<ThreadKind, (Error, Self)> {
        start_pending();
        let pool = Pool::of_process();
        let kind = match self.options.choose(pool) {
            Ok(kind) => kind,
            Err(error) => return Err((error, self)),
        };
        match kind {
            ThreadKind::Fresh => self.on_fresh_thread(pool)?,
            ThreadKind::Pooled => match pool.ensure(self.allowance) {
                Ok(()) => self.on_leased_thread(pool, UnfitThreads::default())?,
                Err(error) => return Err((error, self)),
            },
        }
        Ok(kind)
    }

    fn on_leased_thread(self, pool: &'static Pool, mut unfit: UnfitThreads) -> Result<(), (Error, Self)> {
        let lease = match pool.lease(Role::for_bodies_in(&self.place)) {
            Ok(lease) => lease,
            Err(error) => return Err((error, self)),
        };
        lease.submit(move |thread, lease| {
            let mut may_go_on = Ok(());
            if let Some(thread) = thread {
                if thread.admit(None, self.allowance).is_some() {
                    return self.enter_and_run(pool, thread, LeaseGuard::Pooled(lease));
                }
                may_go_on = unfit.count();
            }
            // The worker failed its inspection or cannot adopt the capabilities: it leases another one.
            drop(lease);
            let begun = match may_go_on {
                Ok(()) => self.on_leased_thread(pool, unfit),
                Err(error) => Err((error, self)),
            };
            if let Err((error, Launch { payload, run, .. })) = begun {
                run(Err(SessionEnd::without_thread(error)), payload);
            }
        });
        Ok(())
    }

    fn on_fresh_thread(self, pool: &'static Pool) -> Result<(), (Error, Self)> {
        match start_fresh_thread(pool, &self.options) {
            Ok(hand_on) => {
                let _ = hand_on.send(Box::new(move |thread, guard| self.enter_and_run(pool, thread, guard)));
                Ok(())
            }
            Err(error) => Err((error, self)),
        }
    }

    /// On the pinned thread. It does not unwind.
    fn enter_and_run(self, pool: &'static Pool, thread: &mut PinnedThread, lease_guard: LeaseGuard) {
        let Launch { place, options, inspect, allowance: _, payload, run } = self;
        // Panics of user code are caught where it runs. If other code unwinds, the session's destructor retires the
        // thread, and the destructor of the payload tells its owner.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| {
            let session = AsyncSession::begin(pool, thread, lease_guard, &place, &options, inspect);
            // The session has one of its own.
            drop(place);
            run(session, payload);
        }));
    }
}

/// The work of a fresh thread.
type Work = Box<dyn FnOnce(&mut PinnedThread, LeaseGuard) + Send>;

/// Starts a fresh thread, which waits for its work: if `spawn` got the work and failed, the work would be lost. It is
/// not generic, so that the code that starts a thread is not compiled again for each body.
fn start_fresh_thread(pool: &'static Pool, options: &Options) -> Result<mpsc::SyncSender<Work>, Error> {
    let fresh = FreshThread::prepare(pool)?;
    let count = pool.roster.count_lease();
    let (hand_on, work_to_come) = mpsc::sync_channel::<Work>(1);
    let body = move || {
        let lease_guard = LeaseGuard::Counted(count);
        if let Ok(work) = work_to_come.recv() {
            fresh.pin(|thread| work(thread, lease_guard));
        }
    };
    options.builder().spawn(body).map_err(|source| Error::spawn_failed("a thread for one call", source))?;
    Ok(hand_on)
}
