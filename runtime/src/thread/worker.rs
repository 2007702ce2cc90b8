//! A worker: a pinned thread that is leased again and again, for as long as it stays pristine.

use std::thread::Builder;

use super::pool::{Pool, keep_alive};
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
    pub(super) fn hand_over(&mut self, job: &mut Job<'_, PinnedThread>, help: impl FnOnce(u32)) -> Answer {
        self.side.hand_over(job, help)
    }

    /// Gives an errand, and itself with it.
    #[cfg(feature = "tokio")]
    pub(super) fn give(self, errand: impl FnOnce(Option<&mut PinnedThread>, Worker) + Send + 'static) {
        let Worker { id, side } = self;
        side.give(move |thread, side| errand(thread, Worker { id, side }));
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
            let _known = pool.know_current();
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
        match side.next(idle.then(keep_alive)) {
            Order::Job(job) => {
                thread.begin();
                if job.run(&mut thread) {
                    thread.inspected_by_owner();
                }
            }
            Order::Errand(errand) => {
                thread.begin();
                errand.run(&mut thread);
            }
            Order::Closed => break,
            Order::Nothing => {
                if pool.withdraw(id) {
                    break;
                }
            }
        }
        // The caller has been told, so this is off its path.
        match thread.stage() {
            Stage::Leased | Stage::Pristine => {}
            Stage::Restored | Stage::HalfInspected => {
                if thread.inspect().is_err() {
                    if !pool.condemn(id) {
                        decline_the_rest(side);
                    }
                    break;
                }
            }
            Stage::Leaving => break,
        }
    }
    pool.pardon(id);
}

/// Somebody was faster, and leased a thread that has just been found changed: there will be another one for them.
fn decline_the_rest(mut side: Callee<PinnedThread>) {
    loop {
        match side.next(None) {
            Order::Job(job) => drop(job),
            Order::Errand(errand) => drop(errand),
            Order::Closed | Order::Nothing => break,
        }
    }
}
