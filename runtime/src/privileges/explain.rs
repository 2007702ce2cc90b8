//! What an error says where the kernel refuses: which capability is missing, in which user namespace, and the remedy.
//!
//! It is called only after a failure, so its cost does not matter. [`Cause`] has the causes and remedies; this module
//! says what they mean for an operation.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use nix::errno::Errno;

use crate::error::{Error, ErrorKind};
use crate::privileges::{Cause, has_capability, may_administer};
use crate::sys;
use crate::sys::before_main::{self, State, Step};

impl Error {
    /// `EPERM` from entering `target`: `setns(2)` asks for `CAP_SYS_ADMIN` twice, in the caller's own user namespace
    /// and in the one that owns the target.
    pub(crate) fn explain_entering(self, target: BorrowedFd<'_>) -> Error {
        let errno = self.errno();
        self.explain_denied(|| {
            let own = own_user_namespace();
            if !may_administer() {
                return lacks_sys_admin(&own, errno);
            }
            match owner_of(target) {
                Some(owner) if owner == own => Cause::of_errno(errno).explanation(),
                Some(owner) => format!("it belongs to {owner}, and this thread has CAP_SYS_ADMIN in {own} only"),
                None => format!(
                    "it belongs to a user namespace above {own}, and CAP_SYS_ADMIN is missing there: a process that \
                     entered a user namespace can use the network namespaces that were made in it (`unshare \
                     --map-root-user --net` makes both at once, and `in_netns::rootless` where CAP_SYS_ADMIN is \
                     missing altogether)"
                ),
            }
        })
    }

    /// `EPERM` from leaving a namespace, on a thread whose body has given up the capability.
    pub(crate) fn explain_given_up(self) -> Error {
        self.explain_denied(|| {
            format!(
                "the body gave up CAP_SYS_ADMIN in {} (capset(2), or a raw change of its user), without which its \
                 thread cannot go back; give it up in another process, or in a thread that the body starts and joins",
                own_user_namespace()
            )
        })
    }

    /// A refusal of `unshare(2)`, which asks for `CAP_SYS_ADMIN` in the caller's own user namespace, and for room
    /// within a limit, which `sysctl` names.
    pub(crate) fn explain_unshare(self, sysctl: &'static str) -> Error {
        let errno = self.errno();
        let cause = || match errno {
            Errno::ENOSPC => Cause::Limit { sysctl },
            _ => Cause::of_errno(errno),
        };
        self.explain(|kind| match kind {
            ErrorKind::PermissionDenied if !may_administer() => Some(lacks_sys_admin(&own_user_namespace(), errno)),
            // The message of every error has the remedy.
            ErrorKind::LimitReached if errno == Errno::ENOMEM => None,
            ErrorKind::PermissionDenied | ErrorKind::LimitReached | ErrorKind::Unsupported => {
                Some(format!("{} (in {})", cause().explanation(), own_user_namespace()))
            }
            _ => None,
        })
    }

    /// A refusal to bring up the loopback of a new namespace, which asks for `CAP_NET_ADMIN` in the caller's own user
    /// namespace.
    pub(crate) fn explain_loopback(self) -> Error {
        let errno = self.errno();
        self.explain_denied(|| Cause::explanation_of_loopback(errno, &own_user_namespace()))
    }

    /// `EACCES` from opening a path: of the `ns` directory of a process, as
    /// [`Error::explain_looking_at_process`], or of another one, which the user may not search.
    pub(crate) fn explain_opening(self, path: &Path) -> Error {
        if self.kind() != ErrorKind::PermissionDenied {
            return self;
        }
        match process_not_to_be_examined(path) {
            Some(process) => self.explain_looking_at_process(Some(process)),
            None => self.explain_denied(not_accessible),
        }
    }

    /// `EPERM` from an operation that asks for `CAP_SYS_ADMIN` in the caller's own user namespace, or in the one that
    /// owns its mount namespace; `EACCES` from the files that it works on.
    pub(crate) fn explain_making(self) -> Error {
        let errno = self.errno();
        self.explain_denied(|| {
            let own = own_user_namespace();
            if !may_administer() {
                return lacks_sys_admin(&own, errno);
            }
            match before_main::state() {
                State::Entered(Some(defect)) if defect.step == Step::Names => format!(
                    "this process entered {own}, and could not get a /run/netns of its own there ({}): namespaces \
                     without a name (`NetNs::new`) work",
                    defect.errno.desc()
                ),
                _ if errno == Errno::EACCES => not_accessible(),
                _ => format!(
                    "this thread has CAP_SYS_ADMIN in {own}, but not in the user namespace that owns what it works \
                     on (the mount namespace, for `/run/netns`), or a security module or seccomp filter forbids it"
                ),
            }
        })
    }

