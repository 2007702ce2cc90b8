//! Home: the namespaces that pinned threads start in and go back to, and what a thread looks like there.
//!
//! **Promised:** after [`Home::restore`] succeeded, the calling thread is in home's network namespace, and in home's UTS, IPC,
//! cgroup and pid-for-children namespaces too wherever the kernel lets it go back to them; and a thread that
//! both inspections call pristine cannot be told from the template thread by anything that `Change` names.
//!
//! **Why this mechanism:** the template thread never runs user code, so its state *is* home. Its thread descriptor
//! (`PIDFD_THREAD`, Linux 6.9) takes a thread back to all five namespaces in one `setns`; older kernels get a handle and a
//! `setns` for each. What no `setns` undoes (an unshared file table or `fs_struct`, a mount namespace, capabilities) is
//! compared with the template, and a thread that differs is retired.
//!
//! **What breaks otherwise:** restoring the network namespace alone leaks the mount namespace that a callback unshared to
//! whoever gets the thread next (container-libs #1109).

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::{self, Capabilities, Kind, ProcTask, Resource, Tid};

/// See the [module's documentation](self).
pub(crate) struct Home {
    net: NetNs,
    /// The template thread, which the inspections compare with.
    template: Tid,
    capabilities: Capabilities,
    restore_path: RestorePath,
    mount_namespace: PathBuf,
    /// A mount of that namespace, by its unique id, which is found nowhere else. Seeing it again is proof enough, at a
    /// fifth of the price of asking `/proc`.
    sentinel_mount: AtomicU64,
    /// The other namespaces that no `setns` restores here, as they are at home: any change is final.
    unrestorable: Vec<(Kind, PathBuf)>,
    /// Whether `kcmp(2)` works here. Where it does not, nothing is ever pristine.
    comparable: bool,
}

/// How a thread goes back.
enum RestorePath {
    /// One `setns` on the template's thread descriptor, for all these kinds at once.
    Combined(OwnedFd, CloneFlags),
    /// One `setns` a namespace.
    Individual(Vec<(Kind, OwnedFd)>),
}

/// What a thread has that the template has not. Nothing undoes it, so the thread is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Its `fs_struct` is its own (`unshare(2)` with `CLONE_FS` or `CLONE_NEWNS`): root, working directory and umask may differ.
    Filesystem,
    /// It is in another mount namespace.
    MountNamespace,
    /// Its table of file descriptors is its own (`CLONE_FILES`).
    FileTable,
    /// Its effective, permitted or inheritable capabilities differ.
    Capabilities,
    /// It is in another UTS, IPC, cgroup or pid-for-children namespace, to which home's user namespace has no way back.
    Namespace,
    /// It cannot be told: `kcmp(2)` is not to be had here, or `/proc` not readable. Nothing is assumed in its favour.
    Unknown,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Change::Filesystem => "it stopped sharing root, working directory and umask",
            Change::MountNamespace => "it changed its mount namespace",
            Change::FileTable => "it stopped sharing the file descriptor table",
            Change::Capabilities => "its capabilities changed",
            Change::Namespace => "it changed a namespace that cannot be restored",
            Change::Unknown => "whether it changed cannot be told here (kcmp(2) or /proc is missing)",
        })
    }
}

impl Home {
    /// What the calling thread, the template, sees as home.
    pub(crate) fn here() -> Result<Home, Error> {
        let template = sys::current_tid();
        let net = NetNs::current()?;
        let capabilities = sys::capabilities_of(template)
            .map_err(|errno| Error::from_errno("read the template thread's capabilities (capget)", errno))?;
        let comparable = sys::share(Resource::Fs, template, template).unwrap_or(false);
        let (restore_path, final_kinds) = RestorePath::find(template)?;
        let mark = |kind: Kind| {
            sys::namespace_of(ProcTask::Me, kind).map_err(|source| {
                let operation = format!("read /proc/thread-self/ns/{} of the template thread", kind.file());
                Error::from_io(ErrorKind::Other, operation, source)
            })
        };
        let mount_namespace = mark(Kind::Mount)?;
        let sentinel_mount = AtomicU64::new(sys::first_mount().unwrap_or(0));
        let unrestorable = final_kinds.into_iter().map(|kind| Ok((kind, mark(kind)?))).collect::<Result<_, Error>>()?;
        Ok(Home {
            net,
            template,
            capabilities,
            restore_path,
            mount_namespace,
            sentinel_mount,
            unrestorable,
            comparable,
        })
    }

    /// The network namespace.
    pub(crate) fn net(&self) -> &NetNs {
        &self.net
    }

