//! The system calls that `nix` does not wrap. Every `unsafe` block here passes the kernel a number, or a pointer to a
//! local that outlives the call; descriptors are returned as [`OwnedFd`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, c_int, c_long, c_short, c_uint, c_ulong};
use nix::sched::CloneFlags;

use super::Tid;

/// `PIDFD_THREAD` of `pidfd_open(2)`, since Linux 6.9: the descriptor is of one thread, not of its process.
const PIDFD_THREAD: c_uint = libc::O_EXCL as c_uint;

/// A descriptor of one thread of this process. It becomes readable when the thread has exited and released its
/// namespaces.
///
/// `EINVAL` before Linux 6.9.
pub(crate) fn pidfd_of_thread(thread: Tid) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, thread.as_raw(), PIDFD_THREAD) };
    owned_descriptor(result)
}

/// A descriptor of a process.
pub(crate) fn pidfd_of_process(process: u32) -> nix::Result<OwnedFd> {
    let process = libc::pid_t::try_from(process).map_err(|_| Errno::ESRCH)?;
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0 as c_uint) };
    owned_descriptor(result)
}

/// A copy of a descriptor that a process has open (`pidfd_getfd(2)`): close-on-exec, and on the same open file.
pub(crate) fn copy_of_descriptor(process: impl AsFd, fd: u32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes three numbers, and the first is a descriptor that is borrowed for the call.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), fd, 0 as c_uint) };
    owned_descriptor(result)
}

/// Waits for the lock of an open file, and takes it (`flock(2)`).
pub(crate) fn lock_exclusively(file: impl AsFd) -> nix::Result<()> {
    flock(file, libc::LOCK_EX)
}

/// Gives the lock of an open file back.
pub(crate) fn unlock(file: impl AsFd) -> nix::Result<()> {
    flock(file, libc::LOCK_UN)
}

fn flock(file: impl AsFd, operation: c_int) -> nix::Result<()> {
    // SAFETY: flock takes two numbers, and the first is a descriptor that is borrowed for the call.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), operation) }).map(drop)
}

/// Starts a thread with `pthread_create(3)`: it inherits the attributes of the kernel, and nothing of the Rust standard
/// library (such as libtest's output capture). Its stack is as large as that of a thread of the standard library. A
/// panic aborts the process.
pub(crate) fn spawn_detached(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    const STACK: usize = 2 << 20;
    type Run = Box<dyn FnOnce() + Send>;
    extern "C" fn start(argument: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the pointer is that of `Box::into_raw` below, and this thread alone has it.
        let run = unsafe { Box::from_raw(argument.cast::<Run>()) };
        run();
        std::ptr::null_mut()
    }
    let result_of = |errno: c_int| if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) };
    let mut attributes = std::mem::MaybeUninit::uninit();
    // SAFETY: the call initialises the attributes.
    result_of(unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) })?;
    let mut attributes = scopeguard::guard(attributes, |mut attributes| {
        // SAFETY: they are initialised, and not used after this.
        unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    });
    // SAFETY: they are initialised.
    result_of(unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK) })?;
    // SAFETY: as above.
    result_of(unsafe { libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED) })?;
    let run: Run = Box::new(run);
    let argument = Box::into_raw(Box::new(run)).cast();
    let mut thread = std::mem::MaybeUninit::uninit();
    // SAFETY: the attributes are initialised; the new thread gets the only pointer to the closure, which is `Send`.
    let created = unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), start, argument) };
    result_of(created).inspect_err(|_| {
        // SAFETY: no thread was started, so the pointer is still this one's.
        drop(unsafe { Box::from_raw(argument.cast::<Run>()) });
    })
}

/// A resource that a thread can stop sharing with its process, and that `kcmp(2)` can compare.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    /// `KCMP_FILES`: the table of file descriptors.
    Files = 2,
    /// `KCMP_FS`: root, working directory and umask.
    Fs = 3,
    /// `KCMP_SYSVSEM`: the list of `SEM_UNDO` operations.
    SemaphoreUndo = 6,
}

