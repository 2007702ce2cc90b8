//! A pool of namespaces that are made and prepared ahead.
//!
//! **Promised:** each namespace is given once; no more than `at_most` exist, including those that the kernel has yet to
//! dismantle; a failure of the user's closure is reported to a taker; the namespaces and the thread of a pool end with
//! it.
//!
//! **How:** one thread of the pool, the [`maker`], makes the namespaces that are wanted and sleeps otherwise. The
//! [`slot`] of a namespace tells the maker when its last handle is dropped. From then on the maker checks whether the
//! kernel has dismantled it. Callers that find nothing ready queue up as a [`taker`] each, first come, first served.
//!
//! **What breaks otherwise:** a bound on handles would not bound namespaces: the kernel counts a namespace below
//! `user.max_net_namespaces` until it is dismantled, tens of milliseconds after its last use.

mod maker;
mod prepare;
mod slot;
mod taker;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "tokio")]
use std::task::Poll;
use std::time::{Duration, Instant};

use self::prepare::Prepare;
pub use self::prepare::PrepareResult;
use self::taker::Taker;
use crate::call::context::WorkerRun;
use crate::call::dismantle::is_gone;
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::thread::{Pool, descriptors};

/// A pool of network namespaces that are made and prepared ahead: [`take`](NetNsPool::take) takes microseconds, where
/// [`NetNs::new`] takes a millisecond and preparing takes more.
///
/// A thread of the pool makes namespaces, as [`NetNs::new`] does, calls the closure of
/// [`prepare`](NetNsPoolBuilder::prepare) with each, and keeps [`ready`](NetNsPoolBuilder::ready) of them. It sleeps
/// when there is nothing to make. A namespace is given once and does not come back: it is gone with its last user, as
/// any other.
///
/// Clones are handles of the same pool, and may be used by several threads at once. Callers that have to wait are
/// served in the order in which they came. When the last clone is dropped, the namespaces that are ready are released
/// and the thread ends. A namespace that is being prepared at that moment is waited for, for at most a second.
/// Namespaces that were taken are not affected.
///
/// A process that was forked from the one that built the pool has no thread that makes namespaces: taking one is an
/// error there.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use std::net::TcpListener;
/// use in_netns::{NetNs, NetNsPool};
///
/// let pool = NetNsPool::builder()
///     .ready(2)
///     .at_most(10)
///     .prepare(|ns: &NetNs| ns.run(|| println!("addresses, routes and rules are set here")))
///     .build()?;
/// let (blue, red) = (pool.take()?, pool.take()?);
/// assert_ne!(blue, red);
/// let listener = blue.run(|| TcpListener::bind("127.0.0.1:80"))??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
///
/// `namespaces(7)`: `/proc/sys/user/max_net_namespaces`.
#[derive(Clone)]
pub struct NetNsPool(Arc<Owner>);

/// The value that the clones of a pool share. Dropping it ends the pool.
struct Owner(Arc<Shared>);

/// The state that takers, the maker and the namespaces of a pool share.
struct Shared {
    /// The threads of the process that built the pool, of which the maker is one.
    process: &'static Pool,
    settings: Settings,
    prepare: AssertUnwindSafe<Prepare>,
    state: Mutex<State>,
    /// The maker waits for it.
    changed: Condvar,
    /// The drop of the pool waits for it.
    ended: Condvar,
    /// The maker is part of it, and so are the calls that a closure of `prepare` makes.
    run: Arc<WorkerRun>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    ready: usize,
    /// `None`: no bound but the kernel's.
    at_most: Option<usize>,
    timeout: Duration,
}

