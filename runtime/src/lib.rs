#![doc = include_str!("crate.md")]
#![cfg_attr(docsrs, feature(doc_cfg))] // docs.rs shows which item needs which feature.
#![allow(clippy::test_attr_in_doctest, clippy::needless_doctest_main)] // Examples are whole programs.
#[cfg(not(target_os = "linux"))]
compile_error!("in-netns runs code inside Linux network namespaces: it builds for Linux targets only");

#[cfg(feature = "tokio")]
mod async_call;
mod call;
mod error;
pub mod escapes;
pub mod guide;
mod hook;
pub mod inheritance;
mod netns;
mod privileges;
pub mod rootless;
mod sync;
mod sys;
mod thread;
mod unwind;

/// Runs the examples of README.md as tests.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(feature = "tokio")]
pub use async_call::{
    AbortHandle, IntoSocketAddrs, JoinError, JoinHandle, NetNsRuntime, RuntimeBuilder, walk_async, with_netns_async,
};
pub use call::audit::{Stray, set_stray_hook};
pub use call::command::Command;
pub use call::netns_pool::{NetNsPool, NetNsPoolBuilder, NetNsPoolStats, PrepareResult};
pub use call::view::{ProcessRef, View, ViewBuilder};
pub use call::walk::{par_walk, walk};
pub use call::worker::Worker;
pub use call::{Call, Outcome, pinned, try_with_netns, with_netns};
pub use error::{Error, ErrorKind};
#[cfg(feature = "macros")]
#[doc = include_str!("attribute.md")]
pub use in_netns_macros::in_netns;
pub use netns::holders::Holder;
pub use netns::inventory::{Found, Inventory, Unseen};
pub use netns::watch::{Watch, WatchEvent};
pub use netns::{IntoNetNs, Names, NetNs, NetNsId, WeakNetNs};
pub use privileges::{Cause, Privileges, privileges};
pub use thread::fate::{Poisoning, RetireReason, ThreadFate, set_poison_hook};
pub use thread::home::Change;
pub use thread::pinned::{NetNsGuard, PinnedThread, retire_current_thread};
pub use thread::{PoolStats, init, pool_stats, set_keep_alive};