/// Whether two threads share a resource (`kcmp(2)`).
pub(crate) fn share(resource: Resource, one: Tid, other: Tid) -> nix::Result<bool> {
    let kind = resource as c_int;
    // SAFETY: kcmp takes numbers and touches no memory of ours; the last two are unused for these kinds.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one.as_raw(), other.as_raw(), kind, 0, 0) };
    Errno::result(result).map(|order| order == 0)
}

/// A write lock on a range of a file, as `fcntl(2)` takes and returns it.
fn record_lock(start: libc::off_t, length: libc::off_t) -> libc::flock {
    // SAFETY: the structure has numbers alone, for which zero is valid.
    let mut lock = unsafe { std::mem::zeroed::<libc::flock>() };
    // These constants are 0 to 2.
    #[allow(clippy::cast_possible_truncation)]
    {
        lock.l_type = libc::F_WRLCK as c_short;
        lock.l_whence = libc::SEEK_SET as c_short;
    }
    lock.l_start = start;
    lock.l_len = length;
    lock
}

/// Marks the table of file descriptors that the calling thread has, by two record locks on an open file
/// (`fcntl_locking(2)`): the owner of the first one is the table, and of the second one the open file.
///
/// The file must have no other lock. The mark is gone for good when a thread that shares the table closes a descriptor
/// of the file, by whichever way it was opened.
pub(crate) fn mark_descriptor_table(file: impl AsFd) -> nix::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&record_lock(0, 1)))?;
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&record_lock(1, 1))).map(drop)
}

/// Whether the calling thread has the table of file descriptors that was marked with this file. `false` as well if the
/// number of the descriptor is another file in its table. `None` where the mark is gone.
pub(crate) fn has_marked_descriptor_table(file: impl AsFd) -> nix::Result<Option<bool>> {
    let is_found = |lock: &libc::flock| i32::from(lock.l_type) != libc::F_UNLCK;
    let mut others = record_lock(0, 2);
    fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut others))?;
    // The kernel returns the first lock that has another owner. For the marked table, that is the lock of the open
    // file.
    if !is_found(&others) || others.l_start != 1 {
        return Ok(Some(false));
    }
    // For another table it is that lock too, where the lock of the marked table is gone.
    let mut of_table = record_lock(0, 1);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut of_table))?;
    Ok(is_found(&of_table).then_some(true))
}

/// The unique id of the first mount in the calling thread's mount namespace, `ENOENT` where none is reported
/// (`listmount(2)`, Linux 6.8). No other namespace, and no later mount, has the same.
pub(crate) fn first_mount() -> nix::Result<u64> {
    /// `LSMT_ROOT` of `linux/mount.h`.
    const ALL: u64 = u64::MAX;
    let mut first = [0];
    match Errno::result(list_mounts(ALL, &mut first))? {
        1 => Ok(first[0]),
        _ => Err(Errno::ENOENT),
    }
}

/// Whether a mount is in the calling thread's mount namespace. `false` too where the kernel does not report it.
pub(crate) fn has_mount(mount: u64) -> bool {
    // The list has no room: the result tells whether the mount was found, and the mounts below it are not needed.
    list_mounts(mount, &mut []) == 0
}

/// How many mounts below one were listed, or a negative number.
fn list_mounts(below: u64, found: &mut [u64]) -> c_long {
    /// The same on every architecture that has it, but alpha. Not in every `libc` crate yet.
    const SYS_LISTMOUNT: c_long = 458;
    /// `MNT_ID_REQ_SIZE_VER0` of `linux/mount.h`.
    const REQUEST_SIZE: u32 = 24;
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        after: u64,
    }
    let request = Request { size: REQUEST_SIZE, spare: 0, mount: below, after: 0 };
    // SAFETY: the kernel reads the request by its own size field, and writes as many ids as the slice has room for.
    unsafe { libc::syscall(SYS_LISTMOUNT, &raw const request, found.as_mut_ptr(), found.len(), 0) }
}

