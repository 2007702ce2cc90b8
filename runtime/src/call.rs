//! A call: runs a body in a namespace, on a pinned thread.
//!
//! ```text
//! caller:  target resolved ─ lease ─ hand over ───────────────── wait ──────────────────────── value | panic | error
//! pinned:                              enter ─ catch_unwind(f) ─ restore ─ tell the caller ─ inspect ─ idle | retire
//! ```
//!
//! **Promised:** the body runs after `setns` succeeded, or not at all (P1); the caller's thread never moves (P2); when
//! the call returns, the pinned thread is home or has exited (P3); the body's value, its panic and a failed restore are
//! three separate facts, and none hides another (P5).

pub(crate) mod audit;
pub(crate) mod command;
pub(crate) mod context;
mod create;
mod dismantle;
pub(crate) mod launch;
pub(crate) mod netns_pool;
pub(crate) mod session;
pub(crate) mod socket_errors;
pub(crate) mod sockets;
pub(crate) mod view;
pub(crate) mod walk;
pub(crate) mod worker;

use std::panic;
use std::thread;

use crate::call::audit::{Audit, Stray};
use crate::call::context::Context;
use crate::call::launch::{Options, ThreadKind};
use crate::call::session::{Parameters, RunBody, SyncBody};
use crate::error::Error;
use crate::netns::{IntoNetNs, NetNs, Place};
use crate::thread::fate::ThreadFate;
use crate::thread::pinned::PinnedThread;
use crate::thread::{Inspect, Pool, Role, start_pending};

/// Runs a closure inside a network namespace, and returns its value.
///
/// The closure runs on a pinned thread. Such a thread belongs to this crate. It is at home (in the process's own
/// namespaces) before and after the call, and is not used again if it could not be restored. The calling thread waits,
/// and its namespace never changes. The closure may borrow from its surroundings, as with [`std::thread::scope`].
///
/// The namespace is any [`IntoNetNs`]: a name as in `ip netns`, a path, a descriptor (also one of a process), a
/// [`NetNs`] or a [`View`](crate::View).
///
/// # Errors
///
/// Any error of [`IntoNetNs::into_netns`] or of entering the namespace: [`NotFound`](crate::ErrorKind::NotFound),
/// [`NotANetNs`](crate::ErrorKind::NotANetNs), [`PermissionDenied`](crate::ErrorKind::PermissionDenied), … and
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn). In each case the closure was never called.
///
/// A signal handler must make no call (`signal-safety(7)`): if it interrupts one, both wait without end. Nor must a
/// global allocator: a call allocates memory, on threads of this crate too.
///
/// A thread that stops sharing its table of file descriptors (`CLONE_FILES`) must do so before its first call, or use
/// [`Call::fresh`]: see [`inheritance`](crate::inheritance#tables-of-file-descriptors).
///
/// A failed *restore* is not an error of the call: the closure has run, and the thread has exited. [`Call::outcome`],
/// [`pool_stats`](crate::pool_stats) and [`set_poison_hook`](crate::set_poison_hook) report it.
///
/// # Panics
///
/// A panic of the closure is resumed in the caller, with its own payload, after the thread is restored.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use std::net::TcpListener;
/// use in_netns::{NetNs, with_netns};
///
/// let blue = NetNs::new()?;
/// let red = NetNs::new()?;
/// let bind = || TcpListener::bind("127.0.0.1:80");
/// // Both bind the same port: each listener stays in the namespace in which it was created.
/// let (one, other) = (with_netns(&blue, bind)??, with_netns(&red, bind)??);
/// assert_eq!(NetNs::of_socket(&one)?, blue);
/// assert_eq!(NetNs::of_socket(&other)?, red);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A value that is not `Send` cannot cross to another thread:
///
/// ```compile_fail,E0277
/// let text = std::rc::Rc::new("here");
/// in_netns::with_netns("blue", || println!("{text}"));
/// ```
///
/// # References
///
/// `setns(2)`, `network_namespaces(7)`.
pub fn with_netns<N, F, R>(ns: N, f: F) -> Result<R, Error>
where
    N: IntoNetNs,
    F: FnOnce() -> R + Send,
    R: Send,
{
    Call::new(ns).run(f)
}

