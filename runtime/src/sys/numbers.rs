//! The numbers that threads and processes have in `/proc`, and the ids that system calls give and take.
//!
//! **Promised:** a number is never taken for an id, nor an id for a number.
//!
//! **Why this mechanism:** `/proc` has the numbers of the pid namespace that it was mounted in. A process in a pid
//! namespace of its own has other ids than its numbers where the `/proc` of the parent is still mounted. The line
//! `NSpid` of `proc_pid_status(5)` has the id in each pid namespace, from that of `/proc` to the thread's own.
//!
//! **What breaks otherwise:** a file of another thread is read, or none. Then a thread that is at home counts as away
//! from home, and a change of root is not noticed.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{ProcTask, Tid, threads_of};

/// How numbers in `/proc` are converted to ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// How far the pid namespace of this process is below that of `/proc`.
    depth: usize,
}

impl Numbering {
    /// The numbering of the `/proc` that the calling thread sees. An error where it does not show this process.
    pub(crate) fn of_proc() -> io::Result<Numbering> {
        let depth = ids_in(ProcTask::Current.proc_path())?.len().saturating_sub(1);
        Ok(Numbering { depth })
    }

    /// Whether every number equals the id.
    pub(crate) fn is_of_ids(self) -> bool {
        self.depth == 0
    }

    /// The id of a thread or process. `None` where it is gone.
    pub(crate) fn id_of(self, number: u32) -> Option<u32> {
        if self.is_of_ids() {
            return Some(number);
        }
        // A directory of that name exists for every thread, though only those of processes are listed.
        let ids = ids_in(Path::new(&format!("/proc/{number}"))).ok()?;
        ids.get(self.depth).copied()
    }

    /// The number of a thread of this process.
    fn number_of(self, thread: Tid) -> io::Result<u32> {
        let id = thread.as_raw().unsigned_abs();
        if self.is_of_ids() {
            return Ok(id);
        }
        let number = threads_of(Path::new("/proc/self"))?.into_iter().find(|number| self.id_of(*number) == Some(id));
        number.ok_or_else(|| Errno::ESRCH.into())
    }
}

/// The directory in `/proc` of a thread of this process.
pub(crate) fn directory_of_thread(thread: Tid) -> nix::Result<PathBuf> {
    let number = Numbering::of_proc().and_then(|numbering| numbering.number_of(thread));
    let number = number.map_err(|error| super::errno_of(&error))?;
    Ok(directory_of_task(number))
}

/// As [`directory_of_thread`], given the thread's number.
pub(crate) fn directory_of_task(number: u32) -> PathBuf {
    format!("/proc/self/task/{number}").into()
}

/// The ids of a thread, given its directory in `/proc`. Empty on a kernel without pid namespaces.
fn ids_in(task: &Path) -> io::Result<Vec<u32>> {
    let status = super::text_of(task.join("status"))?;
    let ids = super::value_of(&status, "NSpid").unwrap_or_default();
    Ok(ids.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect())
}