/// `NS_GET_NSTYPE` and `NS_GET_USERNS` of `ioctl_nsfs(2)`; `SIOCGSKNS` of `linux/sockios.h`.
const NS_GET_USERNS: c_ulong = 0xb701;
const NS_GET_NSTYPE: c_ulong = 0xb703;
const SIOCGSKNS: c_ulong = 0x894c;
/// `PIDFD_GET_NET_NAMESPACE` of `linux/pidfd.h`, since Linux 6.11.
const PIDFD_GET_NET_NAMESPACE: c_ulong = 0xff04;

/// What kind of namespace a descriptor of the namespace filesystem is.
pub(crate) fn namespace_type(namespace: impl AsFd) -> nix::Result<CloneFlags> {
    plain_ioctl(namespace, NS_GET_NSTYPE).map(CloneFlags::from_bits_retain)
}

/// The user namespace that owns a namespace. `EPERM` where it is not within the caller's own.
pub(crate) fn owning_user_namespace(namespace: impl AsFd) -> nix::Result<OwnedFd> {
    owned_descriptor(plain_ioctl(namespace, NS_GET_USERNS)?.into())
}

/// Creates a socket (`socket(2)`), of any domain, type and protocol.
pub(crate) fn create_socket(domain: c_int, kind: c_int, protocol: c_int) -> nix::Result<OwnedFd> {
    // SAFETY: socket takes three numbers and touches no memory of ours.
    let result = unsafe { libc::socket(domain, kind, protocol) };
    owned_descriptor(result.into())
}

/// The network namespace that a socket was created in.
pub(crate) fn netns_of_socket(socket: impl AsFd) -> nix::Result<OwnedFd> {
    owned_descriptor(plain_ioctl(socket, SIOCGSKNS)?.into())
}

/// The network namespace that the process, or the thread, of a descriptor is in. Before Linux 6.11 an error: `ENOTTY`
/// or `EINVAL`.
///
/// The same is asked for as of `/proc/PID/ns/net`; `ESRCH` where that task has exited.
pub(crate) fn netns_of_pidfd(pidfd: impl AsFd) -> nix::Result<OwnedFd> {
    owned_descriptor(plain_ioctl(pidfd, PIDFD_GET_NET_NAMESPACE)?.into())
}

/// `NS_GET_ID` of `linux/nsfs.h`, since Linux 6.18: `_IOR(0xb7, 13, __u64)`.
const NS_GET_ID: c_ulong = 0x8008_b70d;

/// The number of a namespace, which no other namespace gets until the machine is restarted. Before Linux 6.18 an
/// error: `ENOTTY`.
pub(crate) fn namespace_number(namespace: impl AsFd) -> nix::Result<u64> {
    let mut number = 0_u64;
    // SAFETY: the request writes one `u64`, and the local outlives the call.
    let result = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_ID as _, &raw mut number) };
    Errno::result(result).map(|_| number)
}

/// The bytes of a file handle on the namespace filesystem: `struct nsfs_file_handle` of `linux/nsfs.h`.
pub(crate) type NamespaceHandle = [u8; 16];

/// `struct file_handle` of `fcntl.h`, for such a handle.
#[repr(C)]
struct FileHandle {
    handle_bytes: c_uint,
    handle_type: c_int,
    handle: NamespaceHandle,
}

/// `FILEID_NSFS` of `linux/exportfs.h`.
const FILEID_NSFS: c_int = 0xf1;

