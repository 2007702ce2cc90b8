//! The namespace of a process, by its descriptor: a process id that is used again is never taken for the process that
//! had it before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{NetNs, explain_thread_self};
use crate::error::{Error, ErrorKind};
use crate::sys::{self, Kind, Numbering, TaskState};

impl NetNs {
    /// The namespace that a process is in: that of its leader (the main thread), or of another of its threads where
    /// the leader has exited.
    ///
    /// The id is looked up once, and means what it means to `kill(2)`. Between the moment when the caller learnt it
    /// and this call it may have come to mean another process: [`NetNs::from_pidfd`] excludes that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is no such process, or it has exited; [`ErrorKind::PermissionDenied`]
    /// where it belongs to another user, or may do more than the calling thread, which then needs `CAP_SYS_PTRACE`;
    /// [`ErrorKind::Unsupported`] for the id of a thread that is no leader where `/proc` is of another pid namespace.
    ///
    /// # Examples
    ///
    /// ```
    /// use in_netns::NetNs;
    ///
    /// assert_eq!(NetNs::from_pid(std::process::id())?, NetNs::current()?);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `pidfd_open(2)`, `namespaces(7)`, `ptrace(2)` on access mode checking.
    pub fn from_pid(pid: u32) -> Result<NetNs, Error> {
        let operation = || format!("open the network namespace of process {pid}");
        if let Ok(pidfd) = sys::pidfd_of_process(pid) {
            return of_pidfd(pidfd.as_fd(), &operation);
        }
        NetNs::checked(task_of_pid(pid, &operation)?.open(Kind::Net, &operation)?, operation)
    }

    /// The namespace that the process of a descriptor is in, or the thread where it is one of a thread
    /// (`PIDFD_THREAD`).
    ///
    /// The descriptor stands for one process, whatever becomes of its id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where the process has exited; [`ErrorKind::PermissionDenied`] as with
    /// [`NetNs::from_pid`]; [`ErrorKind::NotANetNs`] where the descriptor is not one of a process. Before Linux 6.11
    /// also [`ErrorKind::Unsupported`] where the process is not to be seen in `/proc`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::fd::{FromRawFd, OwnedFd};
    /// use in_netns::NetNs;
    ///
    /// # let pidfd_of = |pid: u32| -> OwnedFd {
    /// #     let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    /// #     unsafe { OwnedFd::from_raw_fd(fd as i32) }
    /// # };
    /// let pidfd = pidfd_of(std::process::id()); // pidfd_open(2)
    /// assert_eq!(NetNs::from_pidfd(&pidfd)?, NetNs::current()?);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `pidfd_open(2)`, `PIDFD_GET_NET_NAMESPACE` in `linux/pidfd.h` (Linux 6.11).
    pub fn from_pidfd(pidfd: impl AsFd) -> Result<NetNs, Error> {
        let operation = || "open the network namespace of a process by its descriptor".to_owned();
        check_pidfd(pidfd.as_fd(), &operation)?;
        of_pidfd(pidfd.as_fd(), &operation)
    }
}

const NO_PROCESS: &str = "there is no such process";

const FOREIGN_PROC: &str = "only /proc could tell, and it has the numbers of another pid namespace; mount the /proc of \
                            this one, or take the id of a process";
const HAS_EXITED: &str = "the process has exited";

fn has_exited(operation: &dyn Fn() -> String) -> Error {
    Error::from_errno(operation(), Errno::ESRCH).explained(HAS_EXITED)
}

/// An error where a descriptor is not one of a process.
pub(super) fn check_pidfd(pidfd: BorrowedFd<'_>, operation: &dyn Fn() -> String) -> Result<(), Error> {
    if sys::is_pidfd(pidfd) {
        return Ok(());
    }
    let why = "the descriptor is not one of a process (`pidfd_open(2)`)";
    Err(Error::new(ErrorKind::NotANetNs, operation(), why))
}

/// The number of a descriptor's process in `/proc`. `None` where that process has exited. An error says nothing about
/// it: this process may have no descriptor left to read the file.
fn number_of(pidfd: BorrowedFd<'_>, operation: &dyn Fn() -> String) -> Result<Option<u32>, Error> {
    sys::number_of_pidfd(pidfd).map_err(|error| explain_thread_self(Error::from_std(operation(), error)))
}

/// The namespace of the process of a descriptor. `pidfd` must be a process descriptor.
pub(super) fn of_pidfd(pidfd: BorrowedFd<'_>, operation: &dyn Fn() -> String) -> Result<NetNs, Error> {
    let failed = |errno, process| Error::from_errno(operation(), errno).explain_looking_at_process(process);
    let other_threads = !sys::is_pidfd_of_thread(pidfd);
    match sys::netns_of_pidfd(pidfd) {
        Ok(namespace) => return NetNs::checked(namespace, operation),
        // The leader has exited, and perhaps the others with it.
        Err(Errno::ESRCH) if other_threads => {}
        Err(Errno::ESRCH) => return Err(has_exited(operation)),
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
            let process = number_of(pidfd, operation)?;
            let state = process.map(|process| state_of(&task_of(process), operation)).transpose()?.flatten();
            // A task that is exiting is closed to all but the initial user namespace.
            if process.is_some() && state != Some(TaskState::Exiting) {
                return Err(failed(errno, process));
            }
            if !other_threads {
                return Err(has_exited(operation));
            }
        }
        // Before Linux 6.11.
        Err(Errno::ENOTTY | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
        Err(errno) => return Err(Error::from_errno(operation(), errno)),
    }
    NetNs::checked(task_of_pidfd(pidfd, operation)?.open(Kind::Net, operation)?, operation)
}

