//! The functions that the expansion of `#[in_netns]` calls. They are not public: they change together with the macro
//! crate, whose version is pinned to this one's.

use std::borrow::Borrow;
use std::io::{self, Write};
#[cfg(feature = "tokio")]
use std::pin::Pin;
use std::process::ExitCode;
use std::thread;

#[cfg(feature = "tokio")]
use crate::async_call::{self, GivenBody};
use crate::call::Call;
#[cfg(feature = "tokio")]
use crate::call::Outcome;
use crate::call::audit::Stray;
use crate::call::view::View;
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
pub use crate::netns::{IntoNetNs, Place};
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
    /// In a test build: the name of the annotated test.
    test: Option<&'static str>,
}

impl Options {
    /// The options of an attribute without options.
    #[allow(clippy::new_without_default)] // Only the expansion calls it.
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

    /// In a test build: the name of the annotated test, which may then be skipped.
    pub const fn test(self, yes: bool, name: &'static str) -> Options {
        Options { test: if yes { Some(name) } else { None }, ..self }
    }

    fn call(self, place: Place) -> Call {
        let call = Call::at(place);
        let call = if self.fresh { call.fresh() } else { call };
        if self.audit { call.audit() } else { call }
    }
}

/// The place of `#[in_netns(view = …)]`.
///
/// # Errors
///
/// None.
pub fn view_place(view: impl AsView) -> Result<Place, Error> {
    Ok(view.into_place())
}

/// What `view = …` takes: a view, or what leads to one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a view",
    label = "not a view",
    note = "give a `View` or a `&View`; `ns.view()?` makes one of a network namespace",
    note = "without files of its own, a network namespace is written without `view =`"
)]
pub trait AsView {
    /// Where bodies in the view run.
    fn into_place(self) -> Place;
}

#[diagnostic::do_not_recommend]
impl<V: Borrow<View>> AsView for V {
    fn into_place(self) -> Place {
        self.borrow().place()
    }
}

/// The outcome of a call. One of the `or_…` functions turns it into the value of the annotated function.
#[derive(Debug)]
#[must_use]
pub struct CallOutcome<R> {
    /// The body's value and the threads that it left behind, or the failure to enter.
    result: Result<(R, Vec<Stray>), Error>,
    options: Options,
}

/// Runs a body.
///
/// Where a value is not `Send`, the compiler shows the line of the bound. So the comments on these lines, here and on
/// the functions below, tell the user what to write.
///
/// # Panics
///
/// With the body's panic.
pub fn call<R, F>(place: Result<Place, Error>, options: Options, body: F) -> CallOutcome<R>
where
    F: FnOnce() -> R + Send,
    R: Send, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
{
    CallOutcome { result: place.and_then(|place| options.call(place).run_with_strays(body)), options }
}

/// As [`call`], for an async body.
///
/// # Panics
///
/// As [`call`].
#[cfg(feature = "tokio")]
pub fn call_async<R, F, Fut>(
    place: Result<Place, Error>,
    options: Options,
    body: F,
) -> impl Future<Output = CallOutcome<R>>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = R>,
    R: Send, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
{
    let body = Box::new(body);
    async move {
        let (body, value) = GivenBody::new(body);
        let call = place.map(|place| options.call(place));
        let outcome = Call::execute_async(call, Inspect::Later, body).await;
        let ended = outcome.map(Outcome::into_value_and_strays);
        CallOutcome { result: ended.map(|((), strays)| (value.take(), strays)), options }
    }
}

/// As [`call_async`], for a body that borrows nothing and is not polled by the caller.
///
/// # Panics
///
/// As [`call`].
#[cfg(feature = "tokio")]
pub fn call_owned<R, F, Fut>(
    place: Result<Place, Error>,
    options: Options,
    body: F,
) -> impl Future<Output = CallOutcome<R>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
{
    let body = Box::new(body);
    async move {
        let (body, value) = GivenBody::new(body);
        let ended = async_call::call_owned(place.map(|place| options.call(place)), body, value.clone()).await;
        CallOutcome { result: ended.map(|strays| (value.take(), strays)), options }
    }
}

/// Makes the future of an async body in a box. This is a separate function because the future may be large, and the
/// caller's frame would hold it.
#[cfg(feature = "tokio")]
#[inline]
pub fn make<R>(body: impl AsyncFnOnce() -> R) -> Pin<Box<impl Future<Output = R>>> {
    Box::pin(body())
}

