//! Network namespaces without root: the process enters a user namespace of its own.
//!
//! An ordinary user may not create or enter a network namespace. But an ordinary user may be root of a user namespace,
//! and may do both there. [`rootless!`](crate::rootless!) puts the process into one before `main`; [`enter`] does so in
//! the first line of `main`.
//!
//! **Promised:** if the process lacks `CAP_SYS_ADMIN`, it gets a user namespace *together with* a network namespace
//! that becomes its home (loopback up), a mount namespace with a private `/run/netns`, and UTS, IPC and cgroup
//! namespaces. It is root there, but not outside. All of it vanishes with the process, even after `SIGKILL`; that
//! includes named namespaces. If the process has the privilege already, nothing changes. That includes a process that
//! was made root of a user namespace without a network namespace (`unshare --map-root-user`), which cannot return home:
//! start it with both (`unshare --map-root-user --net`). If the user namespace cannot be created, nothing changes
//! either, and the first call that needs the privilege fails with the reason ([`Cause`]).
//!
//! **Why together:** a thread can return only to a network namespace that its user namespace owns. A process that
//! enters a user namespace and keeps its network namespace can create and enter namespaces, but can never return home.
//!
//! **What it costs:** home is the new network namespace. The process no longer sees the network of the machine. That
//! suits a test, but rarely a service. Other users are shown as `nobody` (65534), `setgroups(2)` is refused, and the
//! named namespaces of the machine are not visible (they could not be entered either).
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
//! # Tests that cannot have a namespace
//!
//! A test under `#[in_netns(new)]` that cannot have its namespace *fails*, with the reason and a remedy. If that is
//! known and accepted, set `IN_NETNS_SKIP=1` in the environment. Such tests are then skipped, with a line on stderr for
//! each: they return before their body, so a test with `#[should_panic]` still fails. Other functions are not skipped.
//! A test is recognised by the name of its thread, which libtest sets. With `--test-threads=1`, all tests run on the
//! main thread, and every function that is called there counts as a test.
//!
//! # References
//!
//! `user_namespaces(7)`, `mount_namespaces(7)`, `unshare(1)` (`unshare --map-root-user --net --mount`).

use crate::error::{Error, ErrorKind};
use crate::privileges::Cause;
use crate::sys::before_main::{self, State};

/// The result of [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// The process had `CAP_SYS_ADMIN`; nothing was done.
    NotNeeded,
    /// The process is in namespaces of its own, through this call, an earlier one, or [`rootless!`](crate::rootless!).
    Entered,
}

/// Enters user and network namespaces of the process's own if it lacks `CAP_SYS_ADMIN`. Call it in the first line of
/// `main`.
///
/// Call it before the process has a second thread, and so before any runtime starts. It fails in the body of a
/// `#[tokio::main]`, and in a test; use [`rootless!`](crate::rootless!) there. A repeated call has no effect.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`], [`ErrorKind::LimitReached`], or [`ErrorKind::Unsupported`] if the process has
/// several threads. The message contains the [`Cause`]. Nothing has changed in that case.
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
            Err(error.with_kind(kind).explained(cause.explanation()))
        }
        State::Untried => unreachable!("`enter_own_namespaces` tries first"),
    }
}

/// Makes the process enter namespaces of its own before `main`, if it lacks `CAP_SYS_ADMIN`.
///
/// Write it once at the top of a test file or of a binary's `main.rs`. It also works inside a function, for
/// documentation tests. It acts when the program starts, not where it is written. See the [module of the same
/// name](mod@crate::rootless) for its effects and costs.
///
/// If it fails, nothing changes. The first operation that needs the privilege fails and gives the reason.
///
/// The expansion registers a function in the section `.init_array`. The lint `unsafe_code` counts that as `unsafe`
/// code, but does not fire, even under `forbid`, because the code comes from this crate.
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
