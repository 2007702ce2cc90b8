#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))] // On docs.rs: what needs which feature.
#![allow(clippy::test_attr_in_doctest)] // README.md shows a test, which is to compile.
#[cfg(not(target_os = "linux"))]
compile_error!("in-netns runs code inside Linux network namespaces: it builds for Linux targets only");

#[cfg(feature = "tokio")]
mod asynchronous;
mod audit;
mod call;
mod context;
mod create;
mod error;
pub mod escapes;
mod fate;
mod guard;
#[allow(unsafe_code)] // A borrowed closure, run on another thread: see the module's documentation.
mod handover;
mod holders;
mod home;
mod hook;
mod netns;
mod permission;
mod privileges;
mod resident;
pub mod rootless;
mod sync;
mod sys;
mod thread;
mod walk;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(feature = "tokio")]
pub use asynchronous::{AbortHandle, JoinError, JoinHandle, NetNsRuntime, RuntimeBuilder, with_netns_async};
pub use audit::{Stray, set_stray_hook};
pub use call::{Call, Outcome, pinned, with_netns};
pub use error::{Error, ErrorKind};
pub use fate::{Poisoning, RetireReason, ThreadFate, set_poison_hook};
pub use guard::{NetNsGuard, PinnedThread, retire_current_thread};
pub use holders::Holder;
pub use home::Change;
#[cfg(feature = "macros")]
pub use in_netns_macros::in_netns;
pub use netns::{IntoNetNs, NetNs, NetNsId};
pub use privileges::{Cause, Privileges, privileges};
pub use resident::Worker;
pub use thread::{PoolStats, pool_stats, set_keep_alive};
pub use walk::{par_walk, walk};
