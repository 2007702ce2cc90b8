//! What the expansion of `#[in_netns]` calls. Not public: it changes with the macro crate, whose version is pinned to this one's.

use std::io::{self, Write};

#[cfg(feature = "tokio")]
use crate::async_call;
use crate::call::Call;
#[cfg(feature = "tokio")]
use crate::call::Outcome;
use crate::call::audit::Stray;
use crate::error::{Error, ErrorKind};
use crate::netns::{IntoNetNs, NetNs};
#[cfg(feature = "tokio")]
use crate::thread::Inspect;
use crate::thread::Pool;
use crate::thread::spin_policy::SpinLimit;

/// The namespace of `#[in_netns(new)]`.
#[derive(Debug)]
pub struct NewNetNs;

impl IntoNetNs for NewNetNs {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::new()
    }
}

/// The options of an attribute.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Options {
    fresh: bool,
    audit: bool,
    panic_on_strays: bool,
    /// The name of the test that it is, in a test build.
    test: Option<&'static str>,
}

impl Options {
    /// Those of an attribute without options.
    #[allow(clippy::new_without_default)] // The expansion begins with this one, and nobody else does.
    pub const fn new() -> Options {
        Options { fresh: false, audit: false, panic_on_strays: false, test: None }
    }

    /// Whether to use a thread for this call alone.
    pub const fn fresh(self, yes: bool) -> Options {
        Options { fresh: yes, ..self }
    }

    /// Whether to look for threads that outlive the call.
    pub const fn audit(self, yes: bool) -> Options {
        Options { audit: yes, ..self }
    }

    /// Whether a thread that outlives the call is a panic.
    pub const fn panic_on_strays(self, yes: bool) -> Options {
        Options { panic_on_strays: yes, ..self }
    }

    /// In a test build: the test that it is, which may be skipped.
    pub const fn test(self, yes: bool, name: &'static str) -> Options {
        Options { test: if yes { Some(name) } else { None }, ..self }
    }

    fn call(self, ns: NetNs) -> Call {
        let call = Call::new(ns);
        let call = if self.fresh { call.fresh() } else { call };
        if self.audit { call.audit() } else { call }
    }
}

/// How a call went, for one of the `or_…` functions to settle at the place of the annotated function.
#[derive(Debug)]
#[must_use]
pub struct Ran<R> {
    brought: Result<(R, Vec<Stray>), Error>,
    options: Options,
}

/// Runs a body.
///
/// # Panics
///
/// With the body's panic.
pub fn call<R, F>(ns: Result<NetNs, Error>, options: Options, body: F) -> Ran<R>
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    Ran { brought: ns.and_then(|ns| options.call(ns).run_with_strays(body)), options }
}

/// As [`call`], for an async body.
///
/// # Panics
///
/// As [`call`].
#[cfg(feature = "tokio")]
pub async fn call_async<R, F, Fut>(ns: Result<NetNs, Error>, options: Options, body: F) -> Ran<R>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = R>,
    R: Send,
{
    let outcome = async { options.call(ns?).execute_async(Inspect::Later, body).await }.await;
    Ran { brought: outcome.map(Outcome::into_value_and_strays), options }
}

/// As [`call_async`], for a body that borrows nothing and goes at its own pace.
///
/// # Panics
///
/// As [`call`].
#[cfg(feature = "tokio")]
pub async fn call_owned<R, F, Fut>(ns: Result<NetNs, Error>, options: Options, body: F) -> Ran<R>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    Ran { brought: async { async_call::call_owned(options.call(ns?), body).await }.await, options }
}

/// Where a test with a namespace of its own is to be skipped, makes it one that has nothing to say: see `skips`.
pub fn or_skip<R: FromNothing>(ran: Ran<R>) -> Ran<R> {
    let Ran { brought, options } = ran;
    let brought = match brought {
        Err(error) if options.test.is_some_and(|test| skips(test, &error)) => Ok((R::nothing_to_say(), Vec::new())),
        other => other,
    };
    Ran { brought, options }
}

/// The value of the annotated function, whose return type takes a failure to enter.
///
/// # Panics
///
/// Where the options say so of strays: see [`Options::panic_on_strays`].
#[track_caller]
pub fn or_return<R: FromNetNsError>(ran: Ran<R>) -> R {
    ran.settle().unwrap_or_else(R::from_netns_error)
}

/// The value of the annotated function, for which a failure to enter is a panic.
///
/// # Panics
///
/// With the error's message. And as [`or_return`].
#[track_caller]
pub fn or_panic<R>(ran: Ran<R>) -> R {
    match ran.settle() {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

impl<R> Ran<R> {
    /// The value, where the options do not forbid what was left behind.
    #[track_caller]
    fn settle(self) -> Result<R, Error> {
        let (value, strays) = self.brought?;
        let certain: Vec<String> = strays.iter().filter(|stray| stray.certain).map(Stray::to_string).collect();
        assert!(!self.options.panic_on_strays || certain.is_empty(), "{}", certain.join("\n"));
        Ok(value)
    }
}

/// What a test returns that has nothing to say.
pub trait FromNothing {
    /// The value of a test that was skipped.
    fn nothing_to_say() -> Self;
}

impl FromNothing for () {
    fn nothing_to_say() {}
}

impl<E> FromNothing for Result<(), E> {
    fn nothing_to_say() -> Self {
        Ok(())
    }
}

/// Takes an argument into the body, on another thread. Here the compiler points where it may not go.
#[inline(always)]
#[allow(clippy::inline_always)] // It is not there, as far as a debugger or a panic can see.
pub fn argument<T: Send>(value: T) -> T {
    value
}

/// Takes `self` into the body, on another thread, whole.
#[inline(always)]
#[allow(clippy::inline_always)] // As above.
pub fn receiver<T: Send>(_: &T) {}

/// A return type that takes a failure to enter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a failure to enter the network namespace",
    label = "a failure to enter would be returned as this type",
    note = "return a `Result` whose error type implements `From<in_netns::Error>`",
    note = "or let a failure to enter panic: `#[in_netns(…, error = \"panic\")]`"
)]
pub trait FromNetNsError {
    /// The value that is returned when the body was not run.
    fn from_netns_error(error: Error) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T, E: From<Error>> FromNetNsError for Result<T, E> {
    fn from_netns_error(error: Error) -> Self {
        Err(E::from(error))
    }
}

/// For the benchmarks: how long the two sides of a hand-over watch for each other, in turns of a spin loop. Before the first call.
pub fn limit_spinning(turns: u32) {
    Pool::of_process().roster.limit_spinning(SpinLimit(turns));
}

/// What `in_netns::rootless!()` puts into `.init_array`.
pub const ENTER_BEFORE_MAIN: extern "C" fn() = crate::sys::before_main::before_main;

/// Whether a test that met `error` on its way in is to be skipped, which is then said on stderr.
///
/// A test that lacks the privilege fails, unless `IN_NETNS_SKIP=1` is in the environment: skipping is for somebody to ask for, and
/// to see.
fn skips(test: &str, error: &Error) -> bool {
    let namespaces_wanting = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::Unsupported => true,
        // Of namespaces. A test that has used up its descriptors is not to pass for that.
        ErrorKind::LimitReached => error.errno() == nix::errno::Errno::ENOSPC,
        _ => false,
    };
    let skips = namespaces_wanting && std::env::var_os("IN_NETNS_SKIP").is_some_and(|value| value == "1");
    if skips {
        // Not `eprintln!`, which libtest captures: then nobody would see it.
        let _ = writeln!(io::stderr(), "in-netns: skipped {test} (IN_NETNS_SKIP=1): {error}");
    }
    skips
}
