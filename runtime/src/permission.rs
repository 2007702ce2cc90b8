//! What is missing where the kernel says `EPERM`: which capability, in which user namespace, and how to get it.
//!
//! Asked only after a failure, so it may cost what it likes.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::sys;

/// The way out that is the same everywhere.
const WAY_OUT: &str =
    "run as root, grant the capability, or enter a user namespace of one's own first (`in_netns::rootless`)";

impl Error {
    /// `EPERM` from entering `target`: `setns(2)` asks for `CAP_SYS_ADMIN` twice, in the caller's own user namespace and
    /// in the one that owns the target.
    pub(crate) fn explain_entering(self, target: BorrowedFd<'_>) -> Error {
        self.explain_denied(|| {
            if lacks_sys_admin() {
                return format!("this thread lacks CAP_SYS_ADMIN in {}: {WAY_OUT}", own_user_namespace());
            }
            match owner_of(target) {
                Some(owner) => format!("it belongs to {owner}, and this thread has CAP_SYS_ADMIN in {} only", own_user_namespace()),
                None => format!(
                    "it belongs to a user namespace above {}, and CAP_SYS_ADMIN is missing there: a process that entered a user \
                     namespace can use the network namespaces that were made in it (`in_netns::rootless` makes both at once)",
                    own_user_namespace()
                ),
            }
        })
    }

    /// `EPERM` from an operation that asks for `CAP_SYS_ADMIN` in the caller's own user namespace, or in the one that owns
    /// its mount namespace.
    pub(crate) fn explain_making(self) -> Error {
        self.explain_denied(|| {
            if lacks_sys_admin() {
                format!("this thread lacks CAP_SYS_ADMIN in {}: {WAY_OUT}", own_user_namespace())
            } else {
                format!(
                    "this thread has CAP_SYS_ADMIN in {}, but not in the user namespace that owns what it works on (the mount \
                     namespace, for `/run/netns`), or a security module or seccomp filter forbids it",
                    own_user_namespace()
                )
            }
        })
    }

    /// `EACCES` from `/proc/PID/ns/net` (`ptrace(2)`, access mode checking).
    pub(crate) fn explain_looking_at_process(self) -> Error {
        self.explain_denied(|| {
            format!(
                "the process belongs to somebody else, and this thread lacks CAP_SYS_PTRACE in that process's user namespace \
                 (its own is {})",
                own_user_namespace()
            )
        })
    }

    /// `EPERM` from `SIOCGSKNS`.
    pub(crate) fn explain_looking_at_socket(self) -> Error {
        self.explain_denied(|| {
            format!(
                "this thread lacks CAP_NET_ADMIN in the user namespace that owns the socket's network namespace (its own is {})",
                own_user_namespace()
            )
        })
    }

    fn explain_denied(self, explanation: impl FnOnce() -> String) -> Error {
        self.explain(|kind| (kind == ErrorKind::PermissionDenied).then(explanation))
    }
}

fn lacks_sys_admin() -> bool {
    sys::capabilities_of(sys::current_tid()).is_ok_and(|mine| !mine.has(sys::CAP_SYS_ADMIN))
}

/// `user:[4026531837]`: the user namespace of the process. (A thread of a multithreaded process has no other.)
fn own_user_namespace() -> String {
    match std::fs::read_link(Path::new("/proc/thread-self/ns/user")) {
        Ok(link) => link.display().to_string(),
        Err(_) => "its user namespace".to_owned(),
    }
}

/// The user namespace that owns a namespace, where it is within our own.
fn owner_of(namespace: BorrowedFd<'_>) -> Option<String> {
    let owner = sys::owning_user_namespace(namespace).ok()?;
    let (_, inode) = sys::identity(owner.as_fd()).ok()?;
    Some(format!("user:[{inode}]"))
}
