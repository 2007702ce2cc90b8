//! The launch of an async call: a pinned thread, pooled or fresh ([`call::launch`](crate::call::launch)), enters the
//! namespace and goes on by itself. The caller does not wait for it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{self, Builder};

use super::session::{AsyncSession, LeaseGuard, Refused, SessionEnd};
use super::table::{CallTable, KeeperOfCall};
use crate::call::launch::{FreshThread, Options, ThreadKind};
use crate::error::Error;
use crate::netns::Place;
use crate::sys;
use crate::thread::keeper::Keeper;
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
    /// Starts it on a pinned thread, a pooled one or one for this call alone, without waiting. Returns which of them,
    /// and the table of descriptors that it has. Where no thread can be started, the launch is returned.
    pub(super) fn begin(self) -> Result<(ThreadKind, CallTable), (Error, Self)> {
        start_pending();
        let pool = Pool::of_process();
        let kind = match self.options.choose(pool) {
            Ok(kind) => kind,
            Err(error) => return Err((error, self)),
        };
        let keeper = match kind {
            ThreadKind::Fresh => self.on_fresh_thread(pool)?,
            ThreadKind::Pooled => match pool.ensure(self.allowance) {
                Ok(()) => self.on_leased_thread(pool, UnfitThreads::default()).map(|()| None)?,
                Err(error) => return Err((error, self)),
            },
        };
        Ok((kind, CallTable::of_current(keeper)))
    }

    fn on_leased_thread(self, pool: &'static Pool, mut unfit: UnfitThreads) -> Result<(), (Error, Self)> {
        let lease = match pool.lease(Role::for_bodies_in(&self.place)) {
            Ok(lease) => lease,
            Err(error) => return Err((error, self)),
        };
        lease.submit(move |thread, lease| {
            let mut may_go_on = Ok(());
            if let Some(thread) = thread {
                if thread.admit(None, || self.allowance).is_some() {
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

    /// Returns the keeper where the caller has a table of its own.
    fn on_fresh_thread(self, pool: &'static Pool) -> Result<Option<KeeperOfCall>, (Error, Self)> {
        match start_fresh_thread(pool, &self.options) {
            Ok((hand_on, keeper)) => {
                let _ = hand_on.send(Box::new(move |thread, guard| self.enter_and_run(pool, thread, guard)));
                Ok(keeper)
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

/// Starts a fresh thread, which waits for its work: if `spawn` got the work and failed, the work would be lost.
fn start_fresh_thread(
    pool: &'static Pool,
    options: &Options,
) -> Result<(mpsc::SyncSender<Work>, Option<KeeperOfCall>), Error> {
    let fresh = FreshThread::prepare(pool)?;
    let count = pool.roster.count_lease();
    let (hand_on, work_to_come) = mpsc::sync_channel::<Work>(1);
    let body = move |fresh: FreshThread| {
        let lease_guard = LeaseGuard::Counted(count);
        if let Ok(work) = work_to_come.recv() {
            fresh.pin(|thread| work(thread, lease_guard));
        }
    };
    let builder = options.builder();
    let keeper = fresh.is_apart().then(KeeperOfCall::default);
    let spawned = if let Some(keeper) = keeper.clone() {
        let inner = options.builder();
        builder.spawn(move || run_with_keeper(fresh, inner, &keeper, body))
    } else {
        builder.spawn(move || body(fresh))
    };
    spawned.map_err(|source| Error::spawn_failed("a thread for one call", source))?;
    Ok((hand_on, keeper))
}

/// Runs a body on another thread, which the calling thread is the keeper of. If it cannot be started, the calling
/// thread runs the body itself.
fn run_with_keeper(
    fresh: FreshThread,
    builder: Builder,
    keeper_of_call: &KeeperOfCall,
    body: impl FnOnce(FreshThread) + Send,
) {
    let (keeper, jobs) = Keeper::new(sys::current_tid());
    keeper_of_call.start(keeper.clone());
    // The last reference to the restore path is that of this thread: it closes descriptors.
    let (of_call, body) = (fresh.clone().with_keeper(keeper), Mutex::new(Some(body)));
    let take = &|| body.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let run = move || {
            if let Some(body) = take() {
                body(of_call);
            }
            keeper_of_call.end();
        };
        if builder.spawn_scoped(scope, run).is_ok() {
            for job in jobs {
                fresh.clone().pin(job);
            }
        }
    });
    // It is still there if the thread was not started.
    let left = take();
    if let Some(body) = left {
        body(fresh);
    }
    keeper_of_call.end();
}