/// The file handle of a namespace (`name_to_handle_at(2)`). `EOPNOTSUPP` before Linux 6.18.
pub(crate) fn handle_of_namespace(namespace: impl AsFd) -> nix::Result<NamespaceHandle> {
    let length = c_uint::try_from(size_of::<NamespaceHandle>()).unwrap_or(0);
    let mut found = FileHandle { handle_bytes: length, handle_type: 0, handle: NamespaceHandle::default() };
    let mut mount: c_int = 0;
    let fd = namespace.as_fd().as_raw_fd();
    // SAFETY: the path is a string that ends with NUL; the kernel writes as many bytes of the handle as its first
    // field allows, and one int. All of them outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd,
            c"".as_ptr(),
            &raw mut found,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(result)?;
    if (found.handle_type, found.handle_bytes) == (FILEID_NSFS, length) {
        Ok(found.handle)
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

/// Opens a namespace by its file handle. `ESTALE` where it is gone; `EBADF` before Linux 6.18.
pub(crate) fn open_namespace_handle(handle: NamespaceHandle) -> nix::Result<OwnedFd> {
    /// `FD_NSFS_ROOT` of `linux/fcntl.h`: it stands for the namespace filesystem, which is mounted nowhere.
    const FD_NSFS_ROOT: c_int = -10003;
    let length = c_uint::try_from(size_of::<NamespaceHandle>()).unwrap_or(0);
    let wanted = FileHandle { handle_bytes: length, handle_type: FILEID_NSFS, handle };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the kernel reads the handle, which outlives the call, up to the length in its first field.
    let result = unsafe { libc::syscall(libc::SYS_open_by_handle_at, FD_NSFS_ROOT, &raw const wanted, flags) };
    owned_descriptor(result)
}

/// An `ioctl(2)` without an argument. The kernel reads an argument all the same: the content of a register, unless one
/// is passed. A process descriptor requires 0 (`EINVAL` otherwise).
fn plain_ioctl(fd: impl AsFd, request: c_ulong) -> nix::Result<c_int> {
    let no_argument: c_ulong = 0;
    // SAFETY: the descriptor is borrowed for the call, and none of the requests above reads or writes through an
    // argument.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as _, no_argument) };
    Errno::result(result)
}

/// Takes the descriptor that a syscall returned, or its error.
fn owned_descriptor(result: c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and no other code knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Families of sockets that accept a request about devices. A process may be restricted to some of them, so the callers
/// try each.
pub(crate) const SOCKET_FAMILIES: [c_int; 4] = [libc::AF_INET, libc::AF_UNIX, libc::AF_INET6, libc::AF_NETLINK];

/// Sets `IFF_UP` on the loopback interface of the namespace in which `socket` was made (`netdevice(7)`).
pub(crate) fn bring_loopback_up(socket: impl AsFd) -> nix::Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: c_short,
        /// The rest of the union in `struct ifreq`.
        rest: [u8; 22],
    }
    /// `IFF_UP` and `IFF_RUNNING`.
    const UP: c_short = 0x1 | 0x40;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: UP, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call is over.
    let result = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(result).map(drop)
}

/// The numbers of these capabilities in `capabilities(7)`.
pub(crate) const CAP_NET_ADMIN: u8 = 12;
pub(crate) const CAP_SYS_CHROOT: u8 = 18;
pub(crate) const CAP_SYS_PTRACE: u8 = 19;
pub(crate) const CAP_SETPCAP: u8 = 8;
pub(crate) const CAP_SYS_ADMIN: u8 = 21;
pub(crate) const CAP_SETFCAP: u8 = 31;

/// The capability sets of one thread, a bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

impl Capabilities {
    pub(crate) fn has(self, capability: u8) -> bool {
        self.effective & (1 << capability) != 0
    }

    pub(crate) fn has_permitted(self, capability: u8) -> bool {
        self.permitted & (1 << capability) != 0
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words a set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The low word of a set, and the high one.
#[allow(clippy::cast_possible_truncation)] // What the shift leaves fits.
fn words_of(set: u64) -> [u32; 2] {
    [(set & u64::from(u32::MAX)) as u32, (set >> 32) as u32]
}

/// The capability sets of a thread (`capget(2)`).
pub(crate) fn capabilities_of(thread: Tid) -> nix::Result<Capabilities> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: thread.as_raw() };
    let mut words = [CapabilityWords::default(); 2];
    // SAFETY: version 3 writes two words a set, which `words` has room for; both locals outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
    Errno::result(result)?;
    let [low, high] = words;
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok(Capabilities {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// Sets the calling thread's capability sets (`capset(2)`).
pub(crate) fn set_capabilities(wanted: Capabilities) -> nix::Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let word = |at: usize| CapabilityWords {
        effective: words_of(wanted.effective)[at],
        permitted: words_of(wanted.permitted)[at],
        inheritable: words_of(wanted.inheritable)[at],
    };
    let words = [word(0), word(1)];
    // SAFETY: version 3 reads two words a set; both locals outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Sleeps while `word` is `expected`, until [`futex_wake`], a signal or the end of `timeout` (`futex(2)`). May return
/// for no reason.
#[allow(clippy::cast_lossless, clippy::cast_possible_wrap)] // `tv_nsec` has 32 bits on some architectures.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // Less than a thousand million, which fits the type everywhere.
        tv_nsec: timeout.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| &raw const *timeout);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is borrowed and `timeout` a local, both for the call; the kernel reads both and writes neither.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, timeout) };
}

