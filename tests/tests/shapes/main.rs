//! The function shapes that `#[in_netns]` takes, each run.
//!
//! That the body stands in the namespace is for the runtime's tests. Here a body shows that it ran inside by the
//! thread that it ran on: see [`Caller`].

in_netns::rootless!();

mod arguments;
mod combined;
mod expansion;
mod handover;
mod options;
mod process_network;
mod receivers;
mod returns;
mod signatures;

use std::thread::{self, ThreadId};

/// The thread that a test runs on.
#[derive(Clone, Copy)]
struct Caller(ThreadId);

impl Caller {
    fn here() -> Self {
        Self(thread::current().id())
    }

    /// Fails on the caller's own thread.
    #[track_caller]
    fn is_elsewhere(self) {
        assert_ne!(self.0, thread::current().id(), "on the caller's thread");
    }

    /// Fails on another thread.
    #[track_caller]
    fn is_here(self) {
        assert_eq!(self.0, thread::current().id(), "not on the caller's thread");
    }
}
