//! Pinned threads: where they come from, who has them, and where they go.
//!
//! ```text
//! template ─ clones ─▶ worker ─ idle ─ leased ─ restored ─ inspected ─ idle …
//!                                                  │           └─ changed ─▶ gone
//!                                                  └─ poisoned, or asked to ─▶ gone
//! ```
//!
//! **Promised:** a lease is a thread in which nobody's leftovers can be found; a poisoned thread runs nothing more (P4); no
//! thread is kept that nobody has needed for the keep-alive.

mod departure;
mod farewell;
mod pool;
mod template;
mod worker;

#[cfg(feature = "tokio")]
pub(crate) use departure::Departure;
pub(crate) use farewell::{Farewell, Inspect};
#[cfg(feature = "tokio")]
pub(crate) use pool::Counted;
pub(crate) use pool::{Handed, Lease, Pool};
pub use pool::{PoolStats, pool_stats, set_keep_alive};
pub(crate) use template::spawn_failed;
pub(crate) use worker::NAME as WORKER_NAME;
