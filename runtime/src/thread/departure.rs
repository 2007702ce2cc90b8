//! Waiting until a thread is gone, with its hold on its namespaces.
//!
//! `join` is not enough: the kernel wakes the joiner before it drops the thread's namespaces. The thread's own descriptor
//! (`PIDFD_THREAD`) becomes readable only afterwards, and so late its directory leaves `/proc/self/task`.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use crate::sys::{self, Tid};

/// A thread that is about to exit, to be waited for by another.
#[derive(Debug)]
pub(crate) enum Departure {
    /// Its descriptor, on Linux 6.9 and later.
    Pidfd(OwnedFd),
    /// Its directory under `/proc/self/task`: on older kernels, or where no descriptor was left.
    Task(Tid, Option<u64>),
}

impl Departure {
    /// Of the calling thread.
    pub(crate) fn of_current() -> Departure {
        let me = sys::current_tid();
        sys::pidfd_of_thread(me).map_or_else(|_| Departure::Task(me, sys::task_inode(me)), Departure::Pidfd)
    }

    /// Whether the thread is gone.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Departure::Pidfd(thread) => sys::is_readable(thread),
            Departure::Task(thread, inode) => sys::task_inode(*thread).is_none_or(|now| Some(now) != *inode),
        }
    }

    /// Returns when the thread is gone.
    pub(crate) fn wait(self) {
        match self {
            Departure::Pidfd(thread) => {
                // The only errors are those of a wrong call, which this is not.
                let _ = sys::wait_readable(thread);
            }
            Departure::Task(thread, inode) => {
                while sys::task_inode(thread).is_some_and(|now| Some(now) == inode) {
                    // Nothing announces this one. It is a matter of microseconds.
                    thread::sleep(Duration::from_micros(20));
                }
            }
        }
    }
}