#[derive(Default)]
struct State {
    /// The namespaces that were made, and the failures to prepare one, in the order in which they happened.
    ready: VecDeque<Result<NetNs, Error>>,
    /// The waiting callers, in the order in which they came. None waits while something is ready.
    takers: VecDeque<Arc<Taker>>,
    /// Namespaces that have a handle, and the one that is being made.
    held: usize,
    /// The namespaces whose last handle was dropped since the maker looked. `None` where `/proc/sys/net` is missing.
    released: Vec<Option<File>>,
    /// How many namespaces the maker knows to be released, and watches.
    dismantling: usize,
    /// Released namespaces that the maker does not watch any more, because they were still there after half a second.
    unwatched: Vec<File>,
    /// An event that the maker may wait for has happened since it looked.
    is_news: bool,
    /// No namespace is made ahead, because the last one could not be made.
    is_paused: bool,
    life: Life,
    /// Why no thread could be leased, where the pool is over for that.
    error: Option<Error>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Open,
    /// The pool is dropped, and the maker has yet to end.
    Closed,
    /// The maker has ended.
    Over,
}

impl State {
    fn alive(&self) -> usize {
        self.held + self.released.len() + self.dismantling + self.unwatched.len()
    }
}

/// How many namespaces a [`NetNsPool`] has: see [`NetNsPool::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetNsPoolStats {
    /// Namespaces that are ready to be taken.
    pub ready: usize,
    /// Namespaces that exist: those that are ready, the one that is being prepared, those that were taken and are in
    /// use, and those that the kernel has yet to dismantle.
    pub alive: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// Builds a [`NetNsPool`]: see [`NetNsPool::builder`].
#[must_use = "nothing is started until `build`"]
pub struct NetNsPoolBuilder {
    settings: Settings,
    prepare: Prepare,
}

impl NetNsPoolBuilder {
    /// Sets how many namespaces are kept ready: 4 unless set, and never more than
    /// [`at_most`](NetNsPoolBuilder::at_most). With 0, each is made when it is asked for.
    pub fn ready(mut self, count: usize) -> NetNsPoolBuilder {
        self.settings.ready = count;
        self
    }

    /// Sets how many namespaces of the pool exist at most: those that are ready, those that were taken and are in use,
    /// and those that the kernel has yet to dismantle. At the limit, a caller waits until one is gone.
    ///
    /// Unless set, the kernel's limit (`user.max_net_namespaces`) is the only one. When it is reached and namespaces of
    /// this pool are being dismantled, the pool waits for them; otherwise a caller gets the error.
    pub fn at_most(mut self, count: usize) -> NetNsPoolBuilder {
        self.settings.at_most = Some(count);
        self
    }

    /// Sets how long [`NetNsPool::take`] waits for a namespace: 30 seconds unless set, and forever with
    /// [`Duration::MAX`].
    pub fn timeout(mut self, timeout: Duration) -> NetNsPoolBuilder {
        self.settings.timeout = timeout;
        self
    }

    /// Sets what is done with each namespace before it is given. The closure returns nothing, or a `Result<(), E>` with
    /// any error that converts into a [`Box<dyn Error + Send + Sync>`](std::error::Error).
    ///
    /// It is called on a pinned thread at home, as the closure of [`pinned`](crate::pinned) is, one call after another:
    /// it enters the namespace by [`NetNs::run`] and the other calls. The thread is restored and inspected afterwards.
    /// The runtime of tokio and the dispatcher of `tracing` that are current where the pool is built are current in it.
    /// If it needs another namespace, it makes one: taking one from its own pool is an error.
    ///
    /// If it fails or panics, a caller of [`NetNsPool::take`] gets an error of the kind [`ErrorKind::Prepare`]. The
    /// namespace is released.
    ///
    /// # Examples
    ///
    /// The type of the error must be written, because `Ok(())` does not determine it:
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use std::net::UdpSocket;
    /// use in_netns::{ErrorKind, NetNs, NetNsPool};
    ///
    /// let pool = NetNsPool::builder().prepare(|ns: &NetNs| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     let socket = ns.run(|| UdpSocket::bind("192.0.2.1:53"))??; // No interface has this address.
    ///     Ok(())
    /// });
    /// let error = pool.build()?.take().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Prepare);
    /// assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>()));
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    pub fn prepare<F, R>(mut self, prepare: F) -> NetNsPoolBuilder
    where
        F: Fn(&NetNs) -> R + Send + Sync + 'static,
        R: PrepareResult,
    {
        self.prepare = Box::new(move |netns| prepare(netns).into_result());
        self
    }

