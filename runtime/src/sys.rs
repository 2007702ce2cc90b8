//! All system calls of the crate, as safe functions.
//!
//! The modules above this one deal with namespaces and threads; only this one decides how the kernel is asked. [`raw`]
//! holds the calls that `nix` does not wrap, [`before_main`] the code that runs before `std` can be used,
//! [`process_local`] values that a child process does not inherit, [`inherited`] values that it inherits.

#[allow(unsafe_code)] // What is noted before `main`: see the module's documentation.
pub(crate) mod at_start;
#[allow(unsafe_code)] // What a thread has for itself alone, by syscalls that nix does not wrap.
pub(crate) mod attributes;
#[allow(unsafe_code)] // Before `main`, libc alone is to be relied on: see the module's documentation.
pub(crate) mod before_main;
pub(crate) mod changes;
pub(crate) mod children;
pub(crate) mod descriptor_table;
pub(crate) mod files;
pub(crate) mod filters;
#[allow(unsafe_code)] // A value without a lock: see the module's documentation.
pub(crate) mod inherited;
pub(crate) mod kept;
mod numbers;
mod optional;
pub(crate) mod placement;
#[allow(unsafe_code)] // A page that the kernel empties in child processes: see the module's documentation.
pub(crate) mod process_local;
#[allow(unsafe_code)] // The syscalls that nix does not wrap: each a few lines, with its SAFETY comment.
mod raw;
#[allow(unsafe_code)] // The syscalls that read what a thread has for itself, each with its SAFETY comment.
pub(crate) mod readings;
pub(crate) mod shortest_call;
pub(crate) mod socket;

use std::ffi::{OsString, c_ulong};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::stat::{self, Mode};
use nix::sys::statfs::{self, NSFS_MAGIC};
use nix::unistd::{Pid, gettid};

pub(crate) use nix::mount::MsFlags;
pub(crate) use numbers::{Numbering, directory_of_task, directory_of_thread};
pub(crate) use optional::{Optional, OptionalCalls};
pub(crate) use raw::{
    CAP_NET_ADMIN, CAP_SETFCAP, CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE, Capabilities,
    LOADS_NAME_MODULES, NamespaceHandle, ParentDeathSignal, Resource, capabilities_of, configure_name_services,
    first_mount, futex_wait, futex_wake, has_marked_descriptor_table, has_mount, keep_library_loaded,
    mark_descriptor_table, namespace_number, namespace_type, netns_of_pidfd, netns_of_socket, owning_user_namespace,
    set_capabilities, share as share_where_harmless, spawn_detached,
};

/// A thread id, as `gettid(2)` gives it.
pub(crate) type Tid = Pid;

/// The calling thread's id.
pub(crate) fn current_tid() -> Tid {
    gettid()
}

/// The calling thread's id, as a number.
pub(crate) fn current_thread_id() -> u32 {
    current_tid().as_raw().unsigned_abs()
}

/// Whether the files of the process in `/proc` belong to its user (`PR_SET_DUMPABLE(2const)`).
pub(crate) fn is_dumpable() -> bool {
    nix::sys::prctl::get_dumpable().unwrap_or(true)
}

/// The capability sets of the calling thread.
pub(crate) fn capabilities_of_current() -> nix::Result<Capabilities> {
    // 0 stands for the calling thread, and costs no gettid(2).
    capabilities_of(Tid::from_raw(0))
}

/// The effective user id of the calling thread.
pub(crate) fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The id of the process, which is also the thread id of its leader.
pub(crate) fn process_id() -> Tid {
    nix::unistd::getpid()
}

/// Whether the calling thread is the leader of its process.
pub(crate) fn is_main_thread() -> bool {
    current_tid() == process_id()
}