/// Replaces a failure to enter by the value of a skipped test, if the test is to be skipped: see `skips`.
pub fn or_skip<R: Skippable>(outcome: CallOutcome<R>) -> CallOutcome<R> {
    let CallOutcome { result, options } = outcome;
    let result = match result {
        Err(error) if options.test.is_some_and(|test| skips(test, &error)) => Ok((R::skipped(), Vec::new())),
        other => other,
    };
    CallOutcome { result, options }
}

/// The value of the annotated function. A failure to enter is returned as its error.
///
/// # Panics
///
/// If threads outlive the call and [`Options::panic_on_strays`] is set.
#[track_caller]
pub fn or_return<R: FromNetNsError>(outcome: CallOutcome<R>) -> R {
    outcome.check_strays();
    match outcome.result {
        Ok((value, _)) => value,
        Err(error) => R::from_netns_error(error),
    }
}

/// The value of the annotated function. A failure to enter is a panic.
///
/// # Panics
///
/// With the error's message on a failure to enter, and as [`or_return`].
#[track_caller]
pub fn or_panic<R>(outcome: CallOutcome<R>) -> R {
    outcome.check_strays();
    match outcome.result {
        Ok((value, _)) => value,
        Err(error) => panic!("{error}"),
    }
}

impl<R> CallOutcome<R> {
    /// Takes the outcome by reference, because the value may be large.
    ///
    /// # Panics
    ///
    /// As [`or_return`].
    #[track_caller]
    fn check_strays(&self) {
        let strays = self.result.as_ref().map_or(&[][..], |(_, strays)| strays);
        if self.options.panic_on_strays && strays.iter().any(|stray| stray.certain) {
            let certain = strays.iter().filter(|stray| stray.certain);
            panic!("{}", certain.map(Stray::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The methods by which the compiler decides how a failure to enter is reported, where the return type is a path that
/// may be an alias.
///
/// The inherent methods of the same names take precedence, where they exist: those of an outcome whose value is a
/// `Result` return the failure. For every other type the compiler finds these. A type parameter is such another type,
/// even where it stands for a `Result`.
pub trait ByType: Sized {
    /// The value of the annotated function.
    type Value;

    /// No value of this type stands for a skipped test, so none is skipped.
    #[must_use]
    fn or_skip(self) -> Self {
        self
    }

    /// As [`or_panic`].
    fn or_return_else_panic(self) -> Self::Value;
}

impl<R> ByType for CallOutcome<R> {
    type Value = R;

    #[track_caller]
    fn or_return_else_panic(self) -> R {
        or_panic(self)
    }
}

impl<T, E> CallOutcome<Result<T, E>> {
    /// As [`or_return`].
    ///
    /// # Panics
    ///
    /// As [`or_return`].
    #[track_caller]
    pub fn or_return_else_panic(self) -> Result<T, E>
    where
        Result<T, E>: FromNetNsError,
    {
        or_return(self)
    }
}

impl<E> CallOutcome<Result<(), E>> {
    /// As the function [`or_skip`].
    pub fn or_skip(self) -> Self {
        or_skip(self)
    }
}

impl CallOutcome<()> {
    /// As the function [`or_skip`].
    pub fn or_skip(self) -> Self {
        or_skip(self)
    }
}

impl CallOutcome<ExitCode> {
    /// As the function [`or_skip`].
    pub fn or_skip(self) -> Self {
        or_skip(self)
    }
}

/// The methods by which the compiler refuses a future that the body returns as its value, under any name.
///
/// The inherent methods of the same names take precedence, where they exist: those of an outcome whose value is a
/// future. They have a bound that no type satisfies. For every other type the compiler finds these, which do nothing.
pub trait NoFuture: Sized {
    /// Does nothing: the value is not a future.
    #[must_use]
    fn refuse_future(self) -> Self {
        self
    }

    /// Does nothing: the value contains no futures.
    #[must_use]
    fn refuse_futures_within(self) -> Self {
        self
    }
}

impl<R> NoFuture for CallOutcome<R> {}

impl<F: Future> CallOutcome<F> {
    /// Refuses it.
    pub fn refuse_future(self) -> Self
    where
        F: PolledInside,
    {
        self
    }
}

impl<F: Future, E> CallOutcome<Result<F, E>> {
    /// Refuses it.
    pub fn refuse_futures_within(self) -> Self
    where
        F: PolledInside,
    {
        self
    }
}

impl<F: Future> CallOutcome<Option<F>> {
    /// Refuses it.
    pub fn refuse_futures_within(self) -> Self
    where
        F: PolledInside,
    {
        self
    }
}

impl<F: Future> CallOutcome<Vec<F>> {
    /// Refuses it.
    pub fn refuse_futures_within(self) -> Self
    where
        F: PolledInside,
    {
        self
    }
}

/// No type implements this.
#[diagnostic::on_unimplemented(
    message = "`#[in_netns]` does not take a function that returns a future in this form",
    label = "this future would be polled outside the namespace",
    note = "write an `async fn`, or return `impl Future<Output = T>` or `Pin<Box<dyn Future<Output = T>>>`, spelt so",
    note = "a future that does no work of its own, such as a receiver, is accepted with `allow(handover)`"
)]
pub trait PolledInside {}

/// A return type with a value for a test that was skipped.
pub trait Skippable {
    /// The value of a skipped test.
    fn skipped() -> Self;
}

impl Skippable for () {
    fn skipped() {}
}

impl Skippable for ExitCode {
    fn skipped() -> Self {
        ExitCode::SUCCESS
    }
}

impl<E> Skippable for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Moves an argument into the body, on another thread. The compiler points at the call if the argument is not `Send`,
/// and shows the line of the bound. So the comment there tells the user what to write.
#[inline(always)]
#[allow(clippy::inline_always)] // Neither a debugger nor a backtrace should show it.
pub fn argument<T>(value: T) -> T
where
    T: Send, // A trait object crosses threads as `Box<dyn Trait + Send>`.
{
    value
}

/// Makes the body's closure capture `self` as a whole. The compiler points at the call if `self` is not `Send`.
#[inline(always)]
#[allow(clippy::inline_always)] // As above.
pub fn receiver<T>(_: &T)
where
    T: Send, // A trait object crosses threads as `&(dyn Trait + Sync)` or `&mut (dyn Trait + Send)`.
{
}

/// A return type that can hold a failure to enter.
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

/// For the benchmarks: limits how long the two sides of a rendezvous spin, in iterations. To be called before the first
/// call.
pub fn limit_spinning(turns: u32) {
    Pool::of_process().roster.limit_spinning(SpinLimit(turns));
}

/// The function that `in_netns::rootless!()` puts into `.init_array`.
pub const ENTER_BEFORE_MAIN: extern "C" fn() = crate::sys::before_main::before_main;

/// The function that `in-netns-run` puts into `.init_array`, by [`note_inherited!`](crate::note_inherited).
pub const NOTE_INHERITED: extern "C" fn() = crate::sys::at_start::note_inherited;

/// For `in-netns-run`: runs `exec`, which replaces the program, with the disposition of `SIGPIPE` and the standard
/// streams that the process was started with. std changes both before `main`.
pub fn with_inherited<R>(exec: impl FnOnce() -> R) -> R {
    crate::sys::at_start::with_inherited(exec)
}

/// For `in-netns-run`: records, before `main`, the state that [`with_inherited`] restores.
#[doc(hidden)]
#[macro_export]
macro_rules! note_inherited {
    () => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".init_array")]
            static NOTE_INHERITED: extern "C" fn() = $crate::__private::NOTE_INHERITED;
        };
    };
}

