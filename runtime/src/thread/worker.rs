//! A worker: a pinned thread that is leased again and again, for as long as it stays pristine.

use std::sync::Arc;
use std::thread::Builder;

use super::allowance::Allowance;
use super::handle::{Status, WorkerHandle};
use super::pinned::{LeaseState, PinnedThread};
use super::rendezvous::{Callee, Order, mailbox};
use super::role::Role;
use super::roster::{Removal, Roster, keep_alive};
use crate::error::Error;
use crate::sys::placement;
use crate::sys::process_local::ProcessMark;

/// The name of pinned threads, in `/proc/PID/task/TID/comm` and in panic messages.
pub(crate) const NAME: &std::ffi::CStr = c"in-netns";

/// Starts a worker from the calling thread, which is the template.
pub(super) fn spawn(roster: &'static Roster, role: Role) -> Result<WorkerHandle, Error> {
    let status = Arc::new(Status::new(role, roster.generation()));
    let (side, callee) = mailbox(roster.spin_limit(), placement::may_be_confined());
    Builder::new()
        .name(NAME.to_string_lossy().into_owned())
        .spawn({
            let status = Arc::clone(&status);
            move || {
                let _registration = roster.register_current();
                run_loop(roster, &status, callee);
            }
        })
        .map_err(|source| Error::spawn_failed("a pinned thread", source))?;
    Ok(WorkerHandle { status, side })
}

/// Runs jobs until the worker is told to exit, is idle for too long, or is no longer pristine. It returns when the
/// processes that the worker has started have ended.
fn run_loop(roster: &'static Roster, status: &Arc<Status>, mut side: Callee<PinnedThread, Allowance>) {
    let Some(home) = roster.home() else { return };
    let mut thread = PinnedThread::pin_current(home);
    // Not read from the roster: callers write to it, which would cost a trip to another CPU.
    let process = ProcessMark::current();
    // Whether it stays idle without end.
    let mut stays = false;
    // What it waits for before it exits. Of a thread that exits for another reason: those that callers asked for.
    let mut expired_with = None;
    loop {
        let waits = thread.state() == LeaseState::Leased || stays;
        stays = false;
        match side.next((!waits).then(keep_alive)) {
            Order::Job(job) => {
                thread.begin();
                if job.run(&mut thread) {
                    thread.inspected_by_owner();
                }
            }
            Order::Submitted(job) => {
                thread.begin();
                job.run(&mut thread);
            }
            Order::Disconnected => break,
            Order::Timeout => {
                let children = thread.running_children();
                // They may have asked for a signal when this thread exits. To look again later would wake it.
                match roster.remove_idle(status, !children.is_empty()) {
                    Removal::Done => {
                        expired_with = Some(children);
                        break;
                    }
                    Removal::Last => stays = true,
                    Removal::Leased => {}
                }
            }
        }
        // Where a body forked, its copy has returned in the child, and has no caller there. The child may have threads
        // by now, of the calls that the copy made: they would keep it alive without end.
        process.end_child();
        // The caller has its answer, so this is off its path.
        match thread.state() {
            LeaseState::Leased | LeaseState::Pristine => {}
            LeaseState::Restored | LeaseState::HalfInspected => {
                if thread.inspect().is_err() {
                    // If it was leased meanwhile, its side of the rendezvous ends with this function, and rejects the
                    // job: the owner leases another.
                    roster.retire(status);
                    break;
                }
            }
            LeaseState::Exiting => break,
        }
    }
    // What is posted from now on is rejected.
    drop(side);
    expired_with.unwrap_or_else(|| thread.into_children()).wait_for_end();
}