/// Makes a syscall again until no signal interrupts it. Every syscall that can sleep interruptibly goes through this:
/// a handler without `SA_RESTART` is the caller's choice, and not a failure of the operation.
pub(crate) fn restarted<T>(mut syscall: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match syscall() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The errno of an error that `std` reported. One without an errno says that a file of `/proc` is not as expected.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Moves the calling thread into a namespace (`setns(2)`).
pub(crate) fn setns(fd: impl AsFd, kinds: CloneFlags) -> nix::Result<()> {
    restarted(|| nix::sched::setns(fd.as_fd(), kinds))
}

/// Moves the calling thread into new namespaces (`unshare(2)`).
pub(crate) fn unshare(kinds: CloneFlags) -> nix::Result<()> {
    restarted(|| nix::sched::unshare(kinds))
}

/// Opens what may be a namespace file: close-on-exec, and without waiting for the other end of a FIFO.
pub(crate) fn open_namespace_file(path: &Path) -> nix::Result<OwnedFd> {
    restarted(|| fcntl::open(path, NAMESPACE_FILE, Mode::empty()))
}

/// As [`open_namespace_file`], from a directory.
pub(crate) fn open_namespace_file_at(directory: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    restarted(|| fcntl::openat(directory.as_fd(), path, NAMESPACE_FILE, Mode::empty()))
}

const NAMESPACE_FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// Opens a directory.
pub(crate) fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    restarted(|| fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()))
}

/// Makes a file in a directory, where there is nothing of that name, not even a link. No permission bit is set.
pub(crate) fn create_file_at(directory: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    restarted(|| fcntl::openat(directory.as_fd(), name, flags, Mode::empty()))
}

/// A descriptor of an entry of a directory, which is not opened for reading: of a link itself, and of the topmost
/// mount on it.
pub(crate) fn entry_at(directory: impl AsFd, name: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    restarted(|| fcntl::openat(directory.as_fd(), name, flags, Mode::empty()))
}

/// Removes a file or link from a directory.
pub(crate) fn remove_file_at(directory: impl AsFd, name: &str) -> nix::Result<()> {
    restarted(|| nix::unistd::unlinkat(directory.as_fd(), name, nix::unistd::UnlinkatFlags::NoRemoveDir))
}

/// Device and inode of an entry of a directory, or of the topmost mount on it.
pub(crate) fn identity_at(directory: impl AsFd, name: &str) -> nix::Result<(u64, u64)> {
    let found = restarted(|| stat::fstatat(directory.as_fd(), name, fcntl::AtFlags::AT_SYMLINK_NOFOLLOW));
    found.map(|file| device_and_inode(&file))
}

/// A directory that is locked against other programs that do the same, until this is dropped (`flock(2)`).
///
/// Not `nix::fcntl::Flock`: that one panics where the unlock fails.
pub(crate) struct LockedDirectory(OwnedFd);

impl LockedDirectory {
    /// Waits until no other program has the lock.
    pub(crate) fn lock(directory: OwnedFd) -> nix::Result<LockedDirectory> {
        restarted(|| raw::lock_exclusively(&directory)).map(|()| LockedDirectory(directory))
    }

    /// The directory, on a descriptor that does not keep the lock.
    pub(crate) fn open_again(&self) -> nix::Result<OwnedFd> {
        restarted(|| {
            fcntl::openat(&self.0, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        })
    }
}

impl AsFd for LockedDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        // A child process that was just forked may have the descriptor too. Where the unlock fails, the lock goes with
        // the last copy.
        let _ = restarted(|| raw::unlock(&self.0));
    }
}