    /// Starts the pool. Does not wait until namespaces are ready.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ThreadSpawn`]; [`ErrorKind::Unsupported`] where the pool could never give a namespace (`at_most`
    /// is 0), and on a thread with a table of file descriptors of its own. [`NetNsPool::take`] reports a failure to
    /// make namespaces.
    pub fn build(self) -> Result<NetNsPool, Error> {
        let NetNsPoolBuilder { settings, prepare } = self;
        let unsupported = |why| Err(Error::new(ErrorKind::Unsupported, "build a pool of network namespaces", why));
        if settings.at_most == Some(0) {
            return unsupported("`at_most` is 0, so that it could never give one");
        }
        let process = Pool::of_process();
        if descriptors::are_apart(process.home_or_init()?) {
            return unsupported(OWN_DESCRIPTORS);
        }
        let shared = Arc::new(Shared {
            process,
            settings,
            prepare: AssertUnwindSafe(prepare),
            state: Mutex::default(),
            changed: Condvar::new(),
            ended: Condvar::new(),
            run: Arc::default(),
        });
        maker::start(Arc::clone(&shared))?;
        Ok(NetNsPool(Arc::new(Owner(shared))))
    }
}

const OWN_DESCRIPTORS: &str = "the calling thread has a table of file descriptors of its own (unshare(2) with \
                               CLONE_FILES), where those of the pool are not open; use another thread, or `NetNs::new`";

impl NetNsPool {
    /// A builder for a pool.
    pub fn builder() -> NetNsPoolBuilder {
        let settings = Settings { ready: 4, at_most: None, timeout: Duration::from_secs(30) };
        NetNsPoolBuilder { settings, prepare: Box::new(|_| Ok(())) }
    }

    /// Takes a namespace, prepared. Waits for one where none is ready.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Prepare`]: the closure that prepares it failed or panicked. Its error is the
    ///   [`source`](std::error::Error::source).
    /// - [`ErrorKind::LimitReached`]: `at_most` exist, and none was gone within the
    ///   [`timeout`](NetNsPoolBuilder::timeout); or a limit of the kernel is reached.
    /// - [`ErrorKind::Busy`]: none was made within the timeout, although there is room.
    /// - [`ErrorKind::Unsupported`] in the closure of [`prepare`](NetNsPoolBuilder::prepare) of the same pool, in a
    ///   forked process, and on a thread with a table of file descriptors of its own.
    /// - Those of [`NetNs::new`].
    pub fn take(&self) -> Result<NetNs, Error> {
        let timeout = self.shared().settings.timeout;
        self.take_timeout(timeout)?.ok_or_else(|| self.shared().timed_out(timeout))
    }

    /// As [`NetNsPool::take`], with a timeout of its own. `None` where no namespace was ready in time.
    ///
    /// # Errors
    ///
    /// As [`NetNsPool::take`], without those of its timeout.
    pub fn take_timeout(&self, timeout: Duration) -> Result<Option<NetNs>, Error> {
        let shared = self.shared();
        let deadline = Instant::now().checked_add(timeout);
        match shared.take_or_queue(None)? {
            Response::Ready(netns) => Ok(Some(netns)),
            Response::Queued(taker) => {
                let item = taker.wait(deadline);
                if item.is_none() {
                    shared.lock().takers.retain(|other| !Arc::ptr_eq(other, &taker));
                }
                item.transpose()
            }
        }
    }

