//! Lists what keeps a namespace alive.
//!
//! **Promised:** each listed holder held the namespace when it was looked at. Others may hold it too: `/proc` is read
//! one file after another, and shows of other processes what the caller may see of them (`ptrace(2)`, access mode
//! `PTRACE_MODE_READ_FSCREDS`; for sockets `PTRACE_MODE_ATTACH_REALCREDS`).
//!
//! **How:** threads are found by their `ns/net`, descriptors by their link (`net:[INODE]`), mounts by `mountinfo`. A
//! socket is found by a copy of its descriptor (`pidfd_getfd(2)`, Linux 5.6), which is asked for its namespace
//! (`SIOCGSKNS`) and closed again. So is one of `/dev/net/tun` (Linux 4.20).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::explain_thread_self;
use super::names::canonical_directories;
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::{self, TaskState, Tid};

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
    /// A socket that was made in it, or a descriptor of `/dev/net/tun` that was opened in it.
    #[non_exhaustive]
    Socket {
        /// The id of the process that has it open.
        process: u32,
        /// Its number there.
        fd: u32,
    },
    /// A bind mount of the namespace, in a mount namespace other than the caller's or outside of `/run/netns`, or on a
    /// file there whose name is not UTF-8.
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
    /// Lists what keeps the namespace alive, except this handle and its clones: threads, descriptors, sockets, mounts
    /// and names, of this process and of the other processes that `/proc` lets the caller inspect.
    ///
    /// The list is a snapshot, for diagnosis: making it reads all of `/proc`, and for a moment holds a copy of each
    /// socket.
    ///
    /// It does not contain:
    ///
    /// - processes of other users, where the caller lacks `CAP_SYS_PTRACE`, and those that this `/proc` does not show;
    /// - sockets before Linux 5.6, where `/proc` is that of another pid namespace, or where the caller lacks
    ///   `CAP_NET_ADMIN` over their namespace;
    /// - descriptors and mounts of a thread that has a table of descriptors or a mount namespace of its own
    ///   (`unshare(2)` with `CLONE_FILES` or `CLONE_NEWNS`), in this process too: those of one thread are looked at,
    ///   which is the leader as long as it runs;
    /// - sockets of a process whose leader has exited, before Linux 6.9;
    /// - open files of `/proc/PID/net`, which keep the namespace too, and `/dev/tapN` of macvtap;
    /// - what no process has a descriptor of: descriptors in flight over a Unix socket, or registered with
    ///   `io_uring(7)` alone; packet sockets that are only mapped into memory; connections whose descriptor is closed
    ///   and which the kernel is still closing; and devices or tunnels that the kernel itself keeps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where `/proc` is not mounted,
    /// [`ErrorKind::LimitReached`](crate::ErrorKind::LimitReached) where no descriptor is left
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
    /// let socket = ns.run(|| UdpSocket::bind("127.0.0.1:0"))??;
    /// let holders = ns.holders()?;
    /// for holder in &holders {
    ///     println!("{ns} is held by {holder}"); // net:[4026532181] is held by socket 5 of process 1234
    /// }
    /// assert!(holders.iter().any(|holder| matches!(holder, Holder::Socket { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    ///
    /// `namespaces(7)`, `proc_pid_fd(5)`, `proc_pid_mountinfo(5)`, `pidfd_getfd(2)`.
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        let mut found = HoldersOf { ns: self, link: self.to_string(), holders: BTreeSet::new() };
        search(&mut found)
            .map_err(|source| explain_thread_self(Error::from_std(format!("list who holds {self} (/proc)"), source)))?;
        Ok(found.holders.into_iter().collect())
    }
}

/// What a search looks for, and collects.
pub(super) trait Collect {
    /// Whether the search looks for a namespace, given as links in `/proc` show it: `net:[4026531840]`.
    fn wants(&self, namespace: &str) -> bool;

    /// Records a holder of such a namespace. `open` opens the namespace by that holder, and fails with
    /// [`ErrorKind::NotFound`] where the holder is gone.
    fn found(&mut self, namespace: &str, holder: Holder, open: impl FnOnce() -> Result<NetNs, Error>);

    /// Records that something of a process could not be looked at.
    fn unseen(&mut self, process: u32, error: io::Error);

    /// Whether a descriptor of this process belongs to the search itself, and is no holder.
    fn is_own(&self, fd: u32) -> bool;
}

/// The holders of one namespace.
struct HoldersOf<'n> {
    ns: &'n NetNs,
    link: String,
    holders: BTreeSet<Holder>,
}

impl Collect for HoldersOf<'_> {
    fn wants(&self, namespace: &str) -> bool {
        namespace == self.link
    }

    fn found(&mut self, _: &str, holder: Holder, _: impl FnOnce() -> Result<NetNs, Error>) {
        self.holders.insert(holder);
    }

    fn unseen(&mut self, _: u32, _: io::Error) {}

    fn is_own(&self, fd: u32) -> bool {
        self.ns.as_fd().as_raw_fd().unsigned_abs() == fd
    }
}

