//! A call: a body, run in a namespace on a pinned thread.
//!
//! ```text
//! caller:  target resolved ─ lease ─ hand over ───────────────── wait ──────────────────────── value | panic | error
//! pinned:                              enter ─ catch_unwind(f) ─ restore ─ tell the caller ─ inspect ─ idle | retire
//! ```
//!
//! **Promised:** the body runs after `setns` succeeded, or not at all (P1); the caller's thread never moves (P2); when the call
//! returns, the pinned thread is home or gone (P3); the body's value, its panic and a failed restore are three facts, and
//! none hides another (P5).

use std::ffi::CString;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{self, Builder};

use crate::error::Error;
use crate::fate::{Poisoning, RetireReason, ThreadFate, report_poisoning};
use crate::guard::{End, PinnedThread};
use crate::handover::{Answer, Halfway};
use crate::home::Change;
use crate::netns::{IntoNetNs, NetNs};
use crate::sys::{self, Tid};
use crate::thread::{Departure, Pool, WORKER_NAME, spawn_failed};

/// Runs a closure inside a network namespace, and returns its value.
///
/// The closure runs on a pinned thread: one that belongs to this crate, is in home (the process's own namespaces) before and
/// after, and is not used again if it could not be brought back. The calling thread waits, and its namespace is never changed.
/// The closure may borrow from its surroundings, as with [`std::thread::scope`].
///
/// The namespace is anything that is [`IntoNetNs`]: a name as in `ip netns`, a path, a descriptor, a process id, a [`NetNs`].
///
/// # Errors
///
/// What [`IntoNetNs::into_netns`] and entering can meet: [`NotFound`](crate::ErrorKind::NotFound),
/// [`NotANetNs`](crate::ErrorKind::NotANetNs), [`PermissionDenied`](crate::ErrorKind::PermissionDenied), … and
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn). The closure was then never called.
///
/// A failed *restore* is not an error of the call: the work was done, and the thread is gone. [`Call::outcome`],
/// [`pool_stats`](crate::pool_stats) and [`set_poison_hook`](crate::set_poison_hook) tell of it.
///
/// # Panics
///
/// A panic of the closure is resumed here, with its own payload, after the thread was restored.
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
/// // The same port, twice: each listener stays in the namespace that it was made in.
/// let (one, other) = (with_netns(&blue, bind)??, with_netns(&red, bind)??);
/// assert_eq!(NetNs::of_socket(&one)?, blue);
/// assert_eq!(NetNs::of_socket(&other)?, red);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What is not `Send` does not cross to another thread:
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

/// Runs a closure on a pristine pinned thread, still at home, from where it enters namespaces as it likes.
///
/// # Errors
///
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn) where there is no thread to be had. The closure was then never called.
///
/// # Panics
///
/// A panic of the closure is resumed here.
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
    Call::at_home().execute(f, Inspect::Later).map(Outcome::into_value)
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
}

/// One call, with its options.
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
    /// `None`: stay at home.
    target: Option<Result<NetNs, Error>>,
    fresh: bool,
    thread_name: Option<String>,
}

impl Call {
    /// A call into a namespace. A namespace that cannot be found is an error of [`Call::run`] and [`Call::outcome`].
    pub fn new(ns: impl IntoNetNs) -> Call {
        Call { target: Some(ns.into_netns()), ..Call::at_home() }
    }

    fn at_home() -> Call {
        Call { target: None, fresh: false, thread_name: None }
    }

    /// Uses a thread for this call alone, started by the calling thread.
    ///
    /// It costs the start of a thread, some tens of microseconds. The thread inherits what the calling thread has, such as the
    /// capture of output under `cargo test`, and it cannot be met again, whatever the closure did to it. It is restored
    /// before the call returns all the same, and exits then.
    pub fn fresh(mut self) -> Call {
        self.fresh = true;
        self
    }

    /// Names the thread for the length of the call: what `/proc/self/task/TID/comm` shows (15 bytes of it) and, with
    /// [`Call::fresh`], also panic messages and [`std::thread::Thread::name`]. What follows a NUL byte is cut off.
    pub fn thread_name(mut self, name: impl Into<String>) -> Call {
        let mut name = name.into();
        name.truncate(name.find('\0').unwrap_or(name.len()));
        self.thread_name = Some(name);
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
        self.execute(|_| f(), Inspect::Later).map(Outcome::into_value)
    }

    /// Runs the closure, and returns everything there is to know: its value or panic, and what became of the thread.
    ///
    /// Waits for the inspection of the thread, some microseconds, which [`Call::run`] leaves to later.
    ///
    /// # Errors
    ///
    /// As [`with_netns`]. A panic is in the outcome, and not resumed.
    pub fn outcome<F, R>(self, f: F) -> Result<Outcome<R>, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        self.execute(|_| f(), Inspect::Now)
    }

    /// The life of a call, on the caller's side.
    fn execute<F, R>(self, body: F, inspect: Inspect) -> Result<Outcome<R>, Error>
    where
        F: FnOnce(&mut PinnedThread) -> R + Send,
        R: Send,
    {
        let Call { target, fresh, thread_name } = self;
        let visit = Visit { target: target.transpose()?, body, inspect };
        let report = if fresh { on_fresh_thread(visit, thread_name)? } else { on_leased_thread(visit, thread_name)? };
        let Report { value, end, changed, departure, thread_id } = report;
        // The namespace is let go of, and then the bad news told, before anything is returned.
        if let Some(departure) = departure {
            departure.wait();
        }
        let thread = match end {
            End::Poisoned { error, .. } => {
                report_poisoning(&Poisoning { thread_id, error: error.clone() });
                ThreadFate::Retired(RetireReason::Poisoned(error))
            }
            End::Asked => ThreadFate::Retired(RetireReason::Asked),
            End::Restored => match changed {
                Some(change) => ThreadFate::Retired(RetireReason::Changed(change)),
                None if fresh => ThreadFate::Retired(RetireReason::Fresh),
                None => ThreadFate::Reusable,
            },
        };
        value.map(|value| Outcome { value, thread })
    }
}

