//! Child processes of the calling *thread* (`waitpid(2)`, `__WNOTHREAD`). No function here reaps them: that is left to
//! their owner.

use std::fs;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::{Numbering, ProcTask, restarted};

/// Waits for the end of a child without reaping it. Children of other threads are not seen.
const END_OF_OWN: WaitPidFlag =
    WaitPidFlag::WEXITED.union(WaitPidFlag::WNOWAIT).union(WaitPidFlag::__WNOTHREAD).union(WaitPidFlag::__WALL);

/// Whether a child of the calling thread has not ended yet.
pub(crate) fn is_running_child(process: u32) -> bool {
    matches!(end_of(process, END_OF_OWN | WaitPidFlag::WNOHANG), Ok(WaitStatus::StillAlive))
}

/// Returns when a process has ended, or is no child of the calling thread any more.
pub(crate) fn wait_for_end_of_child(process: u32) {
    // An error means that there is no such child.
    let _ = end_of(process, END_OF_OWN);
}

/// The children of the calling thread, including zombies. Empty where the kernel does not list them
/// (`CONFIG_PROC_CHILDREN`).
pub(crate) fn of_current_thread() -> Vec<u32> {
    if restarted(|| waitid(Id::All, END_OF_OWN | WaitPidFlag::WNOHANG)).is_err() {
        return Vec::new();
    }
    let list = fs::read_to_string(ProcTask::Current.proc_path().join("children")).unwrap_or_default();
    let Ok(numbering) = Numbering::of_proc() else { return Vec::new() };
    let numbers = list.split_ascii_whitespace().filter_map(|number| number.parse().ok());
    numbers.filter_map(|number| numbering.id_of(number)).collect()
}

fn end_of(process: u32, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
    let process = i32::try_from(process).map_err(|_| Errno::ECHILD)?;
    restarted(|| waitid(Id::Pid(Pid::from_raw(process)), flags))
}
