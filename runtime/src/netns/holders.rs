//! Lists what keeps a namespace alive.
//!
//! **Promised:** what is listed held the namespace when it was looked at. What is not listed may still hold it:
//! `/proc` is read one file after another, and shows of other processes what the caller may see of them (`ptrace(2)`,
//! access mode `PTRACE_MODE_READ_FSCREDS`; for sockets `PTRACE_MODE_ATTACH_REALCREDS`).
//!
//! **How:** threads by their `ns/net`; descriptors by what their link says, `net:[INODE]`; sockets by a copy of the
//! descriptor (`pidfd_getfd(2)`, Linux 5.6), asked for its namespace (`SIOCGSKNS`) and closed again; mounts by
//! `mountinfo`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::names::canonical_directories;
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys;

/// Something that keeps a network namespace alive. [`NetNs::holders`] lists them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Holder {
    /// A thread that is in it.
    #[non_exhaustive]
    Thread {
        /// The id of the process.
        process: u32,
        /// The id of the thread; that of the process for its leader.
        thread: u32,
        /// The thread's name: 15 bytes at most.
        name: String,
    },
    /// An open descriptor of the namespace.
    #[non_exhaustive]
    Descriptor {
        /// The id of the process that has it open.
        process: u32,
        /// Its number there.
        fd: u32,
    },
    /// A socket that was made in it.
    #[non_exhaustive]
    Socket {
        /// The id of the process that has it open.
        process: u32,
        /// Its number there.
        fd: u32,
    },
    /// A bind mount of the namespace, in a mount namespace other than the caller's or outside of `/run/netns`.
    #[non_exhaustive]
    Mount {
        /// A process that sees it.
        process: u32,
        /// Where that process sees it.
        path: PathBuf,
    },
    /// A name that `ip netns` knows: a mount in `/run/netns`, in the caller's own mount namespace.
    #[non_exhaustive]
    Name {
        /// As in `ip netns list`.
        name: String,
        /// The file: `/run/netns/NAME`, or `/var/run/netns/NAME` where that is another directory.
        path: PathBuf,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Thread { process, thread, name } => write!(out, "thread {thread} `{name}` of process {process}"),
            Holder::Descriptor { process, fd } => write!(out, "descriptor {fd} of process {process}"),
            Holder::Socket { process, fd } => write!(out, "socket {fd} of process {process}"),
            Holder::Mount { process, path } => write!(out, "mount {} as process {process} sees it", path.display()),
            Holder::Name { name, path } => write!(out, "name `{name}` ({})", path.display()),
        }
    }
}

impl NetNs {
    /// Lists who keeps the namespace alive, but for this handle and its clones: threads, descriptors, sockets, mounts
    /// and names, of this process and of those others that `/proc` lets the caller look into.
    ///
    /// It is a snapshot, and for diagnosis: it reads all of `/proc`, and for a moment holds a copy of each socket
    /// that it asks.
    ///
    /// Not seen are:
    ///
    /// - processes of other users, where the caller lacks `CAP_SYS_PTRACE`, and those that this `/proc` does not show;
    /// - sockets before Linux 5.6, where `/proc` is that of another pid namespace, or where the caller lacks
    ///   `CAP_NET_ADMIN` over their namespace;
    /// - what no process has a number for: descriptors in flight over a Unix socket, connections whose descriptor is
    ///   closed and which the kernel is still ending, and devices or tunnels that the kernel itself keeps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where `/proc` is not mounted, [`ErrorKind::LimitReached`] where no descriptor is left
    /// to read it.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use std::net::UdpSocket;
    /// use in_netns::{Holder, NetNs};
    ///
    /// let ns = NetNs::new()?;
    /// assert_eq!(ns.holders()?, []);
    /// let socket = ns.run(|| UdpSocket::bind("127.0.0.1:0"))??;
    /// for holder in ns.holders()? {
    ///     println!("{ns} is held by {holder}"); // net:[4026532181] is held by socket 5 of process 1234
    ///     assert!(matches!(holder, Holder::Socket { .. }));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    ///
    /// `namespaces(7)`, `proc_pid_fd(5)`, `proc_pid_mountinfo(5)`, `pidfd_getfd(2)`.
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        let failed = |source: io::Error| {
            let operation = format!("list who holds {self} (/proc)");
            match source.raw_os_error() {
                Some(errno) => Error::from_errno(operation, Errno::from_raw(errno)),
                None => Error::from_io(ErrorKind::Other, operation, source),
            }
        };
        // As `/proc` numbers it, which is not as `getpid` does where `/proc` is that of another pid namespace.
        let me = sys::number_in_proc().map_err(failed)?;
        let directories =
            canonical_directories().map(|(canonical, names)| (canonical, names.directory().to_owned())).collect();
        let mut search =
            Search { ns: self, me, found: BTreeSet::new(), mount_namespaces: BTreeSet::new(), directories };
        // This one first: a mount that it sees too is shown as it sees it.
        search.process(me);
        for process in sys::numbered_entries(Path::new("/proc")).map_err(failed)? {
            if process != me {
                search.process(process);
            }
        }
        Ok(search.found.into_iter().collect())
    }
}

