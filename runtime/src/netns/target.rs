//! What can be given where a network namespace is asked for.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{NetNs, Place};
use crate::error::Error;

/// What [`with_netns`](crate::with_netns) and `#[in_netns(…)]` take for a namespace.
///
/// A string is a name, as in `ip netns`; where it starts with `/`, it is a path. A descriptor is duplicated where it is
/// borrowed; one of a process (`pidfd_open(2)`) stands for the namespace of that process. A number is not taken: write
/// [`NetNs::from_pid`].
///
/// The conversion happens on the calling thread, once a call; a [`NetNs`] that is kept saves the opening.
///
/// Implement it for a type of your own to pass that type to the attribute:
///
/// ```
/// use in_netns::{Error, IntoNetNs, NetNs};
///
/// struct Pod {
///     sandbox: u32,
/// }
///
/// impl IntoNetNs for &Pod {
///     fn into_netns(self) -> Result<NetNs, Error> {
///         NetNs::from_pid(self.sandbox)
///     }
/// }
/// # let pod = Pod { sandbox: std::process::id() };
/// # assert_eq!((&pod).into_netns()?, NetNs::current()?);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a network namespace",
    label = "not a network namespace, nor a way to find one",
    note = "give a `NetNs` or a `&NetNs`, a name (`&str`), a path (`&Path`) or a descriptor (`BorrowedFd`, `OwnedFd`)",
    note = "of a `Result`, give the value: `ns?`; of an `Arc` or a `Box`, what it holds: `&*ns`; of a `File`, its \
            descriptor: `file.as_fd()`",
    note = "for a process id, whether an integer or a `Pid`, write `NetNs::from_pid(id)?`, where `id` is a `u32`"
)]
pub trait IntoNetNs {
    /// Finds and opens the namespace.
    ///
    /// # Errors
    ///
    /// Those of the constructor that it stands for, such as [`NetNs::from_name`].
    fn into_netns(self) -> Result<NetNs, Error>;

    /// As [`IntoNetNs::into_netns`], with what a [`View`](crate::View) has besides.
    #[doc(hidden)]
    fn into_place(self) -> Result<Place, Error>
    where
        Self: Sized,
    {
        self.into_netns().map(Place::from)
    }
}

impl IntoNetNs for NetNs {
    fn into_netns(self) -> Result<NetNs, Error> {
        Ok(self)
    }
}

impl IntoNetNs for &NetNs {
    fn into_netns(self) -> Result<NetNs, Error> {
        Ok(self.clone())
    }
}

impl IntoNetNs for &str {
    fn into_netns(self) -> Result<NetNs, Error> {
        if self.starts_with('/') { NetNs::from_path(self) } else { NetNs::from_name(self) }
    }
}

impl IntoNetNs for String {
    fn into_netns(self) -> Result<NetNs, Error> {
        self.as_str().into_netns()
    }
}

impl IntoNetNs for &String {
    fn into_netns(self) -> Result<NetNs, Error> {
        self.as_str().into_netns()
    }
}

impl IntoNetNs for &Path {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::from_path(self)
    }
}

impl IntoNetNs for PathBuf {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::from_path(self)
    }
}

impl IntoNetNs for &PathBuf {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::from_path(self)
    }
}

impl IntoNetNs for OwnedFd {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::from_fd(self)
    }
}

impl IntoNetNs for BorrowedFd<'_> {
    fn into_netns(self) -> Result<NetNs, Error> {
        let fd = self.try_clone_to_owned().map_err(|source| Error::from_std("duplicate a descriptor", source))?;
        NetNs::from_fd(fd)
    }
}
