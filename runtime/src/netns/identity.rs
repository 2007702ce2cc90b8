//! What a namespace is known by, apart from its device and inode number: the number that is never used again, the
//! number that another namespace gave it, and its names.

use std::fs;
use std::path::PathBuf;

use super::{NetNs, explain_thread_self};
use crate::error::Error;
use crate::sys;

impl NetNs {
    /// The number of the namespace among all that have existed since the machine was started. No other gets the same,
    /// where an inode number may be used again.
    ///
    /// It is the value of `SO_NETNS_COOKIE` of its sockets. `None` before Linux 6.18.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let (one, other) = (NetNs::new()?, NetNs::new()?);
    /// if let (Some(one), Some(other)) = (one.cookie(), other.cookie()) {
    ///     assert_ne!(one, other);
    /// }
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `NS_GET_ID` in `linux/nsfs.h`; `SO_NETNS_COOKIE` in `socket(7)`.
    #[must_use]
    pub fn cookie(&self) -> Option<u64> {
        sys::namespace_number(self).ok()
    }

    /// The id that the calling thread's network namespace has for this one, as `ip netns list-id` shows it. `None`
    /// where it has none.
    ///
    /// The kernel gives one where a device is moved or linked from one namespace to the other, or where `ip netns
    /// set` asks for it. In netlink messages it says where the other end of a link is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LimitReached`](crate::ErrorKind::LimitReached) where no descriptor is left.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// assert_eq!(NetNs::new()?.nsid()?, None);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `ip-netns(8)`, `RTM_GETNSID` in `linux/net_namespace.h`.
    pub fn nsid(&self) -> Result<Option<u32>, Error> {
        let failed = |errno| Error::from_errno(format!("ask for the id of {self} (RTM_GETNSID)"), errno);
        sys::netlink_id_of(self).map_err(failed)
    }

    /// The paths that the namespace is bind-mounted on, sorted: its names in `/run/netns`, and others, as the calling
    /// thread's mount namespace shows them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where `/proc` is not mounted.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// # let name = &format!("in-netns-doc-names-{}", std::process::id());
    /// let ns = NetNs::create_named(name)?;
    /// let names = ns.names()?;
    /// # NetNs::delete_named(name)?;
    /// assert!(names[0].ends_with(name)); // /run/netns/NAME
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `proc_pid_mountinfo(5)`.
    pub fn names(&self) -> Result<Vec<PathBuf>, Error> {
        let operation = || format!("list the names of {self} (/proc/thread-self/mountinfo)");
        let table = fs::read("/proc/thread-self/mountinfo")
            .map_err(|error| explain_thread_self(Error::from_std(operation(), error)))?;
        let link = self.to_string();
        let mut names: Vec<_> = sys::mounts_of_namespaces(&table)
            .filter(|(root, _)| *root == link.as_bytes())
            .map(|(_, path)| path)
            // Another mount may cover it.
            .filter(|path| sys::identity_of(path) == Ok(self.id().device_and_inode()))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}
