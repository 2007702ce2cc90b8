//! A worker: a pinned thread that is leased again and again, for as long as it stays pristine.

use std::thread::Builder;

use super::pool::Pool;
use super::template::spawn_failed;
use crate::error::Error;
use crate::guard::{PinnedThread, Stage};
use crate::handover::{Answer, Callee, Caller, Job, Order, mailbox};

/// The name of pinned threads, in `/proc/PID/task/TID/comm` and in panic messages.
pub(crate) const NAME: &std::ffi::CStr = c"in-netns";

/// The other end of a worker, for whoever leases it. Dropping it ends the worker.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    side: Caller<PinnedThread>,
}

/// Tells workers apart. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerId(pub(super) u64);

impl Worker {
    pub(super) fn hand_over(&mut self, job: &mut Job<'_, PinnedThread>) -> Answer {
        self.side.hand_over(job)
    }
}

/// Starts a worker from the calling thread, which is the template.
pub(super) fn spawn(pool: &'static Pool) -> Result<Worker, Error> {
    let id = pool.next_worker_id();
    let (mut side, callee) = mailbox(pool.spin_limit());
    let alive = pool.count_thread();
    let thread = Builder::new()
        .name(NAME.to_string_lossy().into_owned())
        .spawn(move || {
            let _alive = alive;
            live(pool, id, callee);
        })
        .map_err(|source| spawn_failed("a pinned thread", source))?;
    side.introduce(thread.thread().clone());
    Ok(Worker { id, side })
}

/// The life of a worker.
fn live(pool: &'static Pool, id: WorkerId, mut side: Callee<PinnedThread>) {
    let Some(home) = pool.home() else { return };
    let mut thread = PinnedThread::pin_current(home);
    loop {
        let idle = thread.stage() != Stage::Leased;
        match side.next(idle.then(|| pool.keep_alive())) {
            Order::Job(job) => {
                thread.begin();
                job.run(&mut thread);
            }
            // The lease was dropped: by a resident's owner, in the middle of it.
            Order::Closed => {
                thread.end_lease();
                return;
            }
            Order::Nothing => {
                if pool.withdraw(id) {
                    return;
                }
            }
        }
        // The caller has been told, so this is off its path.
        match thread.stage() {
            Stage::Leased | Stage::Pristine => {}
            Stage::Restored => {
                if thread.inspect().is_err() {
                    pool.count_retired();
                    return refuse_the_rest(pool, id, side);
                }
            }
            Stage::Leaving => return,
        }
    }
}

/// The end of a worker that is found changed after its lease: it takes itself out of the idle ones, or refuses the next caller
/// who was faster.
fn refuse_the_rest(pool: &'static Pool, id: WorkerId, mut side: Callee<PinnedThread>) {
    if pool.condemn(id) {
        return;
    }
    while let Order::Job(job) = side.next(None) {
        drop(job);
    }
    pool.pardon(id);
}
