//! The error type of the crate: opaque, with a kind to branch on and a message to read.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use crate::sys;

/// What kind of failure an [`Error`] is.
///
/// More kinds may come: match with a `_` arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No namespace has that name, path or process id.
    NotFound,
    /// A file is where a directory is expected, or the other way round.
    NotADirectory,
    /// The object exists, and it is not a network namespace.
    NotANetNs,
    /// A socket was expected.
    NotASocket,
    /// The name is not one that `/run/netns` can hold (see [`NetNs::from_name`](crate::NetNs::from_name)), or a path
    /// contains a NUL byte.
    InvalidName,
    /// A namespace of that name exists already.
    AlreadyExists,
    /// A capability is missing: the message says which, and in which user namespace.
    PermissionDenied,
    /// The kernel reports that the object is in use.
    Busy,
    /// A limit on descriptors, memory or namespaces was reached.
    LimitReached,
    /// A thread could not be started.
    ThreadSpawn,
    /// The thread is poisoned: an earlier restore failed, and it enters nothing more.
    Poisoned,
    /// The closure that prepares the namespaces of a [`NetNsPool`](crate::NetNsPool) failed or panicked.
    Prepare,
    /// The operation is not possible here: the message says why, and what is possible instead.
    Unsupported,
    /// Any other failure: [`source`](std::error::Error::source) is the error that the kernel returned.
    Other,
}

impl ErrorKind {
    fn of(errno: Errno) -> ErrorKind {
        match errno {
            Errno::ENOENT | Errno::ESRCH => ErrorKind::NotFound,
            Errno::ENOTDIR => ErrorKind::NotADirectory,
            Errno::EPERM | Errno::EACCES => ErrorKind::PermissionDenied,
            Errno::EEXIST => ErrorKind::AlreadyExists,
            Errno::EBUSY => ErrorKind::Busy,
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOSPC | Errno::EUSERS => ErrorKind::LimitReached,
            Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EOVERFLOW => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        }
    }
}

/// Why a namespace could not be opened, made, entered or left.
///
/// The message names the operation and its object, the cause, and the way out where there is one. Where the kernel
/// reported an errno, the message ends with it: `(EPERM, os error 1)`. It is also the
/// [`source`](std::error::Error::source) and [`raw_os_error`](Error::raw_os_error). Cloning is cheap.
///
/// ```
/// use in_netns::{ErrorKind, NetNs};
///
/// let error = NetNs::from_name("no-such-name").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert!(error.to_string().contains("/run/netns/no-such-name"));
///
/// let error = std::io::Error::from(error);
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: String,
    explanation: Option<String>,
    source: Option<Source>,
}

enum Source {
    Io(io::Error),
    /// An error that the user's code returned.
    Other(Box<dyn StdError + Send + Sync>),
}