/// Looks at every process in `/proc`. It is an error where a descriptor was missing for that: what was found may then
/// lack holders.
pub(super) fn search(collect: &mut impl Collect) -> io::Result<()> {
    // The number in `/proc`, which differs from `getpid` where `/proc` is that of another pid namespace.
    let me = sys::number_in_proc()?;
    let directories = canonical_directories()?
        .into_iter()
        .map(|(canonical, names)| (canonical, names.directory().to_owned()))
        .collect();
    let mut search = Search { collect, me, mount_namespaces: BTreeSet::new(), directories, shortage: None };
    // This process comes first, so that a mount that it sees too is shown with this process's path.
    search.process(me);
    for process in sys::numbered_entries(Path::new("/proc"))? {
        if process != me {
            search.process(process);
        }
    }
    search.shortage.map_or(Ok(()), |errno| Err(errno.into()))
}

struct Search<'c, C> {
    collect: &'c mut C,
    /// The number of this process in `/proc`.
    me: u32,
    /// The mount namespaces whose mounts have been read.
    mount_namespaces: BTreeSet<PathBuf>,
    /// The directories of names: the path in mount tables, and the path that `ip netns` uses.
    directories: Vec<(PathBuf, PathBuf)>,
    /// The error where a descriptor was missing.
    shortage: Option<Errno>,
}

impl<C: Collect> Search<'_, C> {
    /// Looks at one process. One that is gone is skipped.
    fn process(&mut self, process: u32) {
        let directory = PathBuf::from(format!("/proc/{process}"));
        let threads = sys::threads_of(&directory);
        let threads = self.seen(process, threads).unwrap_or_default();
        if let Some((thread, directory)) = living_thread(process, &directory, &threads) {
            // Descriptors come first, so that those which the search itself opens are not among them.
            self.descriptors(process, thread, &directory);
            self.mounts(process, &directory);
        }
        self.threads(process, &directory, &threads);
    }

    /// What `/proc` shows of a process, if it is there and may be looked at.
    fn seen<T>(&mut self, process: u32, result: io::Result<T>) -> Option<T> {
        result
            .map_err(|error| match sys::errno_of(&error) {
                Errno::ENOENT | Errno::ESRCH => {}
                errno if is_shortage(errno) => self.shortage = Some(errno),
                _ => self.collect.unseen(process, error),
            })
            .ok()
    }

    /// The namespace of a socket of another descriptor table, unless it cannot be seen.
    fn namespace_of(&mut self, pidfd: &nix::Result<OwnedFd>, fd: u32) -> Option<NetNs> {
        let copied = pidfd.as_ref().map_err(|errno| *errno).and_then(|pidfd| sys::copy_of_descriptor(pidfd, fd));
        let found = copied.and_then(|socket| NetNs::of_socket(socket).map_err(|error| error.errno()));
        self.shortage = self.shortage.or(found.as_ref().err().copied().filter(|errno| is_shortage(*errno)));
        found.ok()
    }

    fn threads(&mut self, process: u32, directory: &Path, threads: &[u32]) {
        for &thread in threads {
            let task = directory.join(format!("task/{thread}"));
            let file = task.join("ns/net");
            let link = fs::read_link(&file);
            let Some(link) = self.seen(process, link) else { continue };
            if let Some(link) = link.to_str().filter(|link| self.collect.wants(link)) {
                let name = sys::task_name(&task).unwrap_or_default();
                self.collect.found(link, Holder::Thread { process, thread, name }, || NetNs::from_path(&file));
            }
        }
    }

    fn descriptors(&mut self, process: u32, thread: u32, directory: &Path) {
        // Otherwise the numbers in `/proc` are not the ids that `pidfd_open` takes.
        let can_ask = self.me == sys::process_id().as_raw().unsigned_abs();
        let mut pidfd = None;
        let descriptors = sys::numbered_entries(&directory.join("fd"));
        for fd in self.seen(process, descriptors).unwrap_or_default() {
            let file = directory.join(format!("fd/{fd}"));
            let Ok(target) = fs::read_link(&file) else { continue };
            let Some(target) = target.to_str() else { continue };
            if target.starts_with("net:[") {
                let is_own = process == self.me && self.collect.is_own(fd);
                if !is_own && self.collect.wants(target) {
                    self.collect.found(target, Holder::Descriptor { process, fd }, || NetNs::from_path(&file));
                }
            } else if can_ask && (target.starts_with("socket:[") || is_tun(target, &file)) {
                // One descriptor serves all sockets of the process, and a process without sockets needs none.
                let pidfd = pidfd.get_or_insert_with(|| pidfd_of(process, thread));
                let Some(ns) = self.namespace_of(pidfd, fd) else { continue };
                let link = ns.to_string();
                if self.collect.wants(&link) {
                    self.collect.found(&link, Holder::Socket { process, fd }, || Ok(ns));
                }
            }
        }
    }

    /// Reads the mounts of a process, once for each mount namespace.
    fn mounts(&mut self, process: u32, directory: &Path) {
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else { return };
        if !self.mount_namespaces.insert(namespace) {
            return;
        }
        let is_ours = self.mount_namespaces.len() == 1;
        let table = fs::read(directory.join("mountinfo"));
        let table = self.seen(process, table).unwrap_or_default();
        let mut mounts: Vec<(String, PathBuf)> = self.mounts_in(&table).collect();
        // A table is read once for all mounts: it may be long, and a `/run/netns` of one's own covers all names.
        for _ in 0..LOOKS {
            mounts.retain(|mount| {
                let mut is_missing = false;
                self.mount(process, directory, is_ours, mount, |path| {
                    let opened = NetNs::from_path(path);
                    is_missing = opened
                        .as_ref()
                        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotANetNs | ErrorKind::NotFound));
                    // Whether it is gone is seen in the next table.
                    opened.map_err(|error| if is_missing { error.with_kind(ErrorKind::NotFound) } else { error })
                });
                is_missing
            });
            if mounts.is_empty() {
                return;
            }
            let now =
                self.mounts_in(&fs::read(directory.join("mountinfo")).unwrap_or_default()).collect::<BTreeSet<_>>();
            mounts.retain(|mount| now.contains(mount));
        }
        for mount in &mounts {
            self.mount(process, directory, is_ours, mount, |path| Err(covered(path)));
        }
    }

    /// The mounts in a table of namespaces that the search looks for: which one, and where.
    fn mounts_in(&self, table: &[u8]) -> impl Iterator<Item = (String, PathBuf)> {
        sys::mounts_of_namespaces(table).filter_map(|(link, path)| {
            let link = std::str::from_utf8(link).ok().filter(|link| link.starts_with("net:["))?;
            self.collect.wants(link).then(|| (link.to_owned(), path))
        })
    }

    /// Records a mount of a process. `open` opens the namespace by the path at which this process sees it.
    fn mount(
        &mut self,
        process: u32,
        directory: &Path,
        is_ours: bool,
        (link, path): &(String, PathBuf),
        open: impl FnOnce(&Path) -> Result<NetNs, Error>,
    ) {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let reached = if is_ours { path.clone() } else { directory.join("root").join(inside) };
        let name = self.name_at(path).filter(|_| is_ours);
        let holder = name.unwrap_or_else(|| Holder::Mount { process, path: path.clone() });
        self.collect.found(link, holder, || open(&reached));
    }

    /// The name whose file a mount point is.
    fn name_at(&self, mount_point: &Path) -> Option<Holder> {
        let directory = mount_point.parent()?;
        let name = mount_point.file_name()?.to_str()?.to_owned();
        let (_, shown) = self.directories.iter().find(|(canonical, _)| canonical == directory)?;
        Some(Holder::Name { path: shown.join(&name), name })
    }
}