/// Whether to skip a test that failed to enter with `error`. A skipped test is reported on stderr.
///
/// A test that lacks the privilege fails, unless `IN_NETNS_SKIP=1` is set in the environment: a user has to ask for
/// skipped tests, and has to see them.
fn skips(test: &str, error: &Error) -> bool {
    let cannot_make_namespaces = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::Unsupported => true,
        // Only the limit of namespaces counts. A test that exhausts its descriptors must not be skipped.
        ErrorKind::LimitReached => error.errno() == nix::errno::Errno::ENOSPC,
        _ => false,
    };
    let is_asked_for = || std::env::var_os("IN_NETNS_SKIP").is_some_and(|value| value == "1");
    let skips = cannot_make_namespaces && is_asked_for() && is_running(test);
    if skips {
        // Not `eprintln!`: libtest captures its output, and shows that of failed tests only.
        let _ = writeln!(io::stderr(), "in-netns: skipped {test} (IN_NETNS_SKIP=1): {error}");
    }
    skips
}

/// Whether the calling thread runs this test, and not a function of another test. The attribute cannot see a `#[test]`
/// above it, but libtest names each thread after its test. In a test with several cases, the name of a case begins with
/// that of the test. With `--test-threads=1` all tests run on the main thread.
fn is_running(test: &str) -> bool {
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    let below = test.split_once("::").and_then(|(_crate, test)| name.strip_prefix(test));
    name == "main" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