struct Search<'n> {
    ns: &'n NetNs,
    /// This process.
    me: u32,
    found: BTreeSet<Holder>,
    /// Those whose mounts have been looked at.
    mount_namespaces: BTreeSet<PathBuf>,
    /// The directories of names: as mount tables show them, and as `ip netns` does.
    directories: Vec<(PathBuf, PathBuf)>,
}

impl Search<'_> {
    /// A process that is gone, or closed to the caller, has nothing to show.
    fn process(&mut self, process: u32) {
        let directory = PathBuf::from(format!("/proc/{process}"));
        let link = self.ns.to_string();
        for thread in sys::threads_of(&directory).unwrap_or_default() {
            let task = directory.join(format!("task/{thread}"));
            if fs::read_link(task.join("ns/net")).is_ok_and(|there| there.as_os_str() == link.as_str()) {
                let name = sys::task_name(&task).unwrap_or_default();
                self.found.insert(Holder::Thread { process, thread, name });
            }
        }
        self.descriptors(process, &directory, &link);
        self.mounts(process, &directory, &link);
    }

    fn descriptors(&mut self, process: u32, directory: &Path, link: &str) {
        let own = (process == self.me).then(|| self.ns.as_fd().as_raw_fd().unsigned_abs());
        // Only then does `pidfd_open` mean the same process by the same number.
        let can_ask = self.me == sys::process_id().as_raw().unsigned_abs();
        let mut pidfd = None;
        for fd in sys::numbered_entries(&directory.join("fd")).unwrap_or_default() {
            let Ok(target) = fs::read_link(directory.join(format!("fd/{fd}"))) else { continue };
            let Some(target) = target.to_str() else { continue };
            if target == link && own != Some(fd) {
                self.found.insert(Holder::Descriptor { process, fd });
            } else if can_ask && target.starts_with("socket:[") {
                // One for all of them, and none for a process without sockets.
                let pidfd = pidfd.get_or_insert_with(|| sys::pidfd_of_process(process));
                let socket = pidfd.as_ref().ok().and_then(|pidfd| sys::copy_of_descriptor(pidfd, fd).ok());
                if socket.is_some_and(|socket| NetNs::of_socket(socket).is_ok_and(|ns| ns == *self.ns)) {
                    self.found.insert(Holder::Socket { process, fd });
                }
            }
        }
    }

    /// Once for each mount namespace.
    fn mounts(&mut self, process: u32, directory: &Path, link: &str) {
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else { return };
        if !self.mount_namespaces.insert(namespace) {
            return;
        }
        let is_ours = self.mount_namespaces.len() == 1;
        let table = fs::read(directory.join("mountinfo")).unwrap_or_default();
        for line in table.split(|byte| *byte == b'\n') {
            // ID PARENT MAJOR:MINOR ROOT POINT …, where the root of such a mount is the link itself.
            let mut fields = line.split(|byte| *byte == b' ').skip(3);
            let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
            if root != link.as_bytes() {
                continue;
            }
            let path = sys::unescaped_path(point);
            let name = self.name_at(&path).filter(|_| is_ours);
            self.found.insert(name.unwrap_or(Holder::Mount { process, path }));
        }
    }

    /// The name whose file a mount point is.
    fn name_at(&self, mount_point: &Path) -> Option<Holder> {
        let directory = mount_point.parent()?;
        let name = mount_point.file_name()?.to_str()?.to_owned();
        let (_, shown) = self.directories.iter().find(|(canonical, _)| canonical == directory)?;
        Some(Holder::Name { path: shown.join(&name), name })
    }
}
