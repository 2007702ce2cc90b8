//! Waiting until a thread is gone, with its hold on its namespaces.
//!
//! `join` is not enough: the kernel wakes the joiner before it drops the thread's namespaces. A descriptor of the thread
//! (`PIDFD_THREAD`) becomes readable only afterwards, and then its directory leaves `/proc/self/task`.
//!
//! **What breaks otherwise:** that descriptor is opened by whoever waits. Opened by the departing thread, it would be a number in that
//! one's table of descriptors, which user code may have unshared: somebody else's descriptor, or none, to all other threads.

use std::thread;
use std::time::Duration;

use crate::sys::{self, Tid};

/// A thread that is about to exit, to be waited for by another.
#[derive(Debug)]
pub(crate) struct ThreadExit {
    thread: Tid,
    /// Of its directory under `/proc/self/task`, which tells it from a later thread of that id.
    inode: Option<u64>,
}

impl ThreadExit {
    /// Of the calling thread.
    pub(crate) fn of_current() -> ThreadExit {
        let thread = sys::current_tid();
        ThreadExit { thread, inode: sys::task_inode(thread) }
    }

    /// Whether the thread is gone.
    pub(crate) fn is_over(&self) -> bool {
        sys::task_inode(self.thread).is_none_or(|now| Some(now) != self.inode)
    }

    /// Returns when the thread is gone.
    pub(crate) fn wait(self) {
        let pidfd = sys::pidfd_of_thread(self.thread);
        // Asked afterwards: now the descriptor is of this thread, or it is over.
        while !self.is_over() {
            match &pidfd {
                // Readable a moment before the directory leaves.
                Ok(pidfd) if sys::wait_readable(pidfd).is_ok() => thread::yield_now(),
                // Before Linux 6.9, or without a descriptor left. Nothing announces it then, and it is a matter of microseconds.
                _ => thread::sleep(Duration::from_micros(20)),
            }
        }
    }
}
