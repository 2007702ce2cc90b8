//! The launch of a call: which thread it gets, a pooled one or a fresh one, and how it begins there.
//!
//! A *pooled* thread is leased from the process's pool. A *fresh* thread is started by the calling thread for one call,
//! and exits afterwards. Sync calls wait for the result here; async calls start the thread in the same two ways, and go
//! on (`async_call::launch`).

use std::cell::Cell;
use std::ffi::CString;
use std::panic;
use std::sync::Arc;
use std::thread::{self, Builder};

use crate::call::session::{Parameters, PooledCall, RunBody, Sent, SessionResult, run_session};
use crate::error::Error;
use crate::netns::Target;
use crate::sys::process_local::in_one_process;
use crate::sys::{self, Tid};
use crate::thread::fate::{RetireReason, ThreadFate};
use crate::thread::home::{Home, RestorePath};
#[cfg(feature = "tokio")]
use crate::thread::keeper::Keeper;
use crate::thread::pinned::PinnedThread;
use crate::thread::{Attempt, LeaseEnd, Pool, Role, descriptors};
use crate::unwind::catch;

/// Which thread a call runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// A leased thread of the pool.
    Pooled,
    /// A thread for this call alone, started by the calling thread.
    Fresh,
}

impl ThreadKind {
    /// Returns the fate of the call's thread: one that is reusable exits all the same if it was for this call alone.
    pub(crate) fn fate(self, fate: ThreadFate) -> ThreadFate {
        match (self, fate) {
            (ThreadKind::Fresh, ThreadFate::Reusable) => ThreadFate::Retired(RetireReason::Fresh),
            (_, fate) => fate,
        }
    }
}

/// What this crate and the start of a thread need of a stack around a body, in bytes: 28 KiB without optimisation, in a
/// synchronous call as in an async one.
const OWN_STACK: usize = 64 << 10;

/// The options of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) fresh: bool,
    pub(crate) audit: bool,
    pub(crate) thread_name: Option<String>,
    /// In bytes.
    pub(crate) stack_size: Option<usize>,
}

impl Options {
    /// Returns the builder for a fresh thread. The default name is the caller's, so that a panic message
    /// names the failing test.
    pub(crate) fn builder(&self) -> Builder {
        // `thread::current` panics in a destructor that runs after those of thread-locals: see `pthread_key_create(3)`.
        let of_caller = || catch(|| thread::current().name().map(str::to_owned)).unwrap_or_default();
        let name = self.thread_name.clone().or_else(of_caller);
        let builder = name.map_or_else(Builder::new, |name| Builder::new().name(name));
        match self.stack_size {
            Some(bytes) => builder.stack_size(bytes.saturating_add(OWN_STACK)),
            None => builder,
        }
    }

    /// Chooses the thread of a call. It is a fresh one where the call asks for it, where it needs a stack of another
    /// size than that of pooled threads, and where the caller has a table of descriptors of its own.
    pub(crate) fn choose(&self, pool: &'static Pool) -> Result<ThreadKind, Error> {
        let is_fresh = self.fresh || self.stack_size.is_some() || descriptors::are_apart(pool.home_or_init()?);
        Ok(if is_fresh { ThreadKind::Fresh } else { ThreadKind::Pooled })
    }

    /// Returns the name for the session on a pooled thread, which has a name of its own.
    pub(crate) fn session_name(&self) -> Option<CString> {
        self.thread_name.clone().and_then(|name| CString::new(name).ok())
    }
}

/// What the caller prepares for a fresh thread.
#[derive(Clone)]
pub(crate) struct FreshThread {
    pool: &'static Pool,
    home: &'static Home,
    caller: Tid,
    restore_path: Option<Arc<RestorePath>>,
    #[cfg(feature = "tokio")]
    keeper: Option<Keeper<PinnedThread>>,
}

impl FreshThread {
    /// To be called on the caller's thread.
    pub(crate) fn prepare(pool: &'static Pool) -> Result<FreshThread, Error> {
        let home = pool.home_or_init()?;
        Ok(FreshThread {
            pool,
            home,
            caller: sys::current_tid(),
            restore_path: descriptors::restore_path(home)?,
            #[cfg(feature = "tokio")]
            keeper: None,
        })
    }

    /// Whether the caller has a table of descriptors of its own.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_apart(&self) -> bool {
        self.restore_path.is_some()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn with_keeper(self, keeper: Keeper<PinnedThread>) -> FreshThread {
        FreshThread { keeper: Some(keeper), ..self }
    }

    /// Pins the new thread, on which it is called, until `run` returns.
    pub(crate) fn pin<R>(self, run: impl FnOnce(&mut PinnedThread) -> R) -> R {
        let _registration = self.pool.roster.register_current();
        let mut thread = PinnedThread::pin_current_of_caller(self.home, self.caller, self.restore_path);
        #[cfg(feature = "tokio")]
        thread.set_keeper(self.keeper);
        let result = in_one_process(|| run(&mut thread));
        thread.close_files();
        result
    }
}

/// Makes a call on an idle thread of the pool, or on a new one, and waits. The caller has the table of descriptors that
/// pooled threads have.
pub(super) fn on_leased_thread(
    pool: &'static Pool,
    role: Role,
    parameters: &Parameters<'_>,
    body: &mut dyn RunBody,
) -> Result<(SessionResult, LeaseEnd), Error> {
    parameters.target.map_or(Ok(()), Target::check_process_table)?;
    let (sent, allowance) = (Sent::new(parameters), Cell::default());
    let mut made = None;
    let lease = pool.lease_admitted(role, &mut |lease| {
        made = Some(match body.run_on(lease, &allowance, PooledCall::Given(sent)) {
            PooledCall::Given(_) => return Attempt::Rejected,
            PooledCall::Unfit => return Attempt::Unfit(allowance.get()),
            PooledCall::Returned(lease_end) => Ok((Ok(Ok(())), lease_end)),
            PooledCall::Failed(result) => *result,
        });
        Attempt::Ran
    })?;
    let made = made.unwrap_or_else(|| unreachable!("a call that was made has a result"));
    let (result, lease_end) = made.unwrap_or_else(|payload| panic::resume_unwind(payload));
    Ok((result, lease_end.return_lease(lease)))
}

/// Makes a call on a fresh thread, and waits until the thread has exited.
pub(super) fn on_fresh_thread(
    pool: &'static Pool,
    options: &Options,
    parameters: Parameters<'_>,
    body: &mut dyn RunBody,
) -> Result<(SessionResult, LeaseEnd), Error> {
    let fresh = FreshThread::prepare(pool)?;
    // The last reference to the restore path is the caller's: it closes descriptors.
    let _kept = fresh.clone();
    let _leased = pool.roster.count_lease();
    let enter_and_run = |thread: &mut PinnedThread| {
        let entered = match parameters.target {
            Some(target) => thread.enter_checked(target).map(drop),
            // The thread began where the caller is.
            None => thread.go_home_or_poison(),
        };
        run_session(parameters, entered, pool, thread, body, None)
    };
    thread::scope(|scope| {
        let thread = options
            .builder()
            .spawn_scoped(scope, move || fresh.pin(enter_and_run))
            .map_err(|source| Error::spawn_failed("a thread for one call", source))?;
        Ok(thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}
