//! The keeper: a thread that closes what an async call holds, in a table of file descriptors that the call's body left.
//!
//! **Why:** what a thread closes after it has left a table (`unshare(2)` with `CLONE_FILES`) stays open there. Where
//! that is the table of the process, any pinned thread closes it. A caller that has a table of its own shares it with
//! no thread of this crate, and need not wait for its call. So each async call of such a caller has two threads: the
//! keeper, which the caller starts, and the thread of the call, which the keeper starts.

use std::panic;
use std::sync::mpsc;
use std::task::Waker;

use crate::netns::Place;
use crate::sys::{self, Tid};
use crate::thread::pinned::PinnedThread;
use crate::thread::pool::Pool;
use crate::thread::release::{Inspect, LeaseEnd};
use crate::unwind::catch;

/// What a keeper does on its own thread, which is pinned meanwhile.
pub(crate) type Job = Box<dyn FnOnce(&mut PinnedThread) + Send>;

/// The keeper of a call, as long as the thread of the call is there.
#[derive(Clone)]
pub(crate) struct Keeper {
    thread: Tid,
    jobs: mpsc::Sender<Job>,
}

/// Which thread closes what a call holds.
pub(crate) enum Closer {
    ThisThread,
    AnyPinnedThread,
    Keeper(Keeper),
}

impl Keeper {
    /// A keeper that is `thread`, and does the jobs that are received until the last clone of it is dropped.
    pub(crate) fn new(thread: Tid) -> (Keeper, mpsc::Receiver<Job>) {
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
        let _ = self.jobs.send(Box::new(move |_| drop(value)));
    }

    /// Runs a job in `place`, and waits. The place is dropped there too. Returns the job where the keeper could not
    /// enter.
    pub(crate) fn run<R, J>(&self, place: Place, job: J) -> Result<R, J>
    where
        R: Send + 'static,
        J: FnOnce() -> R + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        let work = move |thread: &mut PinnedThread| {
            let roster = &Pool::of_process().roster;
            if thread.enter_checked(place.as_target()).is_err() {
                let lease_end = LeaseEnd::not_entered(roster, thread);
                drop(place);
                let _ = answer.send(Err(job));
                lease_end.report();
                return;
            }
            let result = catch(job);
            drop(place);
            let lease_end = LeaseEnd::restore(roster, thread, Inspect::Later, None);
            let _ = answer.send(Ok(result));
            lease_end.report();
        };
        let _ = self.jobs.send(Box::new(work));
        match answered.recv() {
            Ok(Ok(result)) => Ok(result.unwrap_or_else(|payload| panic::resume_unwind(payload))),
            Ok(Err(job)) => Err(job),
            Err(_) => unreachable!("a keeper does its jobs until this one is dropped"),
        }
    }
}