/// The path that leads to the file of a descriptor, whatever has become of its name.
pub(crate) fn path_of_descriptor(fd: impl AsFd) -> PathBuf {
    format!("/proc/thread-self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// Whether a path leads to a descriptor of the calling thread: whether its files in `/proc` are there.
pub(crate) fn has_descriptor_files() -> bool {
    identity_of(Path::new("/proc/thread-self/fd")).is_ok()
}

/// Mounts what a descriptor is open on, with what is mounted below it, over what another one is open on (`mount(2)`
/// with `MS_BIND`).
pub(crate) fn bind_mount(source: impl AsFd, target: impl AsFd) -> nix::Result<()> {
    let (source, target) = (path_of_descriptor(source), path_of_descriptor(target));
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    restarted(|| nix::mount::mount(Some(&source), &target, Some("none"), flags, None::<&str>))
}

/// What was found. `None` where it is missing, and an error where nothing but descriptors or memory is missing, which
/// says nothing about it.
///
/// To be used where `None` decides something for longer than this moment.
pub(crate) fn unless_short<T, E: Into<io::Error>>(found: Result<T, E>) -> nix::Result<Option<T>> {
    match found.map_err(|error| error.into().raw_os_error().map(Errno::from_raw)) {
        Ok(found) => Ok(Some(found)),
        Err(Some(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))) => Err(errno),
        Err(_) => Ok(None),
    }
}

/// The text of a file in `/proc`. The names of threads and the paths of mounts in it may be no UTF-8: the kernel cuts a
/// thread's name off after 15 bytes, even within a character. Such bytes are replaced.
pub(crate) fn text_of(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// The value of a line `NAME:\tVALUE` in the text of a file in `/proc`.
pub(crate) fn value_of<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A number that `/proc` shows of a descriptor of the calling thread (`proc_pid_fdinfo(5)`).
fn number_in_fdinfo<N: FromStr>(fd: impl AsFd, name: &str) -> io::Result<Option<N>> {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    Ok(value_of(&info, name).and_then(|number| number.parse().ok()))
}

/// The id of the mount that a descriptor is on, as in `proc_pid_mountinfo(5)`.
pub(crate) fn mount_of(fd: impl AsFd) -> io::Result<u64> {
    number_in_fdinfo(fd, "mnt_id")?.ok_or_else(|| io::Error::other("no mnt_id in fdinfo"))
}

/// The line of the mount that a descriptor is on, in the calling thread's mount table. `None` if it is unmounted, or of
/// another mount namespace.
pub(crate) fn line_of_mount(fd: impl AsFd) -> io::Result<Option<String>> {
    let id = mount_of(fd)?.to_string();
    let table = text_of("/proc/thread-self/mountinfo")?;
    Ok(table.lines().find(|line| line.split(' ').next() == Some(&id)).map(str::to_owned))
}

/// Whether mounts and unmounts on the mount of a descriptor propagate to other mounts. `true` where the kernel does not
/// tell.
pub(crate) fn is_on_shared_mount(fd: impl AsFd) -> bool {
    let Ok(Some(line)) = line_of_mount(fd) else { return true };
    // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD …] - …
    line.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"))
}

/// Makes mounts and unmounts below a mount propagate to other mount namespaces (`MS_SHARED`). `EINVAL` where `root` is
/// not the root of a mount.
pub(crate) fn share_mount(root: impl AsFd) -> nix::Result<()> {
    let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
    restarted(|| nix::mount::mount(Some(""), &path_of_descriptor(&root), Some("none"), flags, None::<&str>))
}

/// Unmounts the mount that `root` is the root of; the kernel frees it when nothing uses it any more (`MNT_DETACH`).
/// `EINVAL` where `root` is not the root of a mount.
pub(crate) fn detach_mount(root: impl AsFd) -> nix::Result<()> {
    // The path is a link to the root itself: nothing is looked up by name.
    restarted(|| nix::mount::umount2(&path_of_descriptor(&root), nix::mount::MntFlags::MNT_DETACH))
}

/// Whether the descriptor is on the namespace filesystem. Asked before any `ioctl_nsfs(2)`, so that a device is never
/// sent a request that means something else to it.
pub(crate) fn is_namespace_file(fd: impl AsFd) -> nix::Result<bool> {
    Ok(restarted(|| statfs::fstatfs(fd.as_fd()))?.filesystem_type() == NSFS_MAGIC)
}

/// As [`is_namespace_file`], of what a path leads to. Opens nothing.
pub(crate) fn leads_to_namespace_file(path: &Path) -> nix::Result<bool> {
    Ok(restarted(|| statfs::statfs(path))?.filesystem_type() == NSFS_MAGIC)
}

/// Whether the descriptor is of an ordinary file: no directory, device, socket or pipe.
pub(crate) fn is_ordinary_file(fd: impl AsFd) -> bool {
    stat::fstat(fd).is_ok_and(is_ordinary)
}

/// As [`is_ordinary_file`], of what a path leads to.
pub(crate) fn is_ordinary_file_at(path: &Path) -> bool {
    restarted(|| stat::stat(path)).is_ok_and(is_ordinary)
}

fn is_ordinary(file: stat::FileStat) -> bool {
    stat::SFlag::from_bits_truncate(file.st_mode) & stat::SFlag::S_IFMT == stat::SFlag::S_IFREG
}

/// Whether the descriptor stands for a path, and the file is not open (`O_PATH`).
pub(crate) fn is_path_only(fd: impl AsFd) -> bool {
    has_flag(fd, OFlag::O_PATH)
}

fn has_flag(fd: impl AsFd, flag: OFlag) -> bool {
    fcntl::fcntl(fd, fcntl::FcntlArg::F_GETFL).is_ok_and(|flags| OFlag::from_bits_retain(flags).contains(flag))
}

/// Whether the descriptor is one of a process or a thread (`pidfd_open(2)`).
pub(crate) fn is_pidfd(fd: impl AsFd) -> bool {
    /// `PIDFS_MAGIC` of `linux/magic.h`, since Linux 6.9; before that an anonymous inode.
    const PIDFS_MAGIC: statfs::FsType = statfs::FsType(0x5049_4446);
    /// `ANON_INODE_FS_MAGIC`.
    const ANON_INODE_FS_MAGIC: statfs::FsType = statfs::FsType(0x0904_1934);
    let filesystem = restarted(|| statfs::fstatfs(fd.as_fd())).map(|filesystem| filesystem.filesystem_type());
    match filesystem {
        Ok(PIDFS_MAGIC) => true,
        Ok(ANON_INODE_FS_MAGIC) => {
            fs::read_link(path_of_descriptor(fd)).is_ok_and(|link| link.as_os_str() == "anon_inode:[pidfd]")
        }
        _ => false,
    }
}

/// Whether a process descriptor is of one thread (`PIDFD_THREAD`).
pub(crate) fn is_pidfd_of_thread(pidfd: impl AsFd) -> bool {
    has_flag(pidfd, OFlag::O_EXCL)
}

/// The number in `/proc` of the process of a descriptor. `None` where it has been reaped, or where this `/proc` does
/// not show it. An error says nothing about that process: the file that is read is one of the calling thread.
pub(crate) fn number_of_pidfd(pidfd: impl AsFd) -> io::Result<Option<u32>> {
    Ok(number_in_fdinfo(pidfd, "Pid")?.filter(|number| *number != 0))
}

/// Device and inode, which identify a namespace for as long as something holds it (`namespaces(7)`).
pub(crate) fn identity(fd: impl AsFd) -> nix::Result<(u64, u64)> {
    stat::fstat(fd).map(|file| device_and_inode(&file))
}

/// Whether two threads share a resource (`kcmp(2)`). `ENOSYS` where a filter kills for it.
pub(crate) fn share(resource: Resource, one: Tid, other: Tid) -> nix::Result<bool> {
    where_harmless(Optional::Kcmp, || share_where_harmless(resource, one, other))
}

/// A descriptor of one thread of this process. `ENOSYS` where a filter kills for it.
pub(crate) fn pidfd_of_thread(thread: Tid) -> nix::Result<OwnedFd> {
    where_harmless(Optional::PidfdOpen, || raw::pidfd_of_thread(thread))
}

/// A descriptor of a process. `ENOSYS` as above.
pub(crate) fn pidfd_of_process(process: u32) -> nix::Result<OwnedFd> {
    where_harmless(Optional::PidfdOpen, || raw::pidfd_of_process(process))
}

/// A copy of a descriptor that a process has open. `ENOSYS` as above.
pub(crate) fn copy_of_descriptor(process: impl AsFd, fd: u32) -> nix::Result<OwnedFd> {
    where_harmless(Optional::PidfdGetfd, || raw::copy_of_descriptor(process, fd))
}

/// The file handle of a namespace. `EOPNOTSUPP` before Linux 6.18, `ENOSYS` as above.
pub(crate) fn handle_of_namespace(namespace: impl AsFd) -> nix::Result<NamespaceHandle> {
    where_harmless(Optional::NameToHandleAt, || raw::handle_of_namespace(namespace))
}

/// Opens a namespace by its file handle. `ESTALE` where it is gone, `EBADF` before Linux 6.18, `ENOSYS` as above.
pub(crate) fn open_namespace_handle(handle: NamespaceHandle) -> nix::Result<OwnedFd> {
    where_harmless(Optional::OpenByHandleAt, || raw::open_namespace_handle(handle))
}

/// Makes a call if the thread's seccomp filter does not kill for it.
fn where_harmless<T>(call: Optional, make: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    match OptionalCalls::find() {
        Ok(calls) | Err((calls, _)) if calls.has(call) => make(),
        Ok(_) => Err(Errno::ENOSYS),
        // It is not known.
        Err((_, errno)) => Err(errno),
    }
}

#[allow(clippy::useless_conversion)] // The inode number has 32 bits on some architectures.
fn device_and_inode(file: &stat::FileStat) -> (u64, u64) {
    (file.st_dev.into(), file.st_ino.into())
}

/// As [`identity`], of what a path leads to. Opens nothing.
pub(crate) fn identity_of(path: &Path) -> nix::Result<(u64, u64)> {
    restarted(|| stat::stat(path)).map(|file| device_and_inode(&file))
}

/// The mounts of namespaces in a `mountinfo` file (`proc_pid_mountinfo(5)`): which namespace (`net:[4026531840]`),
/// and where.
pub(crate) fn mounts_of_namespaces(table: &[u8]) -> impl Iterator<Item = (&[u8], PathBuf)> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        // ID PARENT MAJOR:MINOR ROOT POINT …, where the root of such a mount is the link itself.
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (!root.starts_with(b"/")).then(|| (root, unescaped_path(point)))
    })
}

