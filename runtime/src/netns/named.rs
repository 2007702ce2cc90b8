//! Named namespaces, as `ip-netns(8)` keeps them: `/run/netns/NAME` is a file with the namespace bind-mounted on it, in a
//! directory that is a shared mount, so that every mount namespace sees names come and go.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::NetNs;
use crate::error::{Error, ErrorKind};
use crate::sys::{self, MntFlags, MsFlags};

/// Where `ip netns` keeps its names.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// `NAME_MAX` of `limits.h`.
const LONGEST_NAME: usize = 255;

/// The file of a name, if it can be one. `verb` is for the message: nothing has been touched when this fails.
pub(super) fn path_of(name: &str, verb: &str) -> Result<PathBuf, Error> {
    let refuse = |why: &str| {
        let operation = format!("{verb} the network namespace {name:?}");
        Err(Error::new(ErrorKind::InvalidName, operation, format!("{why} (a path works with `NetNs::from_path`)")))
    };
    match name {
        "" => refuse("the name is empty"),
        "." | ".." => refuse("the name is a directory's"),
        _ if name.contains('/') => refuse("the name contains a `/`"),
        _ if name.contains('\0') => refuse("the name contains a NUL byte"),
        _ if name.len() > LONGEST_NAME => refuse("the name is longer than 255 bytes"),
        _ => Ok(Path::new(DIRECTORY).join(name)),
    }
}

impl NetNs {
    /// Removes a name, as `ip netns del` does.
    ///
    /// The namespace itself goes with its last user: threads and processes in it, sockets and handles stay as they are. A
    /// name file that has lost its mount is removed too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`], [`ErrorKind::NotFound`], [`ErrorKind::PermissionDenied`].
    ///
    /// # References
    ///
    /// `ip-netns(8)`, `umount2(2)` with `MNT_DETACH`.
    pub fn delete_named(name: &str) -> Result<(), Error> {
        let path = path_of(name, "delete")?;
        let failed = |errno| {
            let operation = format!("delete the network namespace `{name}` ({})", path.display());
            Error::from_errno(operation, errno).explain_making()
        };
        match sys::umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: not a mount, so a file that some crash or reboot left, or a link. It goes all the same.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(failed(errno)),
        }
        fs::remove_file(&path).map_err(|error| failed(errno_of(&error)))
    }

    /// The names in `/run/netns`, sorted: those that `ip netns list` prints.
    ///
    /// A name without a namespace behind it (its mount is gone) is listed too, as there; [`NetNs::from_name`] tells. A file
    /// whose name is not UTF-8 is left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`]. No directory means no names, not an error.
    pub fn list_named() -> Result<Vec<String>, Error> {
        let failed = |error: io::Error| Error::from_errno(format!("list {DIRECTORY}"), errno_of(&error));
        let entries = match fs::read_dir(DIRECTORY) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A name file that is ours, with no namespace on it yet.
pub(crate) struct Reserved {
    path: PathBuf,
    operation: String,
}

impl Reserved {
    /// Takes the name: makes the directory ready, and the file, which nobody else can then have made.
    pub(crate) fn take(name: &str) -> Result<Reserved, Error> {
        let path = path_of(name, "create")?;
        let operation = format!("create the network namespace `{name}` ({})", path.display());
        let failed = |errno| Error::from_errno(operation.clone(), errno).explain_making();
        prepare_directory().map_err(failed)?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o000)
            .open(&path)
            .map_err(|error| failed(errno_of(&error)))?;
        Ok(Reserved { path, operation })
    }

    /// Binds a namespace to the name.
    pub(crate) fn bind(&self, netns: &NetNs) -> Result<(), Error> {
        let source = format!("/proc/thread-self/fd/{}", netns.as_fd().as_raw_fd());
        sys::mount(Some(source.as_str()), &self.path, Some("none"), MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::from_errno(self.operation.clone(), errno).explain_making())
    }

    /// Gives the name back. At worst an ordinary file stays, which `NetNs::delete_named` removes.
    pub(crate) fn return_lease(self) {
        let _ = fs::remove_file(self.path);
    }
}

/// Sees to it that `/run/netns` is there and a shared mount, under the lock that iproute2 takes for the same purpose.
fn prepare_directory() -> Result<(), Errno> {
    match DirBuilder::new().mode(0o755).create(DIRECTORY) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(errno_of(&error)),
        _ => {}
    }
    let directory = File::open(DIRECTORY).map_err(|error| errno_of(&error))?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    match share_mount() {
        // Not a mount of its own yet: make it one.
        Err(Errno::EINVAL) => {
            sys::mount(Some(DIRECTORY), DIRECTORY, Some("none"), MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            share_mount()
        }
        other => other,
    }
}

fn share_mount() -> Result<(), Errno> {
    sys::mount(Some(""), DIRECTORY, Some("none"), MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
}

/// The number behind an error that std reported. All of std's own file errors here have one.
fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