/// The directory in `/proc` of a process or thread.
fn task_of(id: u32) -> PathBuf {
    format!("/proc/{id}").into()
}

/// The state of a task, given its directory in `/proc`. `None` where it is gone.
fn state_of(task: &Path, operation: &dyn Fn() -> String) -> Result<Option<TaskState>, Error> {
    sys::state_of_task(task).map_err(|error| Error::from_std(operation(), error))
}

/// A descriptor of a process's directory in `/proc`. It stays that process's if the id is reused.
fn open_process(process: u32) -> nix::Result<OwnedFd> {
    sys::open_directory(&task_of(process))
}

/// The directory in `/proc` of a process or thread, by descriptor.
pub(super) struct Task {
    directory: OwnedFd,
    process: u32,
    /// Whether to use another thread of the process where this one has exited.
    other_threads: bool,
}

/// The directory of a process, or of a thread.
pub(super) fn task_of_pid(pid: u32, operation: &dyn Fn() -> String) -> Result<Task, Error> {
    match sys::pidfd_of_process(pid) {
        Ok(pidfd) => task_of_pidfd(pidfd.as_fd(), operation),
        Err(Errno::ESRCH) => Err(Error::from_errno(operation(), Errno::ESRCH).explained(NO_PROCESS)),
        // It is the id of a thread (EINVAL, ENOENT), which /proc knows too; or the syscall is not available here, or no
        // child process can be started that finds out whether a filter allows it (EAGAIN).
        Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {
            if Numbering::of_proc().is_ok_and(|numbering| !numbering.is_of_ids()) {
                return Err(Error::new(ErrorKind::Unsupported, operation(), FOREIGN_PROC));
            }
            let directory = open_process(pid).map_err(|errno| {
                Error::from_errno(operation(), errno)
                    .explain(|kind| (kind == ErrorKind::NotFound).then(|| NO_PROCESS.into()))
            })?;
            Ok(Task { directory, process: pid, other_threads: true })
        }
        Err(errno) => Err(Error::from_errno(operation(), errno)),
    }
}

/// The directory of the process, or thread, of a descriptor. `pidfd` must be a process descriptor.
pub(super) fn task_of_pidfd(pidfd: BorrowedFd<'_>, operation: &dyn Fn() -> String) -> Result<Task, Error> {
    let Some(process) = number_of(pidfd, operation)? else { return Err(has_exited(operation)) };
    let directory = open_process(process).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ESRCH => has_exited(operation),
        errno => Error::from_errno(operation(), errno).explain_looking_at_process(Some(process)),
    })?;
    // If the number is still the same, the process has not been reaped, so the directory that was opened is its own.
    if number_of(pidfd, operation)? != Some(process) {
        return Err(has_exited(operation));
    }
    Ok(Task { directory, process, other_threads: !sys::is_pidfd_of_thread(pidfd) })
}

impl Task {
    /// Opens the namespace of a kind.
    pub(super) fn open(&self, kind: Kind, operation: &dyn Fn() -> String) -> Result<OwnedFd, Error> {
        let Task { directory, process, other_threads } = self;
        let path = sys::path_of_descriptor(directory);
        let file = Path::new("ns").join(kind.file());
        let has_gone = |errno, task: &Path| -> Result<bool, Error> {
            match errno {
                Errno::ENOENT | Errno::ESRCH => Ok(true),
                // A task that is exiting is closed to all but the initial user namespace. A reaped one has no state.
                Errno::EACCES | Errno::EPERM => {
                    Ok(state_of(task, operation)?.is_none_or(|state| state == TaskState::Exiting))
                }
                _ => Ok(false),
            }
        };
        let failed = |errno| Error::from_errno(operation(), errno).explain_looking_at_process(Some(*process));
        match sys::open_namespace_file_at(directory, &file) {
            Ok(namespace) => return Ok(namespace),
            Err(errno) if !has_gone(errno, &path)? => return Err(failed(errno)),
            Err(_) if !other_threads => return Err(has_exited(operation)),
            Err(_) => {}
        }
        let threads = sys::threads_of(&path).map_err(|error| match sys::errno_of(&error) {
            Errno::ENOENT | Errno::ESRCH => has_exited(operation),
            _ => Error::from_std(operation(), error),
        })?;
        for thread in threads {
            let task = format!("task/{thread}");
            match sys::open_namespace_file_at(directory, &Path::new(&task).join(&file)) {
                Ok(namespace) => return Ok(namespace),
                Err(errno) if !has_gone(errno, &path.join(&task))? => return Err(failed(errno)),
                Err(_) => {}
            }
        }
        Err(has_exited(operation))
    }
}
