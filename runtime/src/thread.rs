//! Pinned threads: how they start, how they are leased, and how they end.
//!
//! ```text
//! template ─ starts ─▶ worker ─ idle ─ leased ─ restored ─ inspected ─ idle …
//!                                                   │           └─ changed ─▶ exits
//!                                                   └─ poisoned or retired ─▶ exits
//! ```
//!
//! **Promised:** a leased thread is pristine; a poisoned thread runs no other work (P4); an idle thread exits after the
//! keep-alive.
//!
//! The modules, in the order in which a call meets them: [`pool`] leases a worker, which the [`template`] starts and
//! the [`roster`] lists; a [`handle`] hands work over by the [`rendezvous`] to the [`worker`]'s loop; the [`pinned`]
//! thread enters and restores to [`home`], for views with its own [`files`], with the capabilities of its
//! [`allowance`], a [`late_value`]; [`release`] ends the lease, with the thread's [`fate`], and waits for its [`exit`].
//! [`detached`] runs hooks and wakers that must not run on the current thread, a `keeper` closes what is open in a
//! table that it keeps, and what a call needs done `elsewhere` is done inside, by another pinned thread.

mod allowance;
mod bounding_set;
mod children;
pub(crate) mod descriptors;
mod detached;
#[cfg(feature = "tokio")]
mod elsewhere;
mod exit;
pub(crate) mod fate;
mod files;
mod handle;
pub(crate) mod home;
#[cfg(feature = "tokio")]
pub(crate) mod keeper;
#[allow(unsafe_code)] // A value without a lock: see the module's documentation.
pub(crate) mod late_value;
mod oneshot;
pub(crate) mod pinned;
mod pool;
mod pristine;
mod release;
#[allow(unsafe_code)] // A borrowed closure runs on another thread: see the module's documentation.
pub(crate) mod rendezvous;
mod role;
mod roster;
pub(crate) mod spin_policy;
mod template;
#[cfg(feature = "tokio")]
pub(crate) mod tokio_at_home;
mod worker;

pub(crate) use allowance::Allowance;
#[cfg(feature = "tokio")]
pub(crate) use detached::{run_detached, wake_elsewhere};
#[cfg(feature = "tokio")]
pub(crate) use elsewhere::{run_by_keeper, run_elsewhere};
#[cfg(feature = "tokio")]
pub(crate) use exit::ThreadExit;
pub(crate) use pool::{Attempt, Lease, Pool, UnfitThreads};
pub use pool::{PoolStats, init, pool_stats};
pub(crate) use release::{Inspect, LeaseEnd};
pub(crate) use role::Role;
#[cfg(feature = "tokio")]
pub(crate) use roster::CountGuard;
pub use roster::set_keep_alive;
pub(crate) use worker::NAME as WORKER_NAME;

/// Does what could not be done earlier, for want of a thread or of descriptors. To be called for each call, worker and
/// process.
pub(crate) fn start_pending() {
    #[cfg(feature = "tokio")]
    elsewhere::settle_tokio();
    detached::start_pending();
}
