//! A network namespace, held by a descriptor.
//!
//! **Promised:** a [`NetNs`] is a network namespace, checked when it was opened; it stays the same one whatever
//! happens to the name, path or process that it was found by; two handles are equal if and only if they hold the same
//! namespace.
//!
//! **Why a descriptor:** an open descriptor keeps the namespace alive, and its inode number is not reused meanwhile. A
//! name can be moved and a process id reused; and opening a file in `/proc` on every call costs more than the switch.

pub(crate) mod holders;
mod identity;
pub(crate) mod inventory;
pub(crate) mod mounts;
mod names;
mod pidfd;
mod place;
mod target;
pub(crate) mod watch;
mod weak;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::error::{Error, ErrorKind};
use crate::sys::descriptor_table::TableBound;
use crate::sys::{self, Kind, ProcTask};

pub use names::Names;
pub(crate) use names::{Reserved, names_for_ip};
pub use place::Place;
pub(crate) use place::Target;
pub use target::IntoNetNs;
pub use weak::WeakNetNs;

/// A network namespace.
///
/// A handle is an open descriptor: it keeps the namespace alive. Cloning shares the descriptor and costs no syscall.
/// Handles compare and hash by the identity of the namespace, not by how it was found.
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::NetNs;
///
/// let blue = NetNs::new()?;
/// let red = NetNs::new()?;
/// assert_ne!(blue, red);
/// assert_eq!(blue.run(NetNs::current)??, blue);
/// # Ok::<(), in_netns::Error>(())
/// ```
///
/// # References
///
/// `network_namespaces(7)`, `namespaces(7)`, `ip-netns(8)`.
#[derive(Clone)]
pub struct NetNs(Arc<Inner>);

struct Inner {
    fd: TableBound,
    /// Dropped after the descriptor is closed.
    #[allow(dead_code, reason = "its destructor is what it is for")]
    companion: Option<Box<dyn Companion>>,
}

/// A value that a handle and its clones keep, and whose destructor runs when the last of them is gone.
pub(crate) trait Companion: Send + Sync + UnwindSafe + RefUnwindSafe {}

/// The identity of a network namespace: device and inode of the namespace filesystem.
///
/// It is unique among the namespaces that exist. The kernel may use the number again once the namespace is gone, so
/// an id is a lasting name only while something, such as a [`NetNs`], holds the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetNsId {
    device: u64,
    inode: u64,
}

impl NetNsId {
    /// The device number of the namespace filesystem.
    #[must_use]
    pub fn device(self) -> u64 {
        self.device
    }

    /// The inode number: the one that `/proc/PID/ns/net` shows, and `lsns(8)`.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.inode
    }

    pub(crate) fn device_and_inode(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl fmt::Display for NetNsId {
    /// As the links in `/proc/PID/ns` have it: `net:[4026531840]`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "net:[{}]", self.inode)
    }
}

impl NetNs {
    /// The network namespace that the calling thread is in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where `/proc` is not mounted, [`ErrorKind::LimitReached`] where no descriptor is left.
    pub fn current() -> Result<NetNs, Error> {
        let operation = || "open the calling thread's network namespace (/proc/thread-self/ns/net)";
        let fd = Kind::Net.open(ProcTask::Current).map_err(|errno| of_calling_thread(operation(), errno))?;
        NetNs::checked(fd, operation)
    }

    /// The namespace behind a path: a bind mount, or a file such as `/proc/PID/ns/net`.
    ///
    /// The file is opened without blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::NotANetNs`], [`ErrorKind::PermissionDenied`], [`ErrorKind::LimitReached`];
    /// [`ErrorKind::InvalidName`] where the path contains a NUL byte.
    pub fn from_path(path: impl AsRef<Path>) -> Result<NetNs, Error> {
        let path = path.as_ref();
        NetNs::open(path, || {
            if path.as_os_str().is_empty() {
                return "open a network namespace by an empty path".into();
            }
            format!("open the network namespace {}", path.display())
        })
    }