    /// `EACCES` from `/proc/PID/ns/net`, or from asking a process descriptor (`ptrace(2)`, access mode checking).
    pub(crate) fn explain_looking_at_process(self, process: Option<u32>) -> Error {
        self.explain_denied(|| {
            let own = own_user_namespace();
            if has_capability(sys::CAP_SYS_PTRACE) {
                return format!(
                    "this thread has CAP_SYS_PTRACE in {own}; so the process is in a user namespace above that one, \
                     or a security module forbids looking at it (see `dmesg`)"
                );
            }
            let uid = nix::unistd::geteuid();
            let directory = process.and_then(|process| fs::metadata(format!("/proc/{process}")).ok());
            let owner = directory.map(|directory| directory.uid());
            match owner {
                Some(owner) if owner != uid.as_raw() => format!(
                    "the process belongs to uid {owner}, this thread to uid {uid}, and it lacks CAP_SYS_PTRACE in \
                     the user namespace of the process (its own is {own})"
                ),
                Some(_) => format!(
                    "the process is of the same uid ({uid}), but has capabilities that this thread lacks, or is not \
                     dumpable (prctl(2), PR_SET_DUMPABLE); looking at it takes CAP_SYS_PTRACE in its user namespace \
                     (this thread's is {own})"
                ),
                None => {
                    format!("this thread lacks CAP_SYS_PTRACE in the user namespace of the process (its own is {own})")
                }
            }
        })
    }

    /// `EPERM` from `SIOCGSKNS`.
    pub(crate) fn explain_looking_at_socket(self) -> Error {
        self.explain_denied(|| {
            format!(
                "this thread lacks CAP_NET_ADMIN in the user namespace that owns the socket's network namespace (its \
                 own is {})",
                own_user_namespace()
            )
        })
    }

    /// A refusal to enter a mount namespace, which takes two capabilities, one of them in two user namespaces.
    pub(crate) fn explain_entering_mounts(self, namespace: BorrowedFd<'_>) -> Error {
        let errno = self.errno();
        self.explain_denied(|| {
            let missing: Vec<_> =
                [("CAP_SYS_ADMIN", may_administer()), ("CAP_SYS_CHROOT", has_capability(sys::CAP_SYS_CHROOT))]
                    .into_iter()
                    .filter_map(|(name, there)| (!there).then_some(name))
                    .collect();
            if !missing.is_empty() {
                let way_out = if may_administer() {
                    // The process needs no user namespace of its own, so `rootless` does nothing.
                    "start the process with the capability too; container: `--cap-add SYS_CHROOT`"
                } else {
                    "`in_netns::rootless` gives the process both capabilities"
                };
                let missing = missing.join(" and ");
                return format!(
                    "this thread lacks {missing}, without which it cannot enter a mount namespace ({way_out})"
                );
            }
            match owner_of(namespace) {
                Some(_) => Cause::of_errno(errno).explanation(),
                None => {
                    "the mount namespace belongs to a user namespace above this thread's own; a process that is in \
                     a mount namespace of its own user namespace can enter views (`unshare --map-root-user --mount` \
                     makes both at once, and `in_netns::rootless` where CAP_SYS_ADMIN is missing altogether)"
                        .into()
                }
            }
        })
    }

    /// A refusal of `umount2(2)` for the mount of a namespace.
    pub(crate) fn explain_unmounting(self) -> Error {
        if self.errno() != Errno::EINVAL {
            return self.explain_making();
        }
        let why = "its mount is locked: it was copied from the mount namespace of another user namespace \
                   (mount_namespaces(7)); delete the name there";
        self.with_kind(ErrorKind::PermissionDenied).explained(why)
    }

    /// Explains a refusal. A seccomp filter may answer `ENOSYS`, so that programs take another way.
    fn explain_denied(self, explanation: impl FnOnce() -> String) -> Error {
        let errno = self.errno();
        self.explain(|kind| match kind {
            ErrorKind::PermissionDenied => Some(explanation()),
            ErrorKind::Unsupported if errno == Errno::ENOSYS && sys::readings::is_filtered() => {
                Some(Cause::Seccomp.explanation())
            }
            _ => None,
        })
    }

    /// Adds that a link leads nowhere, where that is why `path` was not found.
    pub(crate) fn explain_missing(self, path: &Path) -> Error {
        self.explain(|kind| (kind == ErrorKind::NotFound).then(|| dangling_link(path)).flatten())
    }

    /// The errno that the kernel reported.
    pub(crate) fn errno(&self) -> Errno {
        self.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
    }
}

fn lacks_sys_admin(own: &str, errno: Errno) -> String {
    Cause::of_errno(errno).explanation_without_capability(own)
}

/// The process in whose directory of `/proc` a path is, or leads to by a link, if the thread may not examine it.
/// Otherwise what follows in the path is the cause: `/proc/PID/root/DIRECTORY`.
fn process_not_to_be_examined(path: &Path) -> Option<u32> {
    let number = |path: &Path| path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok();
    let process: u32 = number(path).or_else(|| number(&fs::read_link(path).ok()?))?;
    let examined = fs::read_link(format!("/proc/{process}/ns/net"));
    examined.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied).then_some(process)
}

/// What to say where a file or a directory may not be used.
fn not_accessible() -> String {
    format!(
        "uid {} may not use it, or search a directory of its path: see `namei -l` of the path",
        nix::unistd::geteuid()
    )
}

/// What to say of `path` where it, or a directory on the way to it, is a symbolic link that leads nowhere.
fn dangling_link(path: &Path) -> Option<String> {
    let link = path.ancestors().find(|step| step.is_symlink())?;
    let target = fs::read_link(link).ok()?;
    (!link.exists()).then(|| {
        format!("{} is a symbolic link to {}: it is there, and leads nowhere", link.display(), target.display())
    })
}

/// `user:[4026531837]`: the user namespace of the process. (A thread of a multithreaded process has no other.)
fn own_user_namespace() -> String {
    match fs::read_link(Path::new("/proc/thread-self/ns/user")) {
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