/// The id that the calling thread's network namespace has for another one (`RTM_GETNSID` of `rtnetlink(7)`). `None`
/// where it has none.
pub(crate) fn netlink_id_of(namespace: impl AsFd) -> nix::Result<Option<u32>> {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
    };
    /// Of `linux/rtnetlink.h` and `linux/net_namespace.h`.
    const RTM_GETNSID: u16 = 90;
    const NETNSA_NSID: u16 = 1;
    const NETNSA_FD: u16 = 3;
    const NLM_F_REQUEST: u16 = 1;
    const NLMSG_ERROR: u16 = 2;
    /// `struct nlmsghdr`, and `struct rtgenmsg` with its padding.
    const HEADER: usize = 16 + 4;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut request = Vec::with_capacity(HEADER + 8);
    request.extend(28_u32.to_ne_bytes());
    for half in [RTM_GETNSID, NLM_F_REQUEST] {
        request.extend(half.to_ne_bytes());
    }
    request.extend([0; 8 + 4]);
    for half in [8, NETNSA_FD] {
        request.extend(half.to_ne_bytes());
    }
    request.extend(namespace.as_fd().as_raw_fd().to_ne_bytes());
    restarted(|| send(socket.as_raw_fd(), &request, MsgFlags::empty()))?;

    let mut reply = [0; 256];
    let length = restarted(|| recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty()))?;
    let reply = &reply[..length];
    let half = |at: usize| reply.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let word = |at: usize| reply.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    if half(4) == Some(NLMSG_ERROR) {
        return Err(Errno::from_raw(word(16).map_or(0, i32::wrapping_neg)));
    }
    let mut at = HEADER;
    while let (Some(size @ 4..), Some(kind)) = (half(at), half(at + 2)) {
        if kind == NETNSA_NSID {
            // Negative: not assigned.
            return Ok(word(at + 4).and_then(|id| u32::try_from(id).ok()));
        }
        at += usize::from(size).next_multiple_of(4);
    }
    Ok(None)
}