/// Like [`with_netns`], for a closure that returns a `Result`: one `?` is enough.
///
/// A failure to enter is converted into the closure's own error type.
///
/// # Errors
///
/// The closure's error, or an [`Error`] as described for [`with_netns`]. In the second case the closure was never
/// called.
///
/// # Panics
///
/// As [`with_netns`].
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use std::net::TcpListener;
/// use in_netns::{NetNs, try_with_netns};
///
/// let blue = NetNs::new()?;
/// let listener = try_with_netns(&blue, || TcpListener::bind("127.0.0.1:80"))?;
/// assert_eq!(NetNs::of_socket(&listener)?, blue);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_with_netns<N, F, T, E>(ns: N, f: F) -> Result<T, E>
where
    N: IntoNetNs,
    F: FnOnce() -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
{
    Call::new(ns).try_run(f)
}

/// Runs a closure on a pristine pinned thread that is still at home. The closure enters namespaces through its
/// argument.
///
/// # Errors
///
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn) if no thread could be started. The closure was never called in that
/// case.
///
/// # Panics
///
/// A panic of the closure is resumed in the caller.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{Error, NetNs, pinned};
///
/// let pods = [NetNs::new()?, NetNs::new()?, NetNs::new()?];
/// let seen = pinned(|thread| {
///     let mut guard = thread.enter(&pods[0])?;
///     let mut seen = vec![NetNs::current()?];
///     for pod in &pods[1..] {
///         guard.move_to(pod)?; // one setns each
///         seen.push(NetNs::current()?);
///     }
///     Ok::<_, Error>(seen)
/// })??;
/// assert_eq!(seen, pods);
/// # Ok::<(), Error>(())
/// ```
pub fn pinned<F, R>(f: F) -> Result<R, Error>
where
    F: FnOnce(&mut PinnedThread) -> R + Send,
    R: Send,
{
    execute(None, Role::Bodies, &Options::default(), Inspect::Later, f).map(Outcome::into_value)
}

impl NetNs {
    /// Runs a closure inside this namespace: [`with_netns`], as a method.
    ///
    /// # Errors
    ///
    /// As [`with_netns`].
    ///
    /// # Panics
    ///
    /// As [`with_netns`].
    pub fn run<F, R>(&self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        with_netns(self, f)
    }

    /// Like [`NetNs::run`], for a closure that returns a `Result`: [`try_with_netns`], as a method.
    ///
    /// # Errors
    ///
    /// As [`try_with_netns`].
    ///
    /// # Panics
    ///
    /// As [`with_netns`].
    pub fn try_run<F, T, E>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
    {
        try_with_netns(self, f)
    }
}

/// A call, with its options.
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{Call, NetNs, RetireReason, ThreadFate};
///
/// let outcome = Call::new(NetNs::new()?).fresh().thread_name("probe").outcome(|| 6 * 7)?;
/// assert_eq!(outcome.value.unwrap(), 42);
/// assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Fresh)));
/// # Ok::<(), in_netns::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a call does nothing until `run` or `outcome`"]
pub struct Call {
    target: Result<Place, Error>,
    options: Options,
}

impl Call {
    /// Creates a call into a namespace, or into a [`View`](crate::View) of one. If the namespace cannot be found,
    /// [`Call::run`] and [`Call::outcome`] fail.
    pub fn new(ns: impl IntoNetNs) -> Call {
        Call { target: ns.into_place(), options: Options::default() }
    }

    /// As [`Call::new`], for the attribute.
    pub(crate) fn at(place: Place) -> Call {
        Call { target: Ok(place), options: Options::default() }
    }

    /// Uses a thread for this call alone, started by the calling thread.
    ///
    /// The call then also pays for the start of a thread, some tens of microseconds. The thread inherits the state of
    /// the calling thread ([`inheritance`](crate::inheritance)): its capabilities, its sandbox, its descriptor table,
    /// and the output capture of `cargo test`. No other call uses the thread, whatever the closure did to it. It is
    /// restored before the call returns, and then exits.
    pub fn fresh(mut self) -> Call {
        self.options.fresh = true;
        self
    }