    /// The namespace that a descriptor is open on, such as one received over a socket. A process descriptor stands
    /// for the namespace of its process: see [`NetNs::from_pidfd`]. A descriptor of a path alone (`O_PATH`) is opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotANetNs`]; with a process descriptor, those of [`NetNs::from_pidfd`]. The descriptor is then
    /// closed.
    pub fn from_fd(fd: OwnedFd) -> Result<NetNs, Error> {
        let operation = || "use a descriptor as a network namespace".to_owned();
        if sys::is_pidfd(&fd) {
            return pidfd::of_pidfd(fd.as_fd(), &operation);
        }
        if sys::is_path_only(&fd) && sys::is_namespace_file(&fd) == Ok(true) {
            // Neither `ioctl(2)` nor `setns(2)` takes it.
            let opened = sys::open_namespace_file(&sys::path_of_descriptor(&fd));
            return NetNs::checked(opened.map_err(|errno| of_calling_thread(&operation(), errno))?, operation);
        }
        NetNs::checked(fd, operation)
    }

    /// The namespace that a socket was created in, whichever thread or process uses it now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotASocket`]; [`ErrorKind::PermissionDenied`] without `CAP_NET_ADMIN` over the socket's namespace.
    ///
    /// # References
    ///
    /// `SIOCGSKNS` in `linux/sockios.h`.
    pub fn of_socket(socket: impl AsFd) -> Result<NetNs, Error> {
        let operation = || "ask a socket for its network namespace (SIOCGSKNS)";
        match sys::netns_of_socket(socket) {
            Ok(fd) => NetNs::checked(fd, operation),
            Err(Errno::ENOTTY | Errno::ENOTSOCK | Errno::EINVAL | Errno::EBADF) => {
                Err(Error::new(ErrorKind::NotASocket, operation(), "the descriptor is not a socket"))
            }
            Err(errno) => Err(Error::from_errno(operation(), errno).explain_looking_at_socket()),
        }
    }

    /// The identity of the namespace.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        let (device, inode) = self.0.fd.identity();
        NetNsId { device, inode }
    }

    /// Whether the calling thread is in this namespace now. Needs no descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where `/proc` is not mounted.
    pub fn is_current(&self) -> Result<bool, Error> {
        let operation = "look at the calling thread's network namespace (/proc/thread-self/ns/net)";
        let here = sys::identity_of(&Kind::Net.file_in(ProcTask::Current.proc_path()));
        Ok(here.map_err(|errno| of_calling_thread(operation, errno))? == self.id().device_and_inode())
    }

    /// Opens a file and checks it. The error says what an ordinary file in its place means.
    fn open<O: Into<String>>(path: &Path, operation: impl Fn() -> O) -> Result<NetNs, Error> {
        names::check_path(path, &operation)?;
        // Nothing exists at that path, so it is `NotFound` as for a missing file.
        let leads_nowhere = |errno, why: &str| {
            let error = Error::from_errno(operation(), errno).with_kind(ErrorKind::NotFound);
            error.explain_missing(path).explain(|_| Some(why.to_owned()))
        };
        let failed = |errno| match errno {
            Errno::ENOTDIR => leads_nowhere(errno, "a part of the path is a file where a directory is expected"),
            Errno::ELOOP => leads_nowhere(errno, "the path leads through too many symbolic links"),
            Errno::ENAMETOOLONG => leads_nowhere(errno, "a part of the path is too long"),
            _ => Error::from_errno(operation(), errno).explain_missing(path).explain_opening(path),
        };
        // Nothing else is opened: that would let the writer of a FIFO go on, and set some devices to work.
        if !sys::leads_to_namespace_file(path).map_err(failed)? {
            return Err(not_a_namespace(operation(), sys::is_ordinary_file_at(path)));
        }
        let fd = sys::open_namespace_file(path).map_err(failed)?;
        NetNs::checked(fd, operation)
    }

    /// Makes a handle of a descriptor. An error where it is not one of a network namespace.
    pub(crate) fn checked<O: Into<String>>(fd: OwnedFd, operation: impl Fn() -> O) -> Result<NetNs, Error> {
        let failed = |errno| Error::from_errno(operation(), errno);
        if !sys::is_namespace_file(&fd).map_err(failed)? {
            return Err(not_a_namespace(operation(), sys::is_ordinary_file(&fd)));
        }
        match sys::namespace_type(&fd).map_err(failed)? {
            CloneFlags::CLONE_NEWNET => {}
            other => return Err(not_a_netns(operation(), kind_of_namespace(other))),
        }
        let fd = TableBound::new(fd).map_err(failed)?;
        Ok(NetNs(Arc::new(Inner { fd, companion: None })))
    }

    /// Gives a companion to a new handle, of which there is no clone yet.
    pub(crate) fn with_companion(mut self, companion: impl Companion + 'static) -> NetNs {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => inner.companion = Some(Box::new(companion)),
            None => unreachable!("the handle is new"),
        }
        self
    }

    /// The target that a thread enters.
    pub(crate) fn as_target(&self) -> Target<'_> {
        Target::from_network(self.as_fd(), self)
    }
}