    /// Takes the calling thread back, whatever it did to its namespaces.
    pub(crate) fn restore(&self) -> Result<(), Error> {
        let failed = |errno| {
            let operation = format!("go back home to {} (setns)", self.net);
            Error::from_errno(operation, errno).explain_entering(self.net.as_fd())
        };
        let restored = match &self.restore_path {
            RestorePath::Combined(template, kinds) => sys::setns(template, *kinds),
            RestorePath::Individual(handles) => {
                handles.iter().try_for_each(|(kind, handle)| sys::setns(handle, kind.flag()))
            }
        };
        match restored {
            // Without `CAP_SYS_ADMIN` the kernel refuses even where there is nothing to do.
            Err(_) if self.is_where_thread_is() => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// Whether the calling thread is in home's namespaces of every kind that a restore covers. Asked after a failure only: it reads
    /// `/proc`, which must be the one that the template sees.
    fn is_where_thread_is(&self) -> bool {
        let same = |kind: &Kind| {
            let of_template = sys::namespace_of_thread(self.template, *kind);
            match (sys::namespace_of(ProcTask::Me, *kind), of_template) {
                (Ok(here), Ok(home)) => here == home,
                // A kernel without this kind.
                (Err(_), Err(_)) => *kind != Kind::Net,
                _ => false,
            }
        };
        self.sees_same_files() && Kind::RESTORABLE.iter().all(same)
    }

    /// Whether the calling thread is in a network namespace, whatever its restore said.
    pub(crate) fn is_thread_in(&self, netns: &NetNs) -> bool {
        self.sees_same_files() && netns.is_current().unwrap_or(false)
    }

    /// Whether the calling thread shares root and mount namespace with the template, as far as the kernel tells.
    fn sees_same_files(&self) -> bool {
        sys::share(Resource::Fs, self.template, sys::current_tid()).unwrap_or(true)
    }

    /// Compares a thread with the template in what any thread of the process can see: whether it shares root, working
    /// directory, umask and file descriptors, and which capabilities it has.
    ///
    /// Its own code must have run to the end; its namespaces may still be on their way back.
    pub(crate) fn inspect_from_anywhere(&self, thread: u32) -> Result<(), Change> {
        let thread = i32::try_from(thread).map(Tid::from_raw).map_err(|_| Change::Unknown)?;
        let shares = |resource, change| match sys::share(resource, self.template, thread) {
            Ok(true) => Ok(()),
            Ok(false) => Err(change),
            Err(_) => Err(Change::Unknown),
        };
        if !self.comparable {
            return Err(Change::Unknown);
        }
        shares(Resource::Fs, Change::Filesystem)?;
        shares(Resource::Files, Change::FileTable)?;
        match sys::capabilities_of(thread) {
            Ok(its) if its == self.capabilities => Ok(()),
            Ok(_) => Err(Change::Capabilities),
            Err(_) => Err(Change::Unknown),
        }
    }

    /// Compares the calling thread, restored, with the template in what no other thread sees as cheaply: the namespaces that
    /// no restore takes it back to.
    ///
    /// The mount namespace is one of them. `fs_struct` shared does not mean mount namespace shared: `setns` on a process
    /// with `CLONE_NEWNS` and another flag changes the one and leaves the other (measured on Linux 6.18).
    pub(crate) fn inspect_from_within(&self) -> Result<(), Change> {
        if !sys::has_mount(self.sentinel_mount.load(Ordering::Relaxed)) {
            Home::compare_mark(Kind::Mount, &self.mount_namespace)
                .map_err(|unlike| unlike.unwrap_or(Change::MountNamespace))?;
            // That mount is gone, and the namespace is the same. Another will do.
            self.sentinel_mount.store(sys::first_mount().unwrap_or(0), Ordering::Relaxed);
        }
        self.unrestorable.iter().try_for_each(|(kind, at_home)| {
            Home::compare_mark(*kind, at_home).map_err(|unlike| unlike.unwrap_or(Change::Namespace))
        })
    }

    /// Whether the calling thread is in the same namespace of a kind as the template: `Err(None)` where it is not.
    fn compare_mark(kind: Kind, at_home: &Path) -> Result<(), Option<Change>> {
        match sys::namespace_of(ProcTask::Me, kind) {
            Ok(now) if now == at_home => Ok(()),
            Ok(_) => Err(None),
            Err(_) => Err(Some(Change::Unknown)),
        }
    }
}

impl RestorePath {
    /// Finds the way by going it: from home to home, with each kind. What the kernel refuses here, such as the UTS namespace
    /// of a parent user namespace, it would refuse later; those kinds come back second.
    ///
    /// The network namespace is always gone back to: where that is refused (a process that entered a user namespace and
    /// kept its parent's network), each restore is to fail and be reported.
    fn find(template: Tid) -> Result<(RestorePath, Vec<Kind>), Error> {
        let mut refused = Vec::new();
        match sys::pidfd_of_thread(template) {
            Ok(pidfd) => {
                let mut kinds = CloneFlags::CLONE_NEWNET;
                for kind in &Kind::RESTORABLE[1..] {
                    match sys::setns(&pidfd, kind.flag()) {
                        Ok(()) => kinds |= kind.flag(),
                        Err(_) => refused.push(*kind),
                    }
                }
                Ok((RestorePath::Combined(pidfd, kinds), refused))
            }
            // Before Linux 6.9 (EINVAL), before 5.3 or under a filter (ENOSYS, EPERM).
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {
                let mut handles = Vec::new();
                for kind in Kind::RESTORABLE {
                    let handle = kind.open(ProcTask::Me).map_err(|errno| {
                        let operation = format!("open /proc/thread-self/ns/{} of the template thread", kind.file());
                        Error::from_errno(operation, errno)
                    })?;
                    if kind == Kind::Net || sys::setns(&handle, kind.flag()).is_ok() {
                        handles.push((kind, handle));
                    } else {
                        refused.push(kind);
                    }
                }
                Ok((RestorePath::Individual(handles), refused))
            }
            Err(errno) => Err(Error::from_errno("open a descriptor of the template thread (pidfd_open)", errno)),
        }
    }
}
