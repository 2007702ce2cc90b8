//! The function shapes that `#[in_netns]` accepts; the tests run each of them.
//!
//! The runtime's tests show that a body runs in the namespace. Here a body shows by its thread that it did not run on
//! the caller's: see [`Caller`].

in_netns::rootless!();

mod arguments;
mod asynchronous;
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
