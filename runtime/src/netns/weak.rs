//! Weak handles, which do not keep their namespace alive.
//!
//! **Promised:** a [`WeakNetNs`] leads to the namespace that it was made of, or to none.
//!
//! **Why a file handle:** an inode number is used again, and a descriptor keeps the namespace alive. The file handle
//! of a namespace has the number that the kernel never gives to another one.

use crate::sys::inherited::Inherited;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use nix::errno::Errno;

use super::NetNs;
use crate::error::{Error, ErrorKind};
use crate::privileges::may_administer;
use crate::sys;

/// A network namespace that is remembered without being kept alive, and without a descriptor.
///
/// Two of them are equal if they are of the same namespace, wherever they were made.
///
/// It can be stored: [`to_bytes`](WeakNetNs::to_bytes) and [`from_bytes`](WeakNetNs::from_bytes), also for another
/// process. After a restart of the machine it leads to no namespace. It takes Linux 6.18.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{ErrorKind, NetNs, WeakNetNs};
///
/// let ns = NetNs::new()?;
/// let weak = match ns.downgrade() {
///     Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()), // before Linux 6.18
///     weak => weak?,
/// };
/// let stored: [u8; WeakNetNs::BYTES] = weak.to_bytes();
/// assert_eq!(WeakNetNs::from_bytes(stored).upgrade()?.as_ref(), Some(&ns));
/// drop(ns);
/// assert_eq!(weak.upgrade()?, None);
/// # Ok::<(), in_netns::Error>(())
/// ```
///
/// # References
///
/// `open_by_handle_at(2)`; `struct nsfs_file_handle` in `linux/nsfs.h`, `FD_NSFS_ROOT` in `linux/fcntl.h`.
#[derive(Clone, Copy)]
pub struct WeakNetNs {
    handle: [u8; 16],
    boot: BootId,
    /// The number of the user namespace that the maker was in, if the namespace belongs to that one or to one below it;
    /// 0 otherwise. `CAP_SYS_ADMIN` there is the permission to open the namespace.
    made_in: u64,
}

/// Identifies one start of the machine. Each start numbers its namespaces from the beginning, so the numbers alone do
/// not.
type BootId = [u8; 16];

impl NetNs {
    /// Makes a handle that does not keep the namespace alive.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] before Linux 6.18, or where `/proc` does not show `kernel/random/boot_id`;
    /// [`ErrorKind::LimitReached`] where no descriptor is left.
    pub fn downgrade(&self) -> Result<WeakNetNs, Error> {
        let operation = || format!("remember {self} without keeping it");
        let short = |errno| Error::from_errno(operation(), errno);
        let handle = sys::handle_of_namespace(self).map_err(|errno| match errno {
            // Too short to find out what a filter allows, or to make the handle.
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => short(errno),
            _ => short(errno).with_kind(ErrorKind::Unsupported).explained(TOO_OLD),
        })?;
        let boot = sys::unless_short(boot_id()).map_err(short)?;
        let boot = boot.ok_or_else(|| Error::new(ErrorKind::Unsupported, operation(), NO_BOOT_ID))?;
        let is_within = sys::unless_short(sys::owning_user_namespace(self)).map_err(short)?.is_some();
        let own = sys::unless_short(own_user_namespace()).map_err(short)?;
        let made_in = own.filter(|_| is_within).map_or(0, |own| own.number);
        Ok(WeakNetNs { handle, boot, made_in })
    }
}

impl WeakNetNs {
    /// The length of [`WeakNetNs::to_bytes`].
    pub const BYTES: usize = 40;

    /// The namespace, if it still exists.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] where the calling thread may not open it, and so cannot tell whether it still
    /// exists: it is not the thread's own, and the thread may lack `CAP_SYS_ADMIN` in the user namespace that owns
    /// it; [`ErrorKind::Unsupported`] before Linux 6.18; [`ErrorKind::LimitReached`] where no descriptor is left.
    pub fn upgrade(&self) -> Result<Option<NetNs>, Error> {
        let operation = || format!("open {self}, which was remembered");
        let short = |errno| Error::from_errno(operation(), errno);
        match sys::unless_short(boot_id()).map_err(short)? {
            Some(boot) if boot == self.boot => {}
            Some(_) => return Ok(None),
            None => return Err(Error::new(ErrorKind::Unsupported, operation(), NO_BOOT_ID)),
        }
        match sys::open_namespace_handle(self.handle) {
            Ok(namespace) => NetNs::checked(namespace, operation).map(Some),
            Err(Errno::ESTALE) if sys::unless_short(self.may_open()).map_err(short)? == Some(true) => Ok(None),
            // The kernel says the same of a namespace that is gone and of one that the thread may not open.
            Err(Errno::ESTALE) => Err(Error::from_errno(operation(), Errno::EPERM).explained(DENIED)),
            Err(errno @ (Errno::EBADF | Errno::EOPNOTSUPP | Errno::ENOSYS)) => {
                Err(Error::from_errno(operation(), errno).with_kind(ErrorKind::Unsupported).explained(TOO_OLD))
            }
            Err(errno) => Err(Error::from_errno(operation(), errno)
                .explain(|kind| (kind == ErrorKind::PermissionDenied).then(|| DENIED.into()))),
        }
    }

