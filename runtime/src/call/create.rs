//! Creates namespaces, on pinned threads: the caller's own thread never moves.

use nix::sched::CloneFlags;

use crate::call::pinned;
use crate::error::{Error, ErrorKind};
use crate::netns::{Names, NetNs, Reserved};
use crate::privileges::MAX_NET;
use crate::sys;
use crate::thread::pinned::is_pinned;

impl NetNs {
    /// Creates a new network namespace without a name. Its loopback interface is up.
    ///
    /// The namespace exists until its last user is gone: handles, threads, processes, sockets, mounts. Creating it
    /// takes about a millisecond.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN`, or without `CAP_NET_ADMIN`, which the loopback takes;
    /// [`ErrorKind::LimitReached`] if `user.max_net_namespaces` or the limit of descriptors is reached;
    /// [`ErrorKind::ThreadSpawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// let ns = in_netns::NetNs::new()?;
    /// let listener = ns.run(|| std::net::TcpListener::bind("[::1]:443"))??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    ///
    /// `unshare(2)` with `CLONE_NEWNET`.
    pub fn new() -> Result<NetNs, Error> {
        new_with(|| ()).map(|(netns, ())| netns)
    }

    /// Creates a new network namespace with a name, as `ip netns add` does: bound to `/run/netns/NAME`, in a shared
    /// mount.
    ///
    /// In addition, the loopback interface is brought up. The namespace exists until [`NetNs::delete_named`], even
    /// after the process has exited.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`]; [`ErrorKind::AlreadyExists`], with nothing changed; [`ErrorKind::PermissionDenied`]
    /// without `CAP_SYS_ADMIN` in the user namespace that owns the mount namespace, and where the user may not write to
    /// the directory; those of [`NetNs::new`]. No file or mount is left behind on an error.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use in_netns::NetNs;
    ///
    /// let blue = NetNs::create_named("blue")?;
    /// let listener = blue.tcp_listen("127.0.0.1:80")?;
    /// assert_eq!(NetNs::of_socket(&listener)?, NetNs::from_name("blue")?);
    /// NetNs::delete_named("blue")?; // the handle still keeps the namespace
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    ///
    /// `ip-netns(8)`, `mount(2)`.
    pub fn create_named(name: &str) -> Result<NetNs, Error> {
        create(Reserved::take(name)?)
    }

    /// Moves the calling thread into this namespace permanently. Use it for a thread that you own and that does nothing
    /// else.
    ///
    /// Nothing restores the thread. Threads that it starts afterwards start in this namespace. On the main thread, it
    /// also changes what `/proc/self/ns/net` and `/proc/net` show of the process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`]; [`ErrorKind::Unsupported`] on a pinned thread, whose namespace is managed by
    /// guards, and if the handle was opened in another table of file descriptors.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// let here = std::thread::spawn({
    ///     let ns = ns.clone();
    ///     move || ns.join().and_then(|()| ns.is_current())
    /// });
    /// assert!(here.join().unwrap()?);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    pub fn join(&self) -> Result<(), Error> {
        if is_pinned() {
            let why = "this is a pinned thread, which returns home when the call ends; use a guard (`pinned`), or a \
                thread of your own";
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("move the calling thread to {self} permanently"),
                why,
            ));
        }
        let target = self.as_target();
        target.check_table()?;
        target.setns()?;
        if sys::is_main_thread() {
            sys::at_start::moved_to(self.id().inode());
        }
        Ok(())
    }
}

impl Names {
    /// Creates a new network namespace with a name in this directory. Its loopback interface is up.
    ///
    /// # Errors
    ///
    /// As [`NetNs::create_named`]; [`ErrorKind::NotFound`] if the parent of the directory does not exist, and
    /// [`ErrorKind::NotADirectory`] if the directory is a file.
    pub fn create(&self, name: &str) -> Result<NetNs, Error> {
        create(self.reserve(name)?)
    }
}

/// Creates a namespace, and calls `inside` on the thread that is in it.
pub(super) fn new_with<R: Send>(inside: impl FnOnce() -> R + Send) -> Result<(NetNs, R), Error> {
    pinned(|_| {
        sys::unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::from_errno("make a network namespace (unshare)", errno).explain_unshare(MAX_NET))?;
        let socket = sys::socket::loopback_up().map_err(|errno| {
            Error::from_errno("bring the loopback of a new network namespace up", errno).explain_loopback()
        })?;
        // Asking the socket for its namespace takes half the time of opening the file in `/proc`.
        let netns = NetNs::of_socket(socket).or_else(|_| NetNs::current())?;
        Ok((netns, inside()))
        // The end of the lease returns the thread home.
    })?
}

/// Creates a namespace for a name. If that fails, the name is released.
fn create(reserved: Reserved) -> Result<NetNs, Error> {
    let netns = NetNs::new()?;
    reserved.bind(&netns)?;
    Ok(netns)
}