    /// Takes a namespace if one is ready. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`NetNsPool::take`], without those of its timeout. A failure that happened earlier, when a namespace was made
    /// ahead, is reported.
    pub fn try_take(&self) -> Result<Option<NetNs>, Error> {
        self.shared().check()?;
        let mut state = self.shared().lock();
        self.shared().pop_ready(&mut state)
    }

    /// As [`NetNsPool::take`], without blocking the thread: for async code, under any executor.
    ///
    /// If the future is dropped, the caller leaves the queue, and no namespace is lost. The timeout is that of
    /// [`take`](NetNsPool::take). The thread of the pool checks it, and so not while it runs the closure of
    /// [`prepare`](NetNsPoolBuilder::prepare).
    ///
    /// # Errors
    ///
    /// As [`NetNsPool::take`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), in_netns::Error> {
    /// let pool = in_netns::NetNsPool::builder().ready(8).build()?;
    /// let ns = pool.take_async().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn take_async(&self) -> Result<NetNs, Error> {
        let shared = self.shared();
        let deadline = Instant::now().checked_add(shared.settings.timeout);
        let taker = match shared.take_or_queue(deadline)? {
            Response::Ready(netns) => return Ok(netns),
            Response::Queued(taker) => taker,
        };
        let leave = scopeguard::guard(taker, |taker| {
            // In a forked process, the locks may be held forever.
            if shared.check_process().is_err() {
                return;
            }
            if let Some(item) = taker.leave() {
                // The namespace is ready before all others.
                shared.deliver(item, VecDeque::push_front);
            }
            shared.lock().takers.retain(|other| !Arc::ptr_eq(other, &taker));
        });
        poll_fn(|context| match shared.check_process() {
            Ok(()) => leave.poll(context),
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }

    /// Counts the namespaces of the pool.
    ///
    /// ```
    /// # in_netns::rootless!();
    /// let pool = in_netns::NetNsPool::builder().ready(2).at_most(3).build()?;
    /// let taken = [pool.take()?, pool.take()?, pool.take()?];
    /// assert_eq!((pool.stats().ready, pool.stats().alive), (0, 3));
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> NetNsPoolStats {
        if !self.shared().process.is_of_this_process() {
            return NetNsPoolStats::default();
        }
        self.shared().stats()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

/// The immediate response to a request for a namespace.
enum Response {
    Ready(NetNs),
    Queued(Arc<Taker>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the calling thread can be given a namespace.
    fn check(&self) -> Result<(), Error> {
        self.check_process()?;
        let why = if self.run.is_current() {
            "this call is part of the closure given to `prepare`, or of a waker that the pool calls, and the pool \
             would wait for itself; use `NetNs::new` here"
        } else if descriptors::are_apart(self.process.home_or_init()?) {
            OWN_DESCRIPTORS
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, OPERATION, why))
    }

    /// Whether this process has the thread that makes namespaces.
    fn check_process(&self) -> Result<(), Error> {
        let why = "this process was forked from the one that built the pool, and has no thread that makes namespaces; \
                   build a pool after the fork";
        if self.process.is_of_this_process() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, OPERATION, why))
    }

    fn take_or_queue(&self, deadline: Option<Instant>) -> Result<Response, Error> {
        self.check()?;
        let mut state = self.lock();
        if let Some(netns) = self.pop_ready(&mut state)? {
            return Ok(Response::Ready(netns));
        }
        if state.life == Life::Over {
            return Err(state.error.clone().unwrap_or_else(is_over));
        }
        let taker = Arc::new(Taker::new(deadline));
        state.takers.push_back(Arc::clone(&taker));
        self.tell_maker(&mut state);
        Ok(Response::Queued(taker))
    }

    /// The namespace that has been ready longest, or the failure that precedes it.
    fn pop_ready(&self, state: &mut State) -> Result<Option<NetNs>, Error> {
        let Some(item) = state.ready.pop_front() else { return Ok(None) };
        self.tell_maker(state);
        item.map(Some)
    }

    fn stats(&self) -> NetNsPoolStats {
        let mut state = self.lock();
        let before = state.unwatched.len();
        // Nothing else notices that these are gone.
        state.unwatched.retain(is_there);
        if state.unwatched.len() < before {
            // There may be room for another one now.
            self.tell_maker(&mut state);
        }
        state.stats()
    }

    fn tell_maker(&self, state: &mut State) {
        state.is_news = true;
        state.is_paused = false;
        self.changed.notify_one();
    }

    /// Gives an item to the caller that has waited longest. Keeps it where no caller waits.
    fn deliver(
        &self,
        mut item: Result<NetNs, Error>,
        keep: impl FnOnce(&mut VecDeque<Result<NetNs, Error>>, Result<NetNs, Error>),
    ) {
        loop {
            let mut state = self.lock();
            if state.life != Life::Open {
                drop(state);
                // The lock is released first: the drop of a namespace's last handle takes it.
                return drop(item);
            }
            let Some(taker) = state.takers.pop_front() else { return keep(&mut state.ready, item) };
            drop(state);
            match taker.fill(item) {
                Ok(()) => return,
                // That caller has left.
                Err(rejected) => item = rejected,
            }
        }
    }

    fn timed_out(&self, timeout: Duration) -> Error {
        let alive = self.lock().alive();
        match self.settings.at_most {
            Some(at_most) if alive >= at_most => {
                let why = format!(
                    "{alive} of them exist, which is the limit (`at_most`), and none was gone within {timeout:?}: drop \
                     the handles, processes and sockets that use them, or raise `at_most` or `timeout`"
                );
                Error::new(ErrorKind::LimitReached, OPERATION, why)
            }
            _ => {
                let why =
                    format!("none was made and prepared within {timeout:?}: keep more `ready`, or raise `timeout`");
                Error::new(ErrorKind::Busy, OPERATION, why)
            }
        }
    }
}

const OPERATION: &str = "take a network namespace from a pool";

/// Whether a released namespace is still there, as far as its sentinel tells. One that cannot be read tells nothing, so
/// its namespace counts as gone.
fn is_there(sentinel: &File) -> bool {
    matches!(is_gone(sentinel), Ok(false))
}

fn is_over() -> Error {
    Error::new(ErrorKind::ThreadSpawn, OPERATION, "the thread of the pool is gone; build another pool")
}

impl State {
    fn stats(&self) -> NetNsPoolStats {
        NetNsPoolStats {
            ready: self.ready.iter().filter(|item| item.is_ok()).count(),
            alive: self.alive(),
            waiting: self.takers.len(),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        /// The time that a running call of the closure gets to end.
        const LIMIT: Duration = Duration::from_secs(1);
        let Owner(shared) = self;
        if !shared.process.is_of_this_process() {
            // Another thread of the parent may have held the lock at the fork.
            let ready = shared.state.try_lock().map(|mut state| std::mem::take(&mut state.ready));
            return drop(ready);
        }
        let mut state = shared.lock();
        if state.life == Life::Open {
            state.life = Life::Closed;
        }
        let ready = std::mem::take(&mut state.ready);
        shared.tell_maker(&mut state);
        drop(state);
        drop(ready);
        if !shared.run.is_current() {
            let _ = shared.ended.wait_timeout_while(shared.lock(), LIMIT, |state| state.life != Life::Over);
        }
    }
}

impl fmt::Debug for NetNsPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { ready, at_most, timeout } = self.shared().settings;
        out.debug_struct("NetNsPool")
            .field("ready", &ready)
            .field("at_most", &at_most)
            .field("timeout", &timeout)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NetNsPoolBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { ready, at_most, timeout } = self.settings;
        out.debug_struct("NetNsPoolBuilder")
            .field("ready", &ready)
            .field("at_most", &at_most)
            .field("timeout", &timeout)
            .finish_non_exhaustive()
    }
}