/// Everything that is known of a call that ran.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<R> {
    /// The closure's value, or its panic.
    pub value: thread::Result<R>,
    /// What became of the thread that it ran on.
    pub thread: ThreadFate,
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
}

/// When to inspect the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inspect {
    /// Before the caller is told: it wants to know.
    Now,
    /// When the caller has been told.
    Later,
}

/// What is to be done on the pinned thread.
struct Visit<F> {
    target: Option<NetNs>,
    body: F,
    inspect: Inspect,
}

/// What the pinned thread has to say afterwards.
struct Report<R> {
    /// An error: the namespace was not entered, and the body not run.
    value: Result<thread::Result<R>, Error>,
    end: End,
    changed: Option<Change>,
    /// Of a thread that could not be brought home, and is to be waited for.
    departure: Option<Departure>,
    thread_id: u32,
}

impl<F> Visit<F> {
    /// The life of a call, on the pinned thread's side. `halfway` is for the inspection that can be done from elsewhere.
    fn make<R>(self, pool: &'static Pool, thread: &mut PinnedThread, halfway: Option<&Halfway<'_, PinnedThread>>) -> Report<R>
    where
        F: FnOnce(&mut PinnedThread) -> R,
    {
        let Visit { target, body, inspect } = self;
        if let Err(error) = target.as_ref().map_or(Ok(()), |target| thread.go(target)) {
            return Report { value: Err(error), end: thread.end_lease_at_the_door(), changed: None, departure: None, thread_id: 0 };
        }
        let value = Ok(panic::catch_unwind(AssertUnwindSafe(|| body(thread))));
        let halfway = halfway.filter(|_| inspect == Inspect::Later);
        halfway.inspect(|halfway| halfway.reached());
        let end = thread.end_lease();
        let mut report = Report { value, end, changed: None, departure: None, thread_id: 0 };
        match &report.end {
            End::Restored => {
                if halfway.is_some_and(Halfway::is_helped) {
                    thread.inspected_by_owner();
                }
                if inspect == Inspect::Now {
                    report.changed = thread.inspect().err();
                }
            }
            End::Asked => pool.count_retired(),
            End::Poisoned { is_home, .. } => {
                pool.count_poisoned();
                report.thread_id = thread.id().as_raw().unsigned_abs();
                report.departure = (!is_home).then(Departure::of_current);
            }
        }
        report
    }
}

/// On an idle thread of the pool, or a new one.
fn on_leased_thread<F, R>(visit: Visit<F>, thread_name: Option<String>) -> Result<Report<R>, Error>
where
    F: FnOnce(&mut PinnedThread) -> R + Send,
    R: Send,
{
    let pool = Pool::of_process()?;
    let thread_name = thread_name.and_then(|name| CString::new(name).ok());
    let mut visit = Some(visit);
    let mut report = None;
    let thread_id = AtomicI32::new(0);
    let mut job = |thread: &mut PinnedThread, halfway: &Halfway<'_, PinnedThread>| {
        let Some(visit) = visit.take() else { return };
        thread_id.store(thread.id().as_raw(), Ordering::Relaxed);
        // A name is for whoever looks; that it could not be set is no reason to refuse the call.
        let _ = thread_name.as_deref().map(sys::name_current_thread);
        report = Some(visit.make(pool, thread, Some(halfway)));
        let _ = thread_name.as_deref().map(|_| sys::name_current_thread(WORKER_NAME));
    };
    // The inspection is done here, beside the restore there: this thread has nothing else to do.
    let mut found = Ok(());
    let mut lease = pool.lease()?;
    while lease.hand_over(&mut job, || found = pool.inspect_from_anywhere(Tid::from_raw(thread_id.load(Ordering::Relaxed))))
        == Answer::Declined
    {
        lease = pool.lease()?;
    }
    let Some(mut report) = report else { unreachable!("a job that was run leaves a report") };
    report.changed = report.changed.or(found.err());
    if matches!(report.end, End::Restored) {
        lease.give_back(report.changed.map_or(Ok(()), Err));
    }
    Ok(report)
}

/// On a thread of its own.
fn on_fresh_thread<F, R>(visit: Visit<F>, thread_name: Option<String>) -> Result<Report<R>, Error>
where
    F: FnOnce(&mut PinnedThread) -> R + Send,
    R: Send,
{
    let pool = Pool::of_process()?;
    let home = pool.settled_home()?;
    // Under its caller's name, so that a failing test is named in its panic message.
    let name = thread_name.or_else(|| thread::current().name().map(str::to_owned));
    let builder = name.map_or_else(Builder::new, |name| Builder::new().name(name));
    let _leased = pool.count_lease();
    thread::scope(|scope| {
        let alive = pool.count_thread();
        let body = move || {
            let _alive = alive;
            visit.make(pool, &mut PinnedThread::pin_current(home), None)
        };
        let thread = builder.spawn_scoped(scope, body).map_err(|source| spawn_failed("a thread for one call", source))?;
        let report = thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload));
        report.changed.inspect(|_| pool.count_retired());
        Ok(report)
    })
}