/// A mount may go and come back between two looks. If it is not seen in this many, another mount covers it, or its
/// directory.
const LOOKS: u32 = 10;

fn covered(path: &Path) -> Error {
    let operation = format!("look at the network namespace that is mounted on {}", path.display());
    Error::new(ErrorKind::NotANetNs, operation, "another mount covers it, or a directory of its path")
}

/// Whether an error is a lack of descriptors, and no property of what was looked at.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE)
}

/// The thread that shows what the threads of a process share, and its directory: the leader, or another one where that
/// has exited and shows nothing.
fn living_thread(process: u32, directory: &Path, threads: &[u32]) -> Option<(u32, PathBuf)> {
    let task = |thread| directory.join(format!("task/{thread}"));
    let is_alive = |thread: &u32| !matches!(sys::state_of_task(&task(*thread)), Ok(None | Some(TaskState::Exiting)));
    let living = threads.iter().copied().find(is_alive)?;
    Some((living, if living == process { directory.to_owned() } else { task(living) }))
}

/// Whether a descriptor, by its link and its file in `/proc`, is one of `/dev/net/tun`. Its number is compared too: to
/// another device, the question for the namespace may mean something else.
fn is_tun(target: &str, file: &Path) -> bool {
    /// `Documentation/admin-guide/devices.txt` of Linux: misc device 200.
    const TUN: u64 = nix::sys::stat::makedev(10, 200);
    target.ends_with("/net/tun")
        && fs::metadata(file).is_ok_and(|file| file.file_type().is_char_device() && file.rdev() == TUN)
}

fn pidfd_of(process: u32, thread: u32) -> nix::Result<OwnedFd> {
    if thread == process {
        return sys::pidfd_of_process(process);
    }
    let thread = i32::try_from(thread).map_err(|_| Errno::ESRCH)?;
    sys::pidfd_of_thread(Tid::from_raw(thread))
}