/// The namespace of one kind that a thread is in, as `readlink(2)` of its `ns/` file tells: `uts:[4026531838]`.
///
/// The link is read, not followed: that takes half the time of a `stat`, and opens nothing.
pub(crate) fn namespace_of(thread: ProcTask, kind: Kind) -> io::Result<PathBuf> {
    namespace_of_task(thread.proc_path(), kind)
}

/// As [`namespace_of`], of a thread whose directory in `/proc` is given.
pub(crate) fn namespace_of_task(task: &Path, kind: Kind) -> io::Result<PathBuf> {
    fs::read_link(kind.file_in(task))
}

/// The directory in `/proc` of the calling thread's namespaces, for [`namespace_in`].
pub(crate) fn open_directory_of_namespaces() -> nix::Result<OwnedFd> {
    files::open_for_lookup(&ProcTask::Current.proc_path().join("ns"))
}

/// As [`namespace_of`], given the directory of a task's namespaces. It takes half the time of a path from the root.
pub(crate) fn namespace_in(namespaces: impl AsFd, kind: Kind) -> nix::Result<PathBuf> {
    fcntl::readlinkat(namespaces.as_fd(), kind.file()).map(PathBuf::from)
}

/// The task whose files in `/proc` are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcTask {
    /// The calling thread: `/proc/thread-self`. (`/proc/self` would be the process leader.)
    Current,
    /// The process leader: `/proc/self`.
    Leader,
}

