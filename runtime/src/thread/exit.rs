//! Waits until a thread has exited and released its namespaces.
//!
//! `join` is not enough: the kernel wakes the joiner before it drops the thread's namespaces. A descriptor of the
//! thread (`PIDFD_THREAD`) becomes readable after that, and then the kernel releases the thread's id.
//!
//! **Why this mechanism:** the descriptor does not need `/proc`, and its inode number (`pidfs`, Linux 6.9)
//! distinguishes the thread from a later one with the same id. The waiting thread opens its own descriptor: the exiting
//! thread may have its own descriptor table, root directory and `/proc`, so its descriptor numbers and file contents
//! may differ from those of other threads.
//!
//! **What breaks otherwise:** a body that unmounted `/proc` in its own mount namespace was considered exited while it
//! was still in the target.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::sys::{self, Optional, OptionalCalls, ProcTask, TaskState, Tid};

/// A thread that is about to exit. Another thread waits for it.
#[derive(Debug)]
pub(crate) struct ThreadExit {
    thread: Tid,
    identity: Identity,
    /// Whether the kernel may have started threads for its `io_uring`.
    io_workers: bool,
}

/// Distinguishes a thread from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// The inode number of its descriptors.
    Descriptor(u64),
    /// Before Linux 6.9, or without a free descriptor: device and inode of its directory in `/proc`, if there is one.
    Directory(Option<(u64, u64)>),
}

impl ThreadExit {
    /// Describes the calling thread.
    pub(crate) fn of_current() -> ThreadExit {
        let thread = sys::current_tid();
        let identity = match descriptor_inode(thread) {
            Ok(inode) => Identity::Descriptor(inode),
            Err(_) => Identity::Directory(sys::task_identity(thread)),
        };
        ThreadExit { thread, identity, io_workers: false }
    }

    /// Like [`ThreadExit::of_current`], for a thread that has used `io_uring`: the kernel's threads for it are waited
    /// for too.
    pub(crate) fn with_io_workers(self) -> ThreadExit {
        ThreadExit { io_workers: true, ..self }
    }

    /// Whether the thread has exited.
    pub(crate) fn is_over(&self) -> bool {
        match (self.identity, descriptor_inode(self.thread)) {
            (_, Err(Errno::ESRCH)) => true,
            (Identity::Descriptor(its), Ok(inode)) => inode != its,
            (identity, _) => {
                let calls = OptionalCalls::of_current_thread();
                if calls.has(Optional::Tgkill) && !sys::readings::is_thread(self.thread) {
                    return true;
                }
                // The same `/proc` has the same device number. Another `/proc`, or a missing one, proves nothing.
                match (identity, sys::task_identity(self.thread)) {
                    (Identity::Directory(Some(its)), Some(now)) => its.0 == now.0 && its.1 != now.1,
                    (Identity::Directory(Some(_)), None) => !calls.has(Optional::Tgkill),
                    _ => false,
                }
            }
        }
    }

    /// Returns when the thread has exited.
    pub(crate) fn wait(self) {
        let descriptor = sys::pidfd_of_thread(self.thread);
        // Asked afterwards: now the descriptor is of this thread, or it is over.
        while !self.is_over() {
            match &descriptor {
                // The descriptor is readable a moment before the id is released.
                Ok(descriptor) if sys::wait_readable(descriptor).is_ok() => thread::yield_now(),
                // Nothing signals the exit then, but it takes only microseconds.
                _ => thread::sleep(PAUSE),
            }
        }
        if self.io_workers {
            self.wait_for_io_workers();
        }
    }

    /// The kernel ends them before the thread that they serve has exited. They release the namespace a moment later.
    fn wait_for_io_workers(&self) {
        const PREFIX: &str = "iou-wrk-";
        let own_name = format!("{PREFIX}{}", self.thread);
        let is_worker = |task: u32| {
            let name = sys::task_name(&sys::directory_of_task(task)).unwrap_or_default();
            // The number in the name is that of the initial pid namespace. In another pid namespace, the exiting state
            // identifies them.
            name == own_name || name.starts_with(PREFIX) && sys::task_state(task) == Some(TaskState::Exiting)
        };
        let tasks = || sys::list_threads_once(ProcTask::Leader.proc_path()).unwrap_or_default();
        while tasks().into_iter().any(is_worker) {
            thread::sleep(PAUSE);
        }
    }
}

/// The time to sleep if no descriptor signals the exit.
const PAUSE: Duration = Duration::from_micros(20);

fn descriptor_inode(thread: Tid) -> nix::Result<u64> {
    sys::identity(sys::pidfd_of_thread(thread)?).map(|(_, inode)| inode)
}
