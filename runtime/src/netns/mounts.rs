//! The surroundings of a view: a mount namespace of its own, and for the view of a process other namespaces too.
//!
//! **Promised:** the files that a view shows in place of home's are mounted when a body begins, or the body does not
//! run; and no mount of a view ever shows at home.
//!
//! **Why a cached mount namespace:** making one copies every mount of home, which takes most of a millisecond. Entering
//! one takes microseconds, and any number of threads may be in it. A descriptor keeps it alive. The kernel removes the
//! mounts with the last user of the namespace, also where the process is killed.
//!
//! **Why it is checked before each use:** a file that is mounted over another one is unmounted when that other one is
//! removed. Programs replace `/etc/resolv.conf` by renaming a new file to it, which removes the mount in every mount
//! namespace: from then on the view would show home's file. A `stat(2)` of each such path shows that.
//!
//! **What breaks otherwise:** look-ups for one tenant go to the name server of another, or of the machine.

mod etc;
mod name_services;
mod process;
#[allow(unsafe_code)] // A child process gets a lock of its own: see the module's documentation.
mod process_seat;
mod recipe;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, iter, os::unix::fs::MetadataExt};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use crate::error::Error;
use crate::netns::NetNs;
use crate::sys::descriptor_table::TableBound;
use crate::sys::{self, Kind};

pub(crate) use etc::Files;
pub(crate) use process::ProcessNamespaces;
pub(crate) use recipe::Recipe;

use process_seat::ProcessSeat;

/// What a view has besides its network namespace. Clones of the view share it.
pub(crate) enum Surroundings {
    /// The mounts of another process, which are not made anew.
    OfProcess(Arc<Mounts>),
    OfNetwork(Renewable),
}

/// Mounts that are made anew where they no longer show what they must.
pub(crate) struct Renewable {
    recipe: Recipe,
    /// The latest mounts of the view in this process. The lock is held while they are made.
    current: ProcessSeat<Arc<Mounts>>,
}

impl Surroundings {
    pub(crate) fn of_process(mounts: Mounts) -> Surroundings {
        Surroundings::OfProcess(Arc::new(mounts))
    }

    pub(crate) fn of_network(recipe: Recipe, mounts: Mounts) -> Surroundings {
        Surroundings::OfNetwork(Renewable { recipe, current: ProcessSeat::new(Arc::new(mounts)) })
    }

    /// The mounts to enter. `None` where this process has yet to make them.
    pub(crate) fn current(&self) -> Option<Arc<Mounts>> {
        match self {
            Surroundings::OfProcess(mounts) => Some(Arc::clone(mounts)),
            Surroundings::OfNetwork(renewable) => renewable.current.lock().clone(),
        }
    }

    /// Makes the mounts anew, if they are still those that were found stale. `make` runs on the calling thread.
    pub(crate) fn renew(
        &self,
        stale: Option<&Arc<Mounts>>,
        make: impl FnOnce(&Recipe) -> Result<Mounts, Error>,
    ) -> Result<(), Error> {
        let Surroundings::OfNetwork(renewable) = self else { return Ok(()) };
        let mut current = renewable.current.lock();
        if current.as_ref().map(Arc::as_ptr) == stale.map(Arc::as_ptr) {
            *current = Some(Arc::new(make(&renewable.recipe)?));
        }
        Ok(())
    }
}

/// A mount namespace, the files that it must show, and the namespaces of other kinds that are entered with it.
pub(crate) struct Mounts {
    namespace: TableBound,
    /// The root to have there, where that is not the root of the namespace.
    root: Option<TableBound>,
    umask: Option<Mode>,
    /// Namespaces of other kinds.
    others: Vec<(Kind, TableBound)>,
    expected: Vec<Expected>,
}

impl Mounts {
    /// Moves the calling thread there, which must have root and working directory of its own. Its working directory is
    /// then the root. If the first step fails, nothing has changed.
    pub(crate) fn enter(&self, netns: &NetNs) -> Result<(), EntryError> {
        let failed = |what: &str, errno| Error::from_errno(format!("enter the view of {netns}: {what}"), errno);
        sys::setns(&self.namespace, CloneFlags::CLONE_NEWNS).map_err(|errno| {
            let error = failed("its mount namespace (setns)", errno).explain_entering_mounts(self.namespace.as_fd());
            EntryError { error, has_moved: false }
        })?;
        let moved = |error| EntryError { error, has_moved: true };
        for (kind, namespace) in &self.others {
            sys::setns(namespace, kind.flag()).map_err(|errno| {
                let what = format!("its {} namespace (setns)", kind.file());
                moved(failed(&what, errno).explain_entering(namespace.as_fd()))
            })?;
        }
        if let Some(root) = &self.root {
            sys::files::change_root(root).map_err(|errno| moved(failed("its root (chroot)", errno)))?;
        }
        if let Some(umask) = self.umask {
            sys::files::set_umask(umask);
        }
        Ok(())
    }

