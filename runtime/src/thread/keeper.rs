//! The keeper: a thread that closes what an async call holds, in a table of file descriptors that the call's body left.
//!
//! **Why:** what a thread closes after it has left a table (`unshare(2)` with `CLONE_FILES`) stays open there. Where
//! that is the table of the process, any pinned thread closes it. A caller that has a table of its own shares it with
//! no thread of this crate, and need not wait for its call. So each async call of such a caller has two threads: the
//! keeper, which the caller starts, and the thread of the call, which the keeper starts.

use std::sync::mpsc;
use std::task::Waker;

use crate::sys::{self, Tid};

/// What a keeper does on its own thread, which is pinned as `T` meanwhile.
pub(crate) type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The keeper of a call, as long as the thread of the call is there.
pub(crate) struct Keeper<T> {
    thread: Tid,
    jobs: mpsc::Sender<Job<T>>,
}

/// Which thread closes what a call holds.
pub(crate) enum Closer<T> {
    ThisThread,
    AnyPinnedThread,
    Keeper(Keeper<T>),
}

impl<T> Clone for Keeper<T> {
    fn clone(&self) -> Keeper<T> {
        Keeper { thread: self.thread, jobs: self.jobs.clone() }
    }
}

impl<T> Keeper<T> {
    /// A keeper that is `thread`, and does the jobs that are received until the last clone of it is dropped.
    pub(crate) fn new(thread: Tid) -> (Keeper<T>, mpsc::Receiver<Job<T>>) {
        let (jobs, to_do) = mpsc::channel();
        (Keeper { thread, jobs }, to_do)
    }

    /// The thread, which has the table.
    pub(super) fn thread(&self) -> Tid {
        self.thread
    }

    /// Whether the calling thread has the table.
    pub(crate) fn shares_table(&self) -> nix::Result<bool> {
        sys::descriptor_table::is_shared_with(self.thread)
    }

    /// Calls a waker there, which must not be foreign code, and does not wait. `false` if there is no such thread: it
    /// is the one of the call.
    pub(crate) fn wake(&self, waker: Waker) -> bool {
        self.jobs.send(Box::new(move |_| waker.wake())).is_ok()
    }

    /// Drops a value there, and does not wait.
    pub(super) fn drop_later(&self, value: impl Send + 'static) {
        self.submit(move |_| drop(value));
    }

    /// Runs a job there, and does not wait. A job that cannot be run is dropped.
    pub(super) fn submit(&self, job: impl FnOnce(&mut T) + Send + 'static) {
        let _ = self.jobs.send(Box::new(job));
    }
}
