//! Making namespaces, on pinned threads: the caller's own never moves, not even to make one.

use nix::sched::CloneFlags;

use crate::call::pinned;
use crate::error::{Error, ErrorKind};
use crate::netns::{Names, NetNs, Reserved};
use crate::sys;
use crate::thread::pinned::is_pinned;

impl NetNs {
    /// Makes a new network namespace with no name, its loopback interface up.
    ///
    /// It is gone with its last user: handles, threads and processes in it, sockets, mounts. Making one takes about a
    /// millisecond.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN`; [`ErrorKind::LimitReached`] where
    /// `user.max_net_namespaces` or the descriptors are used up; [`ErrorKind::ThreadSpawn`].
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
        pinned(|_| {
            sys::unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::from_errno("make a network namespace (unshare)", errno).explain_unshare())?;
            // Any socket carries the request; this one needs no address family beyond IPv4.
            loopback_up()
                .map_err(|errno| Error::from_errno("bring the loopback of a new network namespace up", errno))?;
            NetNs::current()
            // The end of the lease takes the thread home.
        })?
    }

    /// Makes a new network namespace with a name, as `ip netns add` does: bound to `/run/netns/NAME`, in a shared
    /// mount.
    ///
    /// One thing is done besides: the loopback interface is up. The namespace stays until [`NetNs::delete_named`], even
    /// when the process has exited.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`]; [`ErrorKind::AlreadyExists`], with nothing changed;
    /// [`ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN` in the user namespace that owns the mount namespace.
    /// Nothing is left behind then.
    ///
    /// # References
    ///
    /// `ip-netns(8)`, `mount(2)`.
    pub fn create_named(name: &str) -> Result<NetNs, Error> {
        create(Reserved::take(name)?)
    }

    /// Moves the calling thread into this namespace, for good. For a thread that you own and that will do nothing else.
    ///
    /// Nothing restores it. Threads that it starts later start here. On the process's leader (the main thread) it
    /// also moves what `/proc/self/ns/net` and `/proc/net` show of the process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`]; [`ErrorKind::Unsupported`] on a pinned thread, whose stay is the guard's
    /// affair.
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
            let why = "this is a pinned thread, which goes home when the call ends; use a guard (`pinned`), or a \
                thread of your own";
            return Err(Error::new(ErrorKind::Unsupported, format!("move the calling thread to {self} for good"), why));
        }
        self.as_target().setns()
    }
}

impl Names {
    /// Makes a new network namespace with a name in this directory, its loopback interface up.
    ///
    /// # Errors
    ///
    /// As [`NetNs::create_named`]; [`ErrorKind::NotFound`] where the parent of the directory does not exist.
    pub fn create(&self, name: &str) -> Result<NetNs, Error> {
        create(self.reserve(name)?)
    }
}

/// Makes a namespace for a name. Where that fails, the name is given back.
fn create(reserved: Reserved) -> Result<NetNs, Error> {
    let netns = NetNs::new()?;
    reserved.bind(&netns)?;
    Ok(netns)
}

/// Brings loopback up where the calling thread is.
fn loopback_up() -> nix::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let carrier = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    sys::bring_loopback_up(carrier)
}