impl Inner {
    fn io_source(&self) -> Option<&io::Error> {
        match &self.source {
            Some(Source::Io(error)) => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno that the kernel reported, as `errno(3)` numbers it. `None` where no syscall failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.io_source().and_then(io::Error::raw_os_error)
    }

    /// An error that no syscall reported.
    pub(crate) fn new(kind: ErrorKind, operation: impl Into<String>, explanation: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            operation: operation.into(),
            explanation: Some(explanation.into()),
            source: None,
        }))
    }

    /// An error that the kernel returned to `operation`, which names its object:
    /// ``open the network namespace `blue` ``.
    pub(crate) fn from_errno(operation: impl Into<String>, errno: Errno) -> Error {
        Error::from_io(ErrorKind::of(errno), operation, errno.into())
    }

    /// As [`Error::from_errno`], where the caller knows the kind better than the errno tells it.
    pub(crate) fn from_io(kind: ErrorKind, operation: impl Into<String>, source: io::Error) -> Error {
        Error(Arc::new(Inner {
            kind,
            operation: operation.into(),
            explanation: None,
            source: Some(Source::Io(source)),
        }))
    }

    /// A failure of the user's closure that prepares a namespace for a pool.
    pub(crate) fn not_prepared(operation: String, message: &str, source: Box<dyn StdError + Send + Sync>) -> Error {
        let explanation = format!("the closure given to `prepare` failed: {message}");
        Error(Arc::new(Inner {
            kind: ErrorKind::Prepare,
            operation,
            explanation: Some(explanation),
            source: Some(Source::Other(source)),
        }))
    }

    /// A use of something that the parent process began before it forked this process (`fork(2)`).
    #[cfg(feature = "tokio")]
    pub(crate) fn of_other_process(operation: impl Into<String>) -> Error {
        let why = "it was begun in the parent process (fork(2)), whose threads this process does not have; begin \
                   another one here";
        Error::new(ErrorKind::Unsupported, operation, why)
    }

    /// Adds the meaning of `EBADF` and `EINVAL`, for a descriptor that is kept for the process.
    pub(crate) fn explain_closed(self) -> Error {
        let what = match self.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBADF) => "was closed",
            Some(Errno::EINVAL) => "was closed, and its number is another file's now",
            _ => return self,
        };
        self.explained(format!(
            "a descriptor that this crate or tokio keeps for the process {what}, as by a daemon that closes all that \
             it has (close_range(2)); close them before the first call"
        ))
    }

    /// Adds the meaning of `ENOSPC` of `epoll_ctl(2)`.
    #[cfg(feature = "tokio")]
    pub(crate) fn explain_no_watch(self) -> Error {
        const WHY: &str = "no watch of epoll(7) is left for this user: see /proc/sys/fs/epoll/max_user_watches";
        let is_meant = self.raw_os_error() == Some(Errno::ENOSPC as i32);
        if is_meant { self.explained(WHY) } else { self }
    }

    /// A thread that the kernel or `std` did not start.
    pub(crate) fn spawn_failed(what: &str, source: io::Error) -> Error {
        let errno = source.raw_os_error().map(Errno::from_raw);
        // The kernel itself says `EAGAIN` or `ENOMEM`, unless it is for one of the other reasons.
        let is_filtered =
            || !matches!(errno, None | Some(Errno::EAGAIN | Errno::ENOMEM)) && sys::readings::is_filtered();
        let why = if sys::has_deadline_and_starts_no_threads() {
            "this thread is scheduled by a deadline (SCHED_DEADLINE), and such a thread starts no threads (sched(7)); \
             set SCHED_FLAG_RESET_ON_FORK with the deadline (sched_setattr(2)), call `in_netns::init()` first in \
             `main`, and use `Call::fresh` on other threads alone if it is not set"
        } else if sys::can_start_processes_only() {
            "this thread has a pid namespace of its own for children (unshare(2) with CLONE_NEWPID), and starts no \
             threads"
        } else if is_filtered() {
            "a seccomp filter forbids what a thread needs: clone(2), mmap(2) and mprotect(2), and it must answer \
             ENOSYS to clone3(2) if it forbids that call"
        } else {
            "see `ulimit -u` (RLIMIT_NPROC), the pids limit of the cgroup, free memory, `ulimit -v`, and the size of \
             its stack"
        };
        Error::from_io(ErrorKind::ThreadSpawn, format!("start {what}"), source).explained(why)
    }

    /// An error that `std` reported. Without an errno, its text is the explanation.
    pub(crate) fn from_std(operation: impl Into<String>, source: io::Error) -> Error {
        if let Some(errno) = source.raw_os_error() {
            return Error::from_errno(operation, Errno::from_raw(errno));
        }
        let text = source.to_string();
        Error::from_io(ErrorKind::Other, operation, source).explained(text)
    }

    /// The same failure with another kind than that of its errno. A shared error stays as it is.
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.kind = kind;
        }
        self
    }

    /// Adds the meaning of the error, or a remedy. An existing explanation is kept, and a shared error stays as it is.
    pub(crate) fn explain(mut self, explanation: impl FnOnce(ErrorKind) -> Option<String>) -> Error {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.explanation = inner.explanation.take().or_else(|| explanation(inner.kind));
        }
        self
    }

    /// As [`Error::explain`], whatever the kind is.
    pub(crate) fn explained(self, explanation: impl Into<String>) -> Error {
        self.explain(|_| Some(explanation.into()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, explanation, .. } = &*self.0;
        let errno = self.raw_os_error().map(Errno::from_raw);
        write!(out, "cannot {operation}: ")?;
        match (explanation.as_deref().or_else(|| errno.and_then(remedy)), errno) {
            (Some(explanation), _) => out.write_str(explanation)?,
            // The kind says nothing about the cause.
            (None, Some(errno)) if *kind == ErrorKind::Other => write!(out, "{kind}: {}", errno.desc())?,
            (None, _) => write!(out, "{kind}")?,
        }
        match errno {
            // `Debug` of an errno is its name in `errno(3)`.
            Some(errno) if errno != Errno::UnknownErrno => write!(out, " ({errno:?}, os error {})", errno as i32),
            _ => self.raw_os_error().map_or(Ok(()), |number| write!(out, " (os error {number})")),
        }
    }
}