    /// Whether the calling thread may open the namespace wherever it is: it has `CAP_SYS_ADMIN` in the user namespace
    /// that owns it, or in one above that.
    fn may_open(&self) -> nix::Result<bool> {
        let own = own_user_namespace()?;
        Ok(may_administer() && (own.is_initial || own.number == self.made_in))
    }

    /// The number of the namespace, as [`NetNs::cookie`] gives it.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&self.handle[..8]);
        u64::from_ne_bytes(number)
    }

    /// Returns the handle as bytes, which can be stored or sent to another process of this machine.
    #[must_use]
    pub fn to_bytes(self) -> [u8; WeakNetNs::BYTES] {
        let mut bytes = [0; WeakNetNs::BYTES];
        bytes[..16].copy_from_slice(&self.handle);
        bytes[16..32].copy_from_slice(&self.boot);
        bytes[32..].copy_from_slice(&self.made_in.to_ne_bytes());
        bytes
    }

    /// Makes a handle of what [`WeakNetNs::to_bytes`] returned. With other bytes, [`WeakNetNs::upgrade`] finds no
    /// namespace, or fails.
    #[must_use]
    pub fn from_bytes(bytes: [u8; WeakNetNs::BYTES]) -> WeakNetNs {
        let (mut handle, mut boot, mut made_in) = ([0; 16], BootId::default(), [0; 8]);
        handle.copy_from_slice(&bytes[..16]);
        boot.copy_from_slice(&bytes[16..32]);
        made_in.copy_from_slice(&bytes[32..]);
        WeakNetNs { handle, boot, made_in: u64::from_ne_bytes(made_in) }
    }

    /// The identity of the namespace, which does not include the maker's user namespace.
    fn namespace(&self) -> ([u8; 16], BootId) {
        (self.handle, self.boot)
    }
}

impl PartialEq for WeakNetNs {
    fn eq(&self, other: &WeakNetNs) -> bool {
        self.namespace() == other.namespace()
    }
}

impl Eq for WeakNetNs {}

impl Hash for WeakNetNs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace().hash(state);
    }
}

impl fmt::Display for WeakNetNs {
    /// By its cookie, which is not used again: `network namespace 108`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "network namespace {}", self.cookie())
    }
}

impl fmt::Debug for WeakNetNs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WeakNetNs({})", self.cookie())
    }
}

const DENIED: &str = "it is gone, or it is not to be opened by this thread, which may lack CAP_SYS_ADMIN in the user \
                      namespace that owns it";

const NO_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id cannot be read: is /proc mounted, and without `subset=pid`?";

const TOO_OLD: &str = "it takes Linux 6.18, whose namespaces have file handles (name_to_handle_at(2), \
                       open_by_handle_at(2)), and no seccomp filter that forbids their use; keep a `NetNs`, or a name";

/// The user namespace of the process.
struct UserNamespace {
    number: u64,
    is_initial: bool,
}

fn own_user_namespace() -> nix::Result<UserNamespace> {
    /// `USER_NS_INIT_INO` of `linux/nsfs.h`.
    const INITIAL: u64 = 0xEFFF_FFFD;
    let file = sys::open_namespace_file(Path::new("/proc/thread-self/ns/user"))?;
    let (_, inode) = sys::identity(&file)?;
    Ok(UserNamespace { number: sys::namespace_number(&file)?, is_initial: inode == INITIAL })
}

fn boot_id() -> nix::Result<BootId> {
    static BOOT: Inherited<BootId> = Inherited::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let text = read.map_err(|error| sys::errno_of(&error))?;
    let mut digits = text.trim().chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit.to_le_bytes()[0]);
    let mut boot = BootId::default();
    for byte in &mut boot {
        let mut next = || digits.next().ok_or(Errno::EINVAL);
        *byte = next()? << 4 | next()?;
    }
    BOOT.replace(boot);
    Ok(boot)
}
