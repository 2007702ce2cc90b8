//! Root, working directory and umask of a thread that has its own, for views.
//!
//! **Why:** Linux lets a thread change its mount namespace only while it shares its `fs_struct` with no other thread
//! (`setns(2)`). A thread that has stopped sharing it may change its mount namespace any number of times, but can never
//! share it again. So bodies in views run on workers of their own.
//!
//! **Promised:** after [`OwnFiles::follow`] the thread has the root that the process has. After [`OwnFiles::restore`]
//! it is in home's mount namespace, with the root that it last followed the process to, at that root, and with the
//! umask that it began with, whatever a body did to any of these. It holds no directory but that root and one in
//! `/proc`.
//!
//! **What breaks otherwise:** a thread that a body starts shares the `fs_struct` of the body's thread. The kernel then
//! refuses to move the body's thread to home's mount namespace alone. Together with other namespaces it does not
//! refuse, and moves root and working directory of *both* threads home. So the body's thread first unshares the
//! `fs_struct`, which the other thread keeps.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorKind};
use crate::sys::kept::Kept;
use crate::sys::{self, Kind, ProcTask, Tid};

/// See the [module's documentation](self).
pub(super) struct OwnFiles {
    /// Home's mount namespace.
    mount_namespace: Kept<OwnedFd>,
    /// The root at home, where that is not the root of the mount namespace.
    root: Option<Kept<OwnedFd>>,
    umask: Mode,
    /// The directory in `/proc` of a thread that has the root of the process.
    sharer: Kept<OwnedFd>,
}

impl OwnFiles {
    /// Makes the calling thread, which is at home, stop sharing with `sharer`. Fails where it could not come back from
    /// a view, or could not follow the process.
    pub(super) fn take(sharer: Tid) -> Result<OwnFiles, Error> {
        let failed = |what: &str, errno| Error::from_errno(format!("prepare a thread for views: {what}"), errno);
        let sharer = sys::files::open_directory_of_thread(sharer)
            .map_err(|errno| failed("open the template thread's directory in /proc", errno))?;
        let mount_namespace =
            Kind::Mount.open(ProcTask::Current).map_err(|errno| failed("open /proc/thread-self/ns/mnt", errno))?;
        let enter = || sys::files::at_root_of_mounts(&mount_namespace, || Ok::<_, Errno>(()));
        let not_entered = |errno| {
            failed("enter its own mount namespace (setns)", errno).explain_entering_mounts(mount_namespace.as_fd())
        };
        // This comes before any change: a thread that lacks the privilege stays as it is. The kernel checks the
        // privilege first, and whether the thread has files of its own (`EINVAL`) afterwards.
        if let Err(Errno::EPERM) = enter() {
            return Err(not_entered(Errno::EPERM));
        }
        sys::unshare(CloneFlags::CLONE_FS)
            .map_err(|errno| failed("stop sharing root and working directory (unshare)", errno))?;
        let root = enter().map_err(not_entered)?;
        let root = root.map(keep).transpose()?;
        let (mount_namespace, sharer) = (keep(mount_namespace)?, keep(sharer)?);
        let umask = sys::files::set_umask(Mode::empty());
        sys::files::set_umask(umask);
        Ok(OwnFiles { mount_namespace, root, umask, sharer })
    }

    /// Gives the calling thread, which is at home, the root that the process has now. Fails where the kernel does not
    /// tell which root that is.
    ///
    /// **Why:** the process may call `chroot(2)` while the thread is idle. A view that is made by the thread afterwards
    /// would show what is outside of the new root. A thread that enters mounts gets their root, whatever its own is.
    pub(super) fn follow(&mut self) -> Result<(), Error> {
        // As seen from the root of the mount namespace, which a thread with no other root has.
        let is_there = sys::files::path_of_root_of_task(&*self.sharer).is_ok_and(|seen| seen == Path::new("/"));
        if is_there && self.root.is_none() {
            return Ok(());
        }
        let failed = |errno| Error::from_errno("follow the process to its root (chroot)", errno);
        let root = sys::files::root_of_task(&*self.sharer).map_err(failed)?;
        let here = sys::files::open_for_lookup(Path::new("/")).map_err(failed)?;
        if !sys::files::is_same_place(&here, &root) {
            sys::files::change_root(&root).map_err(failed)?;
            self.root = Some(keep(root)?);
        }
        Ok(())
    }

    /// Takes the calling thread back home.
    pub(super) fn restore(&self) -> Result<(), Error> {
        let back = || {
            match sys::setns(&*self.mount_namespace, CloneFlags::CLONE_NEWNS) {
                // A thread that the body started shares it, and keeps it.
                Err(Errno::EINVAL) => {
                    sys::unshare(CloneFlags::CLONE_FS)?;
                    sys::setns(&*self.mount_namespace, CloneFlags::CLONE_NEWNS)?;
                }
                result => result?,
            }
            self.root.as_ref().map_or(Ok(()), |root| sys::files::change_root(&**root))
        };
        sys::files::set_umask(self.umask);
        back().map_err(|errno| {
            Error::from_errno("go back to home's mount namespace (setns)", errno)
                .explain_entering_mounts(self.mount_namespace.as_fd())
        })
    }
}

fn keep(fd: OwnedFd) -> Result<Kept<OwnedFd>, Error> {
    Kept::new(fd).map_err(|source| Error::from_io(ErrorKind::Other, "identify a descriptor (fstat)", source))
}