/// The cause and the remedy of an errno that tells the same, whatever the operation.
fn remedy(errno: Errno) -> Option<&'static str> {
    match errno {
        // What the kernel refuses for another reason has been explained.
        Errno::EPERM if sys::readings::is_filtered() => Some(
            "permission denied; the process has a seccomp filter, which may forbid it, as in a container \
             (`--security-opt seccomp=unconfined`)",
        ),
        Errno::ENOSYS => Some(
            "the kernel does not have this system call, or a seccomp filter answers that, as in a container \
             (`--security-opt seccomp=unconfined`)",
        ),
        // From the creation of a file.
        Errno::EOVERFLOW => Some(
            "the user or group of this process is not mapped in its user namespace, so that it can create no files: \
             see /proc/self/uid_map and /proc/self/gid_map (`unshare --map-root-user`)",
        ),
        _ => shortage(errno),
    }
}

/// What is short, where an errno says so, and behind the colon what to look at.
pub(crate) fn shortage(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EMFILE => Some("this process has no descriptor left: see `ulimit -n` (RLIMIT_NOFILE)"),
        Errno::ENFILE => Some("the machine has no descriptor left: see `sysctl fs.file-max`"),
        Errno::ENOMEM => Some("no memory is left: see the memory limit of the cgroup, `free`, and `ulimit -v`"),
        _ => None,
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::NotADirectory => "a file is where a directory is expected, or the other way round",
            ErrorKind::NotANetNs => "not a network namespace",
            ErrorKind::NotASocket => "not a socket",
            ErrorKind::InvalidName => "invalid name",
            ErrorKind::AlreadyExists => "it exists already",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::Busy => "in use",
            ErrorKind::LimitReached => "a limit was reached",
            ErrorKind::ThreadSpawn => "no thread could be started",
            ErrorKind::Poisoned => "the thread is poisoned",
            ErrorKind::Prepare => "the namespace was not prepared",
            ErrorKind::Unsupported => "not supported here",
            ErrorKind::Other => "the kernel refused",
        })
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{self}"))
            .field("source", &self.source())
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0.source.as_ref()? {
            Source::Io(error) => Some(error),
            Source::Other(error) => Some(&**error),
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind as near as `io::ErrorKind` has it, the message and the source.
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            ErrorKind::NotFound if error.raw_os_error() == Some(Errno::ENOTDIR as i32) => io::ErrorKind::NotADirectory,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::NotADirectory => io::ErrorKind::NotADirectory,
            ErrorKind::NotANetNs | ErrorKind::NotASocket | ErrorKind::InvalidName => io::ErrorKind::InvalidInput,
            ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Busy => io::ErrorKind::ResourceBusy,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::Poisoned | ErrorKind::Prepare => io::ErrorKind::Other,
            ErrorKind::LimitReached | ErrorKind::ThreadSpawn | ErrorKind::Other => {
                error.0.io_source().map_or(io::ErrorKind::Other, io::Error::kind)
            }
        };
        io::Error::new(kind, error)
    }
}