impl ProcTask {
    pub(crate) fn proc_path(self) -> &'static Path {
        Path::new(match self {
            ProcTask::Current => "/proc/thread-self",
            ProcTask::Leader => "/proc/self",
        })
    }
}

/// The kinds of namespace that a thread can change for itself and that `/proc` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Net,
    Uts,
    Ipc,
    Cgroup,
    PidForChildren,
    Mount,
}

impl Kind {
    /// Those that `setns(2)` can take a thread back to while it shares its filesystem attributes with others; the
    /// network namespace comes first. The IPC namespace is not among them: `setns(2)` into one, even the same, makes
    /// the thread leave the process's list of `SEM_UNDO` operations, and undoes those on a list of its own.
    pub(crate) const RESTORABLE: [Kind; 4] = [Kind::Net, Kind::Uts, Kind::Cgroup, Kind::PidForChildren];

    pub(crate) fn file(self) -> &'static str {
        match self {
            Kind::Net => "net",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Cgroup => "cgroup",
            Kind::PidForChildren => "pid_for_children",
            Kind::Mount => "mnt",
        }
    }

    /// The file of this kind, given the directory of a task in `/proc`.
    pub(crate) fn file_in(self, task: &Path) -> PathBuf {
        task.join("ns").join(self.file())
    }

    pub(crate) fn flag(self) -> CloneFlags {
        match self {
            Kind::Net => CloneFlags::CLONE_NEWNET,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Kind::PidForChildren => CloneFlags::CLONE_NEWPID,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
        }
    }

    /// Whether the kernel has this kind.
    pub(crate) fn exists(self) -> bool {
        !matches!(self.open(ProcTask::Current), Err(Errno::ENOENT))
    }

    /// Opens the namespace of this kind that another thread of this process is in.
    pub(crate) fn open_of_thread(self, thread: Tid) -> nix::Result<OwnedFd> {
        open_namespace_file(&self.file_in(&directory_of_thread(thread)?))
    }

    /// Opens the namespace of this kind that `thread` is in.
    pub(crate) fn open(self, thread: ProcTask) -> nix::Result<OwnedFd> {
        open_namespace_file(&self.file_in(thread.proc_path()))
    }
}

/// Whether the calling thread has made or entered a pid namespace for its children: it can start processes, and no
/// threads (`clone(2)`, `EINVAL`).
pub(crate) fn can_start_processes_only() -> bool {
    let of = |kind: &str| identity_of(&ProcTask::Current.proc_path().join("ns").join(kind)).ok();
    of("pid").is_some_and(|own| of(Kind::PidForChildren.file()) != Some(own))
}

/// Whether the calling thread is scheduled by a deadline, and so can start no threads (`sched(7)`, `EAGAIN`).
pub(crate) fn has_deadline_and_starts_no_threads() -> bool {
    OptionalCalls::of_current_thread().has(Optional::SchedGetattr)
        && attributes::Scheduling::of(Tid::from_raw(0)).is_ok_and(|scheduling| !scheduling.can_start_threads())
}

/// Names the calling thread: what `/proc/self/task/TID/comm` shows, 15 bytes of it.
pub(crate) fn name_current_thread(name: &std::ffi::CStr) -> nix::Result<()> {
    nix::sys::prctl::set_name(name)
}

/// The calling thread's timer slack in nanoseconds (`PR_GET_TIMERSLACK(2const)`). The threads that it starts inherit
/// it.
pub(crate) fn timer_slack() -> nix::Result<u64> {
    nix::sys::prctl::get_timerslack().map(|slack| u64::from(slack.unsigned_abs()))
}

/// Sets the calling thread's timer slack in nanoseconds.
#[allow(clippy::useless_conversion)] // A `c_ulong` has 32 bits on some architectures.
pub(crate) fn set_timer_slack(slack: u64) -> nix::Result<()> {
    nix::sys::prctl::set_timerslack(slack.try_into().unwrap_or(c_ulong::MAX))
}

/// The timer slack of a thread, given its number in `/proc`. An error without `CAP_SYS_NICE`.
pub(crate) fn timer_slack_of(number: u32) -> io::Result<u64> {
    // A directory of that name exists for every thread, though only those of processes are listed.
    let slack = fs::read_to_string(format!("/proc/{number}/timerslack_ns"))?;
    slack.trim_end().parse().map_err(io::Error::other)
}