    /// Whether every file is mounted. To be called on a thread in these mounts.
    pub(crate) fn are_in_place(&self) -> bool {
        self.expected.iter().all(Expected::is_met)
    }

    /// Whether the calling thread is in these mounts. `false` too where it sees no `/proc` that shows it, as in the
    /// view of a process that has a pid namespace of its own.
    #[cfg(feature = "tokio")]
    pub(crate) fn are_current(&self) -> bool {
        sys::identity_of(&Kind::Mount.file_in(sys::ProcTask::Current.proc_path())) == Ok(self.namespace.identity())
    }

    /// The other kinds of namespaces that are entered too.
    pub(crate) fn other_kinds(&self) -> CloneFlags {
        self.others.iter().map(|(kind, _)| kind.flag()).collect()
    }

    /// Whether all descriptors are such.
    pub(crate) fn descriptors_are(&self, such: impl FnMut(&TableBound) -> bool) -> bool {
        let others = self.others.iter().map(|(_, namespace)| namespace);
        iter::once(&self.namespace).chain(&self.root).chain(others).all(such)
    }
}

/// A failure to enter a view.
pub(crate) struct EntryError {
    pub(crate) error: Error,
    /// Whether the thread has left home.
    pub(crate) has_moved: bool,
}

/// What a path must lead to in a view.
#[derive(PartialEq, Eq)]
struct Expected {
    path: PathBuf,
    found: Option<Found>,
}

/// A file, identified by device and inode; a directory also by the time of its last change.
#[derive(PartialEq, Eq)]
struct Found {
    device: u64,
    inode: u64,
    changed: Option<(i64, i64)>,
}

impl Expected {
    /// Expects what is there now. A directory is expected not to change. Where nothing is there, the first directory of
    /// the path that is missing is expected to stay so: several paths share one, which is looked up once.
    fn now(path: impl AsRef<Path>) -> Expected {
        let path = path.as_ref();
        let found = Found::at(path);
        let missing = || path.ancestors().take_while(|path| Found::at(path).is_none()).last();
        let path = if found.is_none() { missing().unwrap_or(path) } else { path };
        Expected { path: path.to_owned(), found }
    }

    /// Expects the file of a descriptor.
    fn file(path: impl Into<PathBuf>, file: &OwnedFd) -> nix::Result<Expected> {
        let (device, inode) = sys::identity(file)?;
        Ok(Expected { path: path.into(), found: Some(Found { device, inode, changed: None }) })
    }

    fn is_met(&self) -> bool {
        match (&self.found, Found::at(&self.path)) {
            (Some(expected), Some(found)) => {
                (expected.device, expected.inode) == (found.device, found.inode)
                    && expected.changed.is_none_or(|changed| Some(changed) == found.changed)
            }
            (None, None) => true,
            _ => false,
        }
    }
}

impl Found {
    fn is_directory(&self) -> bool {
        self.changed.is_some()
    }

    fn at(path: &Path) -> Option<Found> {
        let found = fs::metadata(path).ok()?;
        let changed = found.is_dir().then(|| (found.mtime(), found.mtime_nsec()));
        Some(Found { device: found.dev(), inode: found.ino(), changed })
    }
}

/// Names the step of making a view that failed.
fn step(netns: &NetNs, what: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    let operation = format!("make a view of {netns}: {}", what.into());
    move |errno| Error::from_errno(operation, errno)
}

/// As [`step`], of a mount.
fn mount_step(netns: &NetNs, what: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    let failed = step(netns, what);
    move |errno| explain_too_many_mounts(failed(errno))
}

/// Adds the meaning of `ENOSPC` from `mount(2)`.
pub(super) fn explain_too_many_mounts(error: Error) -> Error {
    let errno = error.errno();
    error.explain(|_| {
        let why = "the mount namespace has as many mounts as `sysctl fs.mount-max` allows";
        (errno == Errno::ENOSPC).then(|| why.into())
    })
}
