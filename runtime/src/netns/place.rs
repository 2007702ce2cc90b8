//! The place where a body runs: a network namespace, and for a view also mounts and namespaces of other kinds.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::sched::CloneFlags;

use super::NetNs;
#[cfg(feature = "tokio")]
use super::mounts::Mounts;
use super::mounts::Surroundings;
use crate::error::{Error, ErrorKind};
use crate::sys;
use crate::sys::descriptor_table::TableBound;

/// Where a call runs its body. It is made from the namespace or view that the user gave.
#[derive(Clone)]
pub struct Place {
    net: NetNs,
    /// What a view has besides its network namespace.
    surroundings: Option<Arc<Surroundings>>,
    /// The caller's working directory, which a body in a view begins in.
    directory: Option<CString>,
}

impl Place {
    /// The place of a view.
    pub(crate) fn with_surroundings(net: NetNs, surroundings: Arc<Surroundings>) -> Place {
        Place { net, surroundings: Some(surroundings), directory: None }
    }

    /// The network namespace.
    pub(crate) fn netns(&self) -> &NetNs {
        &self.net
    }

    /// Whether a thread needs root, working directory and umask of its own there.
    pub(crate) fn needs_own_files(&self) -> bool {
        self.surroundings.is_some()
    }

    /// Notes the caller's working directory. To be called on the caller's thread when the call begins.
    pub(crate) fn prepare(&mut self) {
        if self.needs_own_files() {
            self.directory = sys::files::working_directory();
        }
    }

    /// The target that a thread enters.
    pub(crate) fn as_target(&self) -> Target<'_> {
        let surroundings = self.surroundings.as_deref().map(|surroundings| (surroundings, self.directory.as_deref()));
        Target { surroundings, ..self.net.as_target() }
    }
}

impl From<NetNs> for Place {
    fn from(net: NetNs) -> Place {
        Place { net, surroundings: None, directory: None }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.needs_own_files() { "View" } else { "NetNs" };
        write!(out, "{name}({})", self.net)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.needs_own_files() { "a view of " } else { "" };
        write!(out, "{before}{}", self.net)
    }
}

/// What a thread enters: a namespace by its descriptor, which the caller has read from the handle.
///
/// The entering thread need not read the handle, whose reference count the caller's processor writes at every call.
#[derive(Clone, Copy)]
pub(crate) struct Target<'n> {
    pub(super) fd: BorrowedFd<'n>,
    pub(super) ns: &'n NetNs,
    /// What a view has besides, and the working directory to begin in.
    pub(super) surroundings: Option<(&'n Surroundings, Option<&'n CStr>)>,
}

impl<'n> Target<'n> {
    /// Moves the calling thread into the network namespace. Pinned threads and [`NetNs::join`] both enter by it.
    pub(crate) fn setns(self) -> Result<(), Error> {
        let Target { fd, ns, .. } = self;
        sys::setns(fd, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::from_errno(format!("enter {ns} (setns)"), errno).explain_entering(fd))
    }

    /// Moves the calling thread into the namespace and these mounts of the view. No lease takes the thread home.
    #[cfg(feature = "tokio")]
    pub(crate) fn enter_for_good(self, mounts: &Mounts) -> Result<(), Error> {
        let operation = || format!("enter the view of {}: stop sharing root and working directory", self.ns);
        sys::unshare(CloneFlags::CLONE_FS).map_err(|errno| Error::from_errno(operation(), errno))?;
        mounts.enter(self.ns).map_err(|entry| entry.error)?;
        let _ = self.surroundings.and_then(|(_, directory)| directory).map(sys::files::change_directory);
        self.setns()
    }

    /// The descriptor and the namespace, if the target is not a view.
    pub(crate) fn of_network(self) -> Option<(BorrowedFd<'n>, &'n NetNs)> {
        self.surroundings.is_none().then_some((self.fd, self.ns))
    }

    /// The inverse of [`Target::of_network`].
    pub(crate) fn from_network(fd: BorrowedFd<'n>, ns: &'n NetNs) -> Target<'n> {
        Target { fd, ns, surroundings: None }
    }

    /// What a view has besides, for a thread that has root, working directory and umask of its own.
    pub(crate) fn surroundings(self) -> Option<(&'n Surroundings, Option<&'n CStr>)> {
        self.surroundings
    }

    /// An error where the descriptors' numbers are other files on the calling thread. They are the namespace's where
    /// the thread shares its table of descriptors with the thread that opened them.
    pub(crate) fn check_table(self) -> Result<(), Error> {
        let mounts = self.surroundings.and_then(|(surroundings, _)| surroundings.current());
        if self.ns.0.fd.is_of_this_table()
            && mounts.is_none_or(|mounts| mounts.descriptors_are(TableBound::is_of_this_table))
        {
            return Ok(());
        }
        let why = "it was opened by a thread with another table of file descriptors (unshare(2) with CLONE_FILES); \
                   open it on this one";
        Err(Error::new(ErrorKind::Unsupported, format!("enter {}", self.ns), why))
    }

    /// As [`Target::check_table`], on a thread with the table that the threads of the process share. It costs no system
    /// call where such a thread has opened the descriptors.
    ///
    /// Those of mounts are checked by the pinned thread that enters them: the caller does not read them, which would
    /// cost both threads several trips to another CPU.
    pub(crate) fn check_process_table(self) -> Result<(), Error> {
        if self.ns.0.fd.is_of_process_table() { Ok(()) } else { self.check_table() }
    }

    /// The namespace that it leads to.
    pub(crate) fn netns(&self) -> &NetNs {
        self.ns
    }
}