/// The id of this process as `/proc` has it.
pub(crate) fn number_in_proc() -> io::Result<u32> {
    let link = fs::read_link("/proc/self")?;
    let number = link.to_str().and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self is no number"))
}

/// The numbers of a process's threads, sorted, from one listing of its directory in `/proc`.
///
/// The kernel walks from one thread to the next. Where a thread exits meanwhile, the walk stops or skips: threads that
/// live on can be missing (measured: once in fifty listings, beside eight threads that exit).
pub(crate) fn list_threads_once(process: &Path) -> io::Result<Vec<u32>> {
    let mut threads = numbered_entries(&process.join("task"))?;
    threads.sort_unstable();
    Ok(threads)
}

/// The numbers of a process's threads, sorted, given its directory in `/proc`. A thread that has just exited may be
/// among them.
///
/// Lists until two listings agree with each other and with the number of threads that the kernel tells (`st_nlink` of
/// `task` is two more).
pub(crate) fn threads_of(process: &Path) -> io::Result<Vec<u32>> {
    /// A bound for a process whose threads start and exit all the time.
    const LISTINGS: usize = 16;
    let count = || fs::metadata(process.join("task")).map(|task| task.nlink().saturating_sub(2));
    let mut last = list_threads_once(process)?;
    let mut seen = last.clone();
    for _ in 1..LISTINGS {
        let now = list_threads_once(process)?;
        if now == last && count()? == now.len() as u64 {
            break;
        }
        seen.extend(&now);
        last = now;
    }
    seen.sort_unstable();
    seen.dedup();
    Ok(seen)
}

/// The entries of a directory in `/proc` that are numbers: processes, threads, descriptors.
pub(crate) fn numbered_entries(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// A path as `mountinfo` has it, where space, tab, newline and backslash are `\040` and the like.
pub(crate) fn unescaped_path(escaped: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, length) =
            octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).map_or((*first, 0), |byte| (byte, 3));
        path.push(byte);
        rest = &tail[length..];
    }
    OsString::from_vec(path).into()
}

/// The name of a thread, given its directory in `/proc`.
pub(crate) fn task_name(task: &Path) -> io::Result<String> {
    text_of(task.join("comm")).map(|name| name.trim_end_matches('\n').to_owned())
}

/// The state of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    Awake,
    Asleep,
    /// It is exiting or has exited, and runs no code of the process any more.
    Exiting,
}

/// The state of a thread of this process, given its number in `/proc`. `None` where it is gone.
pub(crate) fn task_state(number: u32) -> Option<TaskState> {
    state_of_task(&directory_of_task(number)).ok().flatten()
}

/// The state of a task, given its directory in `/proc`, from its `stat` file (`proc_pid_stat(5)`). `None` where it is
/// gone.
pub(crate) fn state_of_task(task: &Path) -> io::Result<Option<TaskState>> {
    match fs::read(task.join("stat")) {
        Ok(stat) => Ok(state_in(&stat)),
        Err(error) if matches!(errno_of(&error), Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The state in the text of a `stat` file.
fn state_in(stat: &[u8]) -> Option<TaskState> {
    /// `PF_EXITING` of `linux/sched.h`, set before a joiner is woken.
    const EXITING: u64 = 0x4;
    // The name may have anything in it, parentheses too.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    Some(match state {
        _ if flags & EXITING != 0 => TaskState::Exiting,
        "Z" | "X" => TaskState::Exiting,
        "R" => TaskState::Awake,
        _ => TaskState::Asleep,
    })
}

/// The timeout of `poll(2)` that ends at a deadline, and not before it. Without one, there is no timeout.
fn timeout_until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let millis = deadline.saturating_duration_since(Instant::now()).as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// Waits until a descriptor is readable, forever.
pub(crate) fn wait_readable(fd: impl AsFd) -> nix::Result<()> {
    restarted(|| poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)).map(drop)
}

/// Device and inode of a thread's directory in `/proc`, as the calling thread sees it.
///
/// A thread id that is used again gets a new inode number, so that it is not mistaken for the thread that had it
/// before.
pub(crate) fn task_identity(thread: Tid) -> Option<(u64, u64)> {
    let task = fs::metadata(directory_of_thread(thread).ok()?).ok()?;
    Some((task.dev(), task.ino()))
}