/// Wakes one thread that sleeps on `word` (`futex(2)`).
pub(crate) fn futex_wake(word: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is borrowed for the call; the kernel takes its address, and neither reads nor writes it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) };
}

/// Whether the C library loads modules for name look-ups, and this program can load them earlier itself. A statically
/// linked program cannot.
pub(crate) const LOADS_NAME_MODULES: bool = cfg!(all(target_env = "gnu", not(target_feature = "crt-static")));

/// Loads a shared library into the process and never unloads it. Returns whether it is loaded.
pub(crate) fn keep_library_loaded(name: &std::ffi::CStr) -> bool {
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    // SAFETY: the name is a string that outlives the call. Code of the library runs, as it would at the first look-up
    // of a name that makes the C library load it.
    return !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) }.is_null();
    #[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
    {
        let _ = name;
        false
    }
}

/// Sets the services of a name database, in the syntax of `nsswitch.conf(5)`, for the whole process. From then on glibc
/// does not read that file, for this or any other database. `EINVAL`: glibc does not know the database, or cannot parse
/// the services.
pub(crate) fn configure_name_services(database: &std::ffi::CStr, services: &std::ffi::CStr) -> nix::Result<()> {
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    {
        unsafe extern "C" {
            /// Of `nss.h`.
            fn __nss_configure_lookup(database: *const libc::c_char, services: *const libc::c_char) -> libc::c_int;
        }
        // SAFETY: glibc reads two strings, which outlive the call, and keeps copies. It replaces the pointer to a list
        // that it never frees, so look-ups on other threads use either the old or the new list.
        Errno::result(unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) }).map(drop)
    }
    #[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
    {
        let _ = (database, services);
        Ok(())
    }
}

/// The signal that the processes of a command get when their parent thread exits (`PR_SET_PDEATHSIG(2const)`).
#[derive(Debug)]
pub(crate) struct ParentDeathSignal {
    signal: AtomicI32,
    /// The process that starts them.
    parent: AtomicU32,
}

impl ParentDeathSignal {
    /// Adds it to a command, which starts its processes by `fork(2)` from now on.
    pub(crate) fn add_to(command: &mut Command, signal: c_int) -> Arc<ParentDeathSignal> {
        let asked = Arc::new(ParentDeathSignal { signal: AtomicI32::new(signal), parent: AtomicU32::new(0) });
        let in_child = Arc::clone(&asked);
        // SAFETY: between fork and exec, the closure reads two atomics and makes three system calls: it takes no lock
        // and allocates nothing.
        unsafe { command.pre_exec(move || in_child.set_in_child()) };
        asked
    }

    /// Replaces the signal; 0 stands for none.
    pub(crate) fn set(&self, signal: c_int) {
        self.signal.store(signal, Ordering::Relaxed);
    }

    /// Records that this process is the parent. To be called right before a process is started.
    pub(crate) fn parent_is_this_process(&self) {
        self.parent.store(std::process::id(), Ordering::Relaxed);
    }

    fn set_in_child(&self) -> io::Result<()> {
        let signal = self.signal.load(Ordering::Relaxed);
        let number = c_ulong::try_from(signal).map_err(|_| Errno::EINVAL)?;
        // SAFETY: prctl takes two numbers here, and touches no memory.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, number) })?;
        // SAFETY: getppid touches no memory.
        let parent = unsafe { libc::getppid() }.unsigned_abs();
        // The parent may have ended before the call above. 0 is a parent outside of the child's pid namespace.
        if signal != 0 && parent != 0 && parent != self.parent.load(Ordering::Relaxed) {
            // SAFETY: raise touches no memory of ours.
            unsafe { libc::raise(signal) };
        }
        Ok(())
    }
}
