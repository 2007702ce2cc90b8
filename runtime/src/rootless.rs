//! Network namespaces without root: a process in a user namespace of its own.
//!
//! An ordinary user may not make or enter a network namespace, but may be root of a user namespace, and there may do both.
//! [`rootless!`](crate::rootless!) puts the process there before `main`; [`enter`] does it in the first line of `main`.
//!
//! **Promised:** where the process lacks `CAP_SYS_ADMIN`, it gets a user namespace *together with* the network namespace that is home
//! then (loopback up), a mount namespace with a `/run/netns` of its own, and UTS, IPC and cgroup namespaces. It is root there,
//! and in nobody else's eyes. All of it vanishes with the process, named namespaces too, even after `SIGKILL`. Where the
//! privilege is there already, nothing happens. Where it cannot be had, nothing happens either, and the first call that needs it
//! fails with the reason ([`Cause`]).
//!
//! **Repr together:** a thread can go back only to a namespace that its user namespace owns. A process that enters a user
//! namespace and keeps its network namespace can make namespaces and enter them, and never goes home again.
//!
//! **What it costs:** home is the new network namespace. The process no longer sees the machine's own network, which suits a test,
//! and seldom a service. Users other than oneself show as `nobody` (65534), `setgroups(2)` is refused, and the machine's named
//! namespaces are not to be seen (nor could they be entered).
//!
//! # Examples
//!
//! At the top of a test file:
//!
//! ```
//! in_netns::rootless!();
//!
//! // Then, in a test:
//! let ns = in_netns::NetNs::new()?;
//! let server = ns.run(|| std::net::TcpListener::bind("0.0.0.0:80"))??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Tests that cannot have it
//!
//! A test under `#[in_netns(new)]` that cannot have its namespace *fails*, with the reason and the way out. Where that is known and
//! wanted, `IN_NETNS_SKIP=1` in the environment has such tests skipped, with a line on stderr for each: they return before
//! their body, so that one that should panic fails all the same.
//!
//! # References
//!
//! `user_namespaces(7)`, `mount_namespaces(7)`, `unshare(1)` (`unshare --map-root-user --net --mount`).

use crate::error::{Error, ErrorKind};
use crate::privileges::Cause;
use crate::sys::before_main::{self, State};

/// How a process stands after [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// It had `CAP_SYS_ADMIN`: nothing was done.
    NotNeeded,
    /// It is in namespaces of its own, by this call or an earlier one, or by [`rootless!`](crate::rootless!).
    Entered,
}

/// Enters namespaces of the process's own, where it lacks `CAP_SYS_ADMIN`: for the first line of `main`.
///
/// It must come before the process has a second thread, so before any runtime is started: not in the body of a
/// `#[tokio::main]`, and not in a test, where [`rootless!`](crate::rootless!) is the way. Calling it again does no harm.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`], [`ErrorKind::LimitReached`], or [`ErrorKind::Unsupported`] where there are threads already; the
/// message has the [`Cause`]. Nothing has changed then.
///
/// # Examples
///
/// ```
/// fn main() -> Result<(), in_netns::Error> {
///     in_netns::rootless::enter()?;
///     in_netns::with_netns(in_netns::NetNs::new()?, || println!("inside"))
/// }
/// ```
///
/// # References
///
/// `unshare(2)`, `user_namespaces(7)`.
pub fn enter() -> Result<Entry, Error> {
    match before_main::enter_own_namespaces() {
        State::NotNeeded => Ok(Entry::NotNeeded),
        State::Entered(_) => Ok(Entry::Entered),
        State::Refused(refusal) => {
            let error = Error::from_errno("enter a user namespace of the process's own", refusal.errno);
            let cause = Cause::of_refusal(refusal);
            let kind = if cause == Cause::Threads { ErrorKind::Unsupported } else { error.kind() };
            Err(error.with_kind(kind).explain(|_| Some(cause.explanation())))
        }
        State::Untried => unreachable!("it has just been tried"),
    }
}

/// Has the process enter namespaces of its own before `main`, where it lacks `CAP_SYS_ADMIN`.
///
/// Write it once at the top of a test file or of a binary's `main.rs`; in a function it works as well, for documentation tests. It acts when
/// the program starts, not where it stands. See the [module of the same name](mod@crate::rootless) for what it does and what it costs.
///
/// On failure nothing happens, until something needs the privilege: that fails, and says why.
///
/// The expansion registers a function in the section `.init_array`. That is `unsafe` code in the sense of the lint `unsafe_code`, which
/// does not fire for it, `forbid` or not, because it comes from here.
///
/// # Examples
///
/// ```
/// in_netns::rootless!();
///
/// fn main() {
///     assert!(in_netns::privileges().can_make());
/// }
/// ```
#[macro_export]
macro_rules! rootless {
    () => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".init_array")]
            static ENTER_BEFORE_MAIN: extern "C" fn() = $crate::__private::ENTER_BEFORE_MAIN;
        };
    };
}