    /// Checks at the end of the call for strays: threads that were started in it and are still in its namespace.
    ///
    /// [`Outcome::strays`] lists them, and the hook of [`set_stray_hook`](crate::set_stray_hook) is called for each. A
    /// thread that was joined or is about to exit is not a stray. Neither is a thread that another call in the same
    /// namespace started, at the same time ([`Stray::certain`]) or from within the body, on a pooled thread: audit that
    /// call too. Child processes are not checked.
    ///
    /// The threads of the process are listed before and after the call. That takes about 0.07, 0.25 and 2 ms with 10,
    /// 100 and 1000 threads. A stray costs one or two milliseconds more, and up to 0.1 s while it is awake, because it
    /// may be about to exit. While the body runs, the timer slack of its thread is slightly shorter than usual: threads
    /// inherit the slack, and the audit identifies them by it. The page about [`escapes`](crate::escapes) lists what an
    /// audit cannot see.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use std::sync::mpsc;
    /// use std::thread;
    /// use in_netns::{Call, NetNs};
    ///
    /// let (end, wait) = mpsc::channel::<()>();
    /// let stay = move || thread::Builder::new().name("forgotten".into()).spawn(move || wait.recv());
    /// let outcome = Call::new(NetNs::new()?).audit().outcome(stay)?;
    /// assert_eq!(outcome.strays[0].name, "forgotten");
    /// drop(end);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    pub fn audit(mut self) -> Call {
        self.options.audit = true;
        self
    }

    /// Gives the body a stack of this many bytes, on a thread for this call alone. This implies [`Call::fresh`].
    ///
    /// By default a body has the stack that [`std::thread`] gives to a thread, pooled or fresh: 2 MiB, or the value of
    /// `RUST_MIN_STACK`. What this library needs of the stack around the body comes on top, so that no size is too
    /// small for the call itself. In an async call, the body is polled on this stack.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::{Call, NetNs};
    ///
    /// fn depth(left: u32) -> u32 {
    ///     let on_the_stack = std::hint::black_box([left; 256]);
    ///     if left == 0 { 0 } else { 1 + depth(on_the_stack[7] - 1) }
    /// }
    /// // At least a kilobyte each.
    /// let deep = Call::new(NetNs::new()?).stack_size(64 << 20).run(|| depth(10_000))?;
    /// assert_eq!(deep, 10_000);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Call {
        self.options.stack_size = Some(bytes);
        self
    }

    /// Names the thread for the duration of the call. `/proc/self/task/TID/comm` shows the first 15 bytes. With
    /// [`Call::fresh`], panic messages and [`std::thread::Thread::name`] show the name as well. The name ends at the
    /// first NUL byte.
    pub fn thread_name(mut self, name: impl Into<String>) -> Call {
        self.options.thread_name = Some(until_nul(name.into()));
        self
    }

    /// Runs the closure, and returns its value.
    ///
    /// # Errors
    ///
    /// As [`with_netns`].
    ///
    /// # Panics
    ///
    /// As [`with_netns`].
    pub fn run<F, R>(self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        self.execute(Inspect::Later, f).map(Outcome::into_value)
    }

    /// Like [`Call::run`], for a closure that returns a `Result`: see [`try_with_netns`].
    ///
    /// # Errors
    ///
    /// As [`try_with_netns`].
    ///
    /// # Panics
    ///
    /// As [`with_netns`].
    pub fn try_run<F, T, E>(self, f: F) -> Result<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
    {
        self.run(f).unwrap_or_else(|error| Err(error.into()))
    }

    /// Like [`Call::run`], and also returns the strays of an audit.
    pub(crate) fn run_with_strays<F, R>(self, f: F) -> Result<(R, Vec<Stray>), Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        self.execute(Inspect::Later, f).map(Outcome::into_value_and_strays)
    }

    /// Returns the parts that an async call needs.
    #[cfg(feature = "tokio")]
    pub(crate) fn into_parts(self) -> Result<(Place, Options), Error> {
        let mut place = self.target?;
        place.prepare();
        Ok((place, self.options))
    }

    /// Runs the closure, and returns the full outcome: its value or panic, the fate of the thread, and any strays.
    ///
    /// Waits for the inspection of the thread, which takes some microseconds and which [`Call::run`] defers.
    ///
    /// # Errors
    ///
    /// As [`with_netns`]. A panic is part of the outcome, and is not resumed.
    pub fn outcome<F, R>(self, f: F) -> Result<Outcome<R>, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        self.execute(Inspect::Now, f)
    }

    fn execute<F, R>(self, inspect: Inspect, body: F) -> Result<Outcome<R>, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let Call { target, options } = self;
        let mut place = target?;
        place.prepare();
        execute(Some(&place), Role::for_bodies_in(&place), &options, inspect, |_| body())
    }
}