/// The error for a file of `/proc/thread-self` that cannot be opened.
fn of_calling_thread(operation: &str, errno: Errno) -> Error {
    explain_thread_self(Error::from_errno(operation, errno))
}

/// Adds why a file of `/proc/thread-self` was not found.
fn explain_thread_self(error: Error) -> Error {
    error.explain(|kind| {
        (kind == ErrorKind::NotFound).then(|| "not there: is /proc mounted, and is this its own pid namespace?".into())
    })
}

/// A kind of namespace other than the network one, as the manual pages name it.
fn kind_of_namespace(kind: CloneFlags) -> &'static str {
    /// `nix` does not have it yet.
    const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
    match kind {
        CloneFlags::CLONE_NEWCGROUP => "a cgroup namespace",
        CloneFlags::CLONE_NEWIPC => "an IPC namespace",
        CloneFlags::CLONE_NEWNS => "a mount namespace",
        CloneFlags::CLONE_NEWPID => "a PID namespace",
        CLONE_NEWTIME => "a time namespace",
        CloneFlags::CLONE_NEWUSER => "a user namespace",
        CloneFlags::CLONE_NEWUTS => "a UTS namespace",
        _ => "a namespace of another kind",
    }
}

/// The error for a file that is not one of a namespace.
fn not_a_namespace(operation: impl Into<String>, is_ordinary_file: bool) -> Error {
    let what = if is_ordinary_file {
        "an ordinary file; a name file looks like this once its mount is gone, or where this mount namespace does not \
         show it (`NetNs::delete_named` or `Names::delete` removes it)"
    } else {
        "no file of a namespace"
    };
    not_a_netns(operation, what)
}

fn not_a_netns(operation: impl Into<String>, what: &str) -> Error {
    Error::new(ErrorKind::NotANetNs, operation, format!("not a network namespace: {what}"))
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl AsRef<NetNs> for NetNs {
    fn as_ref(&self) -> &NetNs {
        self
    }
}

/// A namespace with a label: an item of [`walk`](crate::walk).
impl<L> AsRef<NetNs> for (L, NetNs) {
    fn as_ref(&self) -> &NetNs {
        &self.1
    }
}

/// An entry of a map from labels to namespaces.
impl<L> AsRef<NetNs> for (L, &NetNs) {
    fn as_ref(&self) -> &NetNs {
        self.1
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &NetNs) -> bool {
        self.id() == other.id()
    }
}

impl Eq for NetNs {}

impl Hash for NetNs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Display for NetNs {
    /// As [`NetNsId`]: `net:[4026531840]`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(out)
    }
}

impl fmt::Debug for NetNs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NetNs({self})")
    }
}
