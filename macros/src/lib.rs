//! The `#[in_netns]` attribute.
//!
//! Depend on the crate `in-netns`, which re-exports it: what the attribute expands to calls into that crate.
//!
//! A use of the attribute passes through the modules in the order in which they are listed.

#![forbid(unsafe_code)]

mod args;
mod expand;
mod handover;
mod model;
mod refuse;

use proc_macro::TokenStream;

use args::Args;

/// Runs a function's body inside a Linux network namespace.
///
/// The whole body runs there, on a thread that the crate owns. The thread of the caller never changes its namespace, and
/// when the function returns, nothing of the call is left in the target.
///
/// ```ignore (the crate in-netns is not a dependency of its own macros)
/// use std::io;
/// use std::net::TcpListener;
///
/// use in_netns::{NetNs, in_netns};
///
/// #[in_netns("blue")] // /run/netns/blue
/// fn listen() -> io::Result<TcpListener> {
///     TcpListener::bind("0.0.0.0:80")
/// }
///
/// struct Pod {
///     netns: NetNs,
/// }
///
/// impl Pod {
///     #[in_netns(&self.netns)]
///     fn routes(&self) -> io::Result<String> {
///         std::fs::read_to_string("/proc/thread-self/net/route")
///     }
/// }
/// ```
///
/// # The namespace
///
/// `#[in_netns(NS)]`: `NS` is any expression of a type that implements `IntoNetNs`: a `NetNs` or a reference to one, a
/// name, a path, a descriptor, a process. It is evaluated once, on the calling thread, before the body. It may use the
/// function's parameters and `self`, and what it borrows is free again when the body runs, so the body may move it:
///
/// ```ignore (the crate in-netns is not a dependency of its own macros)
/// #[in_netns(&pod.netns)]
/// fn stop(pod: Pod) -> io::Result<()> {
///     pod.stop_all()
/// }
/// ```
///
/// `#[in_netns(new)]`: a new namespace with its loopback up. It is gone after the call. (For a variable of the name
/// `new`, write `&new`.) In tests, above or below `#[test]`, it gives each test a network of its own:
///
/// ```ignore (the crate in-netns is not a dependency of its own macros)
/// #[test]
/// #[in_netns(new)]
/// fn the_port_is_free() -> io::Result<()> {
///     TcpListener::bind("127.0.0.1:80").map(drop)
/// }
/// ```
///
/// # Options
///
/// Options follow the namespace, in any order.
///
/// | option | meaning |
/// |---|---|
/// | `fresh` | a thread for this call alone, started from the caller's own, so that it inherits what belongs to that thread, such as the capture of a test's output. Implied by `new`, and by a test build (`cfg(test)`) of the crate in which the function stands |
/// | `audit` | threads that the body started, and that are still in the namespace when it has ended, are reported: to the hook of `set_stray_hook`, one line each on stderr by default. Implied by a test build |
/// | `audit = "panic"` | the same, and such a thread is a panic: it fails a test |
/// | `audit = "off"` | no such audit, in a test build either |
/// | `allow(handover)` | the body may hand work to executors that may have threads elsewhere: see [below](#hand-overs) |
/// | `error = "return"` | a failure to enter the namespace becomes the function's own `Err`, through `From<in_netns::Error>` |
/// | `error = "panic"` | a failure to enter the namespace is a panic, with the error as its message, at the place of the call; of an async function, at its own |
/// | `owned` | for an async function that borrows nothing: the body goes at its own pace on its thread, and no poll is handed over |
/// | `crate = path` | where the crate `in-netns` is found, if it is renamed or re-exported: `crate = my_crate::reexport::in_netns` |
///
/// Without `error`, a failure is returned where the return type is written `Result<…>` (its last path segment is
/// `Result`, as in `io::Result<()>`), and is a panic elsewhere. The body has not run in either case.
///
/// # What crosses to the other thread
///
/// The arguments, `self` and the return value cross, so each has to be `Send`. A reference to `self` that the body does not
/// use stays behind. Borrowed arguments and borrowed return values work: nothing needs to be `'static`.
///
/// An argument that is passed by value goes inside as a whole and is dropped there, in the order in which a function drops
/// its arguments, also if the body uses a part of it or nothing. One exception: an argument that the namespace expression
/// may use up (`#[in_netns(ns)]`, `#[in_netns(pod.netns())]`) goes inside only as far as the body uses it.
///
/// What the function returns leaves the namespace. An iterator or a closure that it returns does its work where it is
/// called, outside.
///
/// # Async functions
///
/// With the feature `tokio` of `in-netns`, an `async fn` is taken too: its body is polled inside, on a pinned thread, in a tokio
/// runtime of the call, under whatever executor awaits it: see `in_netns::with_netns_async`. The namespace expression is evaluated
/// when the future is first polled. Nothing needs to be `'static`, except with `owned`; and what the body holds across an
/// `.await` need not be `Send`.
///
/// ```ignore (the crate in-netns is not a dependency of its own macros)
/// #[in_netns(&pod.netns)]
/// async fn probe(pod: &Pod) -> io::Result<()> {
///     tokio::net::TcpStream::connect(pod.address).await.map(drop)
/// }
/// ```
///
/// So are functions that return `impl Future<Output = T>` or `Pin<Box<dyn Future<Output = T>>>`, which is what `#[async_trait]` makes of
/// an `async fn`. Their whole body, the making of that future included, runs inside when the future is first polled. A function
/// that returns a future in another form is refused.
///
/// # Hand-overs
///
/// Work that the body gives to an executor which exists already runs on that one's threads, outside. Where the body shows
/// it, it is refused: `tokio::spawn`, `tokio::task::{spawn, spawn_blocking}`, all of `rayon` and its `par_iter` family,
/// `smol::{spawn, unblock}`, `blocking::unblock`, `async_std::task::{spawn, spawn_blocking}`, the pools of `futures` and
/// `threadpool`. `use` items within the body are followed, those outside cannot be seen. In an async function tokio's own are
/// fine, for the only runtime that they find is the call's, which is inside; so they are where the body makes a tokio runtime
/// itself. So are `std::thread::spawn`, `std::thread::scope` and
/// `std::process::Command`: their children are inside. `allow(handover)` overrides; the module `in_netns::escapes` has
/// more about it.
///
/// # Functions
///
/// Any function or method with a body is accepted: generic, `unsafe`, `extern "C"`, with any form of `self`, in traits and
/// their implementations. Attributes, visibility and documentation stay as they are. `?` and `return` work as ever.
/// Refused are `const fn`, variadic functions, and whatever is not a function with a body.
///
/// `#[track_caller]` is added where a failure would panic, if the function can have it. Inside the body,
/// `Location::caller()` is not the function's caller: the body is a closure on another thread.
///
/// The body is called by a function named `__in_netns_body_` and the name of the annotated function, nested in that
/// function. Tools find the body under this name in the binary, and people in backtraces.
///
/// # Panics
///
/// A panic of the body is resumed on the caller with its payload. A failure to enter panics as described under
/// [Options](#options).
#[proc_macro_attribute]
pub fn in_netns(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = args::Mistakes::default();
    let args = Args::parse(args.into()).map_err(|error| mistakes.add(error));
    let function = syn::parse::<model::Function>(item.clone())
        .and_then(|function| refuse::check(args.as_ref().ok(), &function).map(|()| function))
        .map_err(|error| mistakes.add(error));

    if let (Ok(Args { allow_handover: false, .. }), Ok(function)) = (&args, &function) {
        let contained = function.way() != model::Way::Sync;
        handover::check(&function.statements, contained, &mut mistakes);
    }

    match (args, function, mistakes.into_result()) {
        (Ok(args), Ok(function), Ok(())) => expand::expand(&args, function).into(),
        (_, _, mistakes) => {
            // The function stays, so that its uses and its own errors are reported as they are.
            let mut tokens =
                mistakes.err().map_or_else(proc_macro::TokenStream::new, |error| error.into_compile_error().into());
            tokens.extend(item);
            tokens
        }
    }
}