/// Makes a call whose body is a part of this crate. The body records the time that user code in it takes:
/// [`PinnedThread::user_code_took`].
pub(crate) fn run_own<R: Send>(ns: &NetNs, body: impl FnOnce(&mut PinnedThread) -> R + Send) -> Result<R, Error> {
    execute(Some(&Place::from(ns.clone())), Role::Bodies, &Options::default(), Inspect::Later, body)
        .map(Outcome::into_value)
}

/// The most bytes of captured and returned values that are moved to the pinned thread and back. Larger ones stay in the
/// caller's frame: the stack of a pinned thread is small, and without optimisation each function that a value passes
/// through has copies of it.
pub(crate) const LARGEST_MOVED: usize = 1024;

/// A name that a thread can have.
pub(crate) fn until_nul(mut name: String) -> String {
    name.truncate(name.find('\0').unwrap_or(name.len()));
    name
}

/// Makes a call, on the caller's side. Without a target, the thread stays at home.
fn execute<F, R>(
    target: Option<&Place>,
    role: Role,
    options: &Options,
    inspect: Inspect,
    body: F,
) -> Result<Outcome<R>, Error>
where
    F: FnOnce(&mut PinnedThread) -> R + Send,
    R: Send,
{
    let mut body = SyncBody::Given(Some(body));
    let made = if const { size_of::<F>() + size_of::<R>() <= LARGEST_MOVED } {
        make(target, role, options, inspect, &mut body)?
    } else {
        make(target, role, options, inspect, &mut &mut body)?
    };
    let Outcome { value, thread, strays } = made;
    Ok(Outcome { value: body.into_result(value), thread, strays })
}

/// Makes a call: chooses its thread, has the body run there, and reports the end of the lease. The value stays in the
/// body.
fn make(
    target: Option<&Place>,
    role: Role,
    options: &Options,
    inspect: Inspect,
    body: &mut dyn RunBody,
) -> Result<Outcome<()>, Error> {
    let audit = target.filter(|_| options.audit).map(|place| Audit::begin(place.netns()));
    let context = Context::of_caller();
    let mut parameters = Parameters {
        target: target.map(Place::as_target),
        inspect,
        audit: audit.as_ref(),
        name: None,
        context: (!context.is_empty()).then_some(&context),
    };
    start_pending();
    let pool = Pool::of_process();
    let kind = options.choose(pool)?;
    let (result, lease_end) = match kind {
        ThreadKind::Pooled => {
            let name = options.session_name();
            parameters.name = name.as_deref();
            launch::on_leased_thread(pool, role, &parameters, body)?
        }
        ThreadKind::Fresh => launch::on_fresh_thread(pool, options, parameters, body)?,
    };
    // The report precedes the destructor of a body that did not run, which may panic.
    let thread = kind.fate(lease_end.report());
    let value = result?;
    // The call's own thread has left the namespace at this point.
    let strays = audit.map_or_else(Vec::new, Audit::end);
    Stray::notify(&strays);
    Ok(Outcome { value, thread, strays })
}

/// The full result of a call that ran.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<R> {
    /// The closure's value, or its panic.
    pub value: thread::Result<R>,
    /// What happened to the thread that ran the closure.
    pub thread: ThreadFate,
    /// The threads that the closure left behind in the namespace. Empty without [`Call::audit`].
    pub strays: Vec<Stray>,
}

impl<R> Outcome<R> {
    /// The closure's value.
    ///
    /// # Panics
    ///
    /// Resumes the closure's panic.
    pub fn into_value(self) -> R {
        self.value.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    pub(crate) fn into_value_and_strays(mut self) -> (R, Vec<Stray>) {
        let strays = std::mem::take(&mut self.strays);
        (self.into_value(), strays)
    }
}
