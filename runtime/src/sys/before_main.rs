//! Code that runs before `main`: it enters a user namespace together with the namespaces that belong to it.
//!
//! **Promised:** either the process is root in a user namespace of its own *together with* a network namespace that
//! belongs to it, or nothing about the process has changed. Nothing is printed; [`state`] returns the result.
//!
//! **Why before `main`:** `unshare(2)` with `CLONE_NEWUSER` requires a process with one thread, and a test harness has
//! several threads when the first test runs.
//!
//! **Why a probe first:** on some systems (`AppArmor` on Ubuntu) the user namespace can be created but is useless: its
//! capabilities are refused, and even the id map. `unshare` cannot be undone, so a child process tries first and
//! reports the result.
//!
//! **How:** before `main`, the streams, threads, arguments and environment of `std` cannot be relied on, and the
//! program's allocator must not be called. This file uses only system calls, constants and its own stack.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_ulong};

use super::current_tid;
use super::raw::{CAP_SYS_ADMIN, capabilities_of};
use super::socket::loopback_up;

/// The result of entering namespaces of the process's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was not requested.
    Untried,
    /// The process had `CAP_SYS_ADMIN` already.
    NotNeeded,
    /// The process entered them. A refusal names an optional step that failed.
    Entered(Option<Refusal>),
    /// It failed, and nothing changed.
    Refused(Refusal),
}

/// The step that the kernel refused, and the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
}

/// The steps of entering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// In the probe: starting the child process.
    Probe = 1,
    /// In the probe: `unshare(2)` with `CLONE_NEWUSER`.
    UserNamespace,
    /// Mapping the process's own ids to root (`user_namespaces(7)`).
    Mapping,
    /// In the probe: using `CAP_SYS_ADMIN` in the new namespace.
    Capability,
    /// Unsharing all namespaces at once, for the process itself.
    Unshare,
    /// Mounting a private `/run/netns`.
    Names,
    /// Bringing up the loopback of the new home.
    Loopback,
}

impl Step {
    const ALL: [Step; 7] =
        [Step::Probe, Step::UserNamespace, Step::Mapping, Step::Capability, Step::Unshare, Step::Names, Step::Loopback];

    fn refused(self, errno: Errno) -> Refusal {
        Refusal { step: self, errno }
    }
}

impl Refusal {
    /// Encodes the refusal in 24 bits, never 0: it is sent between processes and stored in an atomic.
    fn encode(self) -> u32 {
        (self.step as u32) << 16 | (self.errno as u32 & 0xffff)
    }

    fn decode(word: u32) -> Option<Refusal> {
        let step = Step::ALL.into_iter().find(|step| *step as u32 == word >> 16 & 0xff)?;
        let errno = Errno::from_raw(c_int::try_from(word & 0xffff).unwrap_or(0));
        Some(Refusal { step, errno })
    }
}

static STATE: AtomicU32 = AtomicU32::new(UNTRIED);

const UNTRIED: u32 = 0;
const NOT_NEEDED: u32 = 1 << 24;
const ENTERED: u32 = 2 << 24;
const REFUSED: u32 = 3 << 24;

/// Returns the result so far.
pub(crate) fn state() -> State {
    let word = STATE.load(Ordering::Acquire);
    match (word & 0xff00_0000, Refusal::decode(word & 0x00ff_ffff)) {
        (NOT_NEEDED, _) => State::NotNeeded,
        (ENTERED, defect) => State::Entered(defect),
        (REFUSED, Some(refusal)) => State::Refused(refusal),
        _ => State::Untried,
    }
}

/// The function that `in_netns::rootless!()` registers. It acts once, even if it is registered several times.
pub(crate) extern "C" fn before_main() {
    if state() == State::Untried {
        enter_own_namespaces();
    }
}

/// Enters the namespaces if the privilege is missing. Tries again after an earlier refusal.
pub(crate) fn enter_own_namespaces() -> State {
    if let entered @ State::Entered(_) = state() {
        return entered;
    }
    let word = match enter() {
        Ok(Entry::NotNeeded) => NOT_NEEDED,
        Ok(Entry::Entered(defect)) => {
            super::at_start::note();
            ENTERED | defect.map_or(0, Refusal::encode)
        }
        Err(refusal) => REFUSED | refusal.encode(),
    };
    STATE.store(word, Ordering::Release);
    state()
}

enum Entry {
    NotNeeded,
    Entered(Option<Refusal>),
}

fn enter() -> Result<Entry, Refusal> {
    const NEEDED: c_int = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
    const NAMES: c_int = NEEDED | libc::CLONE_NEWNS;
    const ALL: c_int = NAMES | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP;
    if capabilities_of(current_tid()).is_ok_and(|mine| mine.has(CAP_SYS_ADMIN)) {
        return Ok(Entry::NotNeeded);
    }
    try_user_namespace()?;
    let me = Identity::mine();
    // A thread can restore every namespace that belongs to the new user namespace, so as many kinds as possible are
    // unshared. A kind that the kernel does not have, or has used up, is left out.
    let mut tried = Err(Errno::EINVAL);
    for flags in [ALL, ALL & !libc::CLONE_NEWCGROUP, NAMES, NEEDED] {
        tried = unshare(flags);
        if tried.is_ok() {
            break;
        }
    }
    tried.map_err(|errno| Step::Unshare.refused(errno))?;
    // This cannot be undone. Each of these steps is useful without the others.
    let mapped = me.become_root().map_err(|errno| Step::Mapping.refused(errno));
    let named = make_names_private().map_err(|errno| Step::Names.refused(errno));
    let looped = loopback_up().map(drop).map_err(|errno| Step::Loopback.refused(errno));
    Ok(Entry::Entered(mapped.and(looped).and(named).err()))
}

/// Whether this process could have a user namespace of its own and use it, found by trying in a child process.
pub(crate) fn try_user_namespace() -> Result<(), Refusal> {
    const GOOD: u32 = u32::MAX;
    let answer = in_child(|report| report(own_user_namespace().map_or_else(Refusal::encode, |()| GOOD)));
    match answer.map_err(|errno| Step::Probe.refused(errno))? {
        GOOD => Ok(()),
        // A child that was killed before it could report left the word as it was.
        word => Err(Refusal::decode(word).unwrap_or(Step::Probe.refused(Errno::ECANCELED))),
    }
}

/// Calls `run` in a child process, and returns the last word that it reported, or 0. The kernel may have killed the
/// child.
///
/// The program does not notice the child: it sends no `SIGCHLD`, and a `wait` for any child does not return it. Another
/// thread may hold a lock at the moment of the fork, so `run` must not allocate or lock.
pub(crate) fn in_child(run: impl FnOnce(&dyn Fn(u32))) -> nix::Result<u32> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses the address, so the new mapping replaces no existing one.
    let page = unsafe { libc::mmap(ptr::null_mut(), size_of::<AtomicU32>(), protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the page is zeroed, aligned, shared only with the child, and unmapped below, after the last use.
    let answer = unsafe { &*page.cast::<AtomicU32>() };

    let before = block_signals();
    // SAFETY: there are no flags and no stack, so the child is a copy of this process with one thread. It allocates
    // nothing and calls nothing that locks: it only makes system calls and exits.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child == 0 {
        run(&|word| answer.store(word, Ordering::Release));
        // SAFETY: it ends the child and runs no exit handler of the parent.
        unsafe { libc::_exit(0) }
    }
    let started = Errno::result(child).map(wait_for);
    unblock_signals(&before);
    let word = answer.load(Ordering::Acquire);
    // SAFETY: the page was mapped above with this length, and `answer` is not used after this point.
    unsafe { libc::munmap(page, size_of::<AtomicU32>()) };
    started.map(|()| word)
}

/// Runs the probe, in the child.
fn own_user_namespace() -> Result<(), Refusal> {
    let me = Identity::mine();
    unshare(libc::CLONE_NEWUSER).map_err(|errno| Step::UserNamespace.refused(errno))?;
    me.become_root().map_err(|errno| Step::Mapping.refused(errno))?;
    match unshare(libc::CLONE_NEWUTS) {
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => Err(Step::Capability.refused(errno)),
        // Either it succeeded or the limit of user namespaces is reached: both show that the capability works.
        _ => Ok(()),
    }
}

#[allow(irrefutable_let_patterns)] // A `c_long` is a `pid_t` on some architectures.
fn wait_for(child: c_long) {
    let Ok(child) = libc::pid_t::try_from(child) else { return };
    loop {
        // SAFETY: the status pointer is null. `__WALL` also waits for a child that sends no signal on exit.
        let result = unsafe { libc::waitpid(child, ptr::null_mut(), libc::__WALL) };
        if Errno::result(result) != Err(Errno::EINTR) {
            return;
        }
    }
}

/// Blocks every signal, so that the child runs no signal handler of the program. Returns the previous mask.
fn block_signals() -> libc::sigset_t {
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut all = before;
    // SAFETY: it writes to a local signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: it reads one local signal set and writes the other.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: all zeros are a valid (empty) set, and the call above wrote the real one.
    unsafe { before.assume_init() }
}

fn unblock_signals(before: &libc::sigset_t) {
    // SAFETY: it reads a set that outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

fn unshare(flags: c_int) -> nix::Result<()> {
    // SAFETY: it takes a number and touches no memory of the program.
    Errno::result(unsafe { libc::unshare(flags) }).map(drop)
}

/// The ids of the process outside of the new user namespace.
struct Identity {
    uid: libc::uid_t,
    gid: libc::gid_t,
}

impl Identity {
    /// Call it before `unshare`. After `unshare`, ids read as 65534 until they are mapped.
    fn mine() -> Identity {
        // SAFETY: it cannot fail and takes no pointer.
        let uid = unsafe { libc::geteuid() };
        // SAFETY: it cannot fail and takes no pointer.
        let gid = unsafe { libc::getegid() };
        Identity { uid, gid }
    }

    /// Maps this identity, and no other, to root of the new user namespace.
    fn become_root(&self) -> nix::Result<()> {
        match write_file(c"/proc/self/setgroups", b"deny") {
            // Linux before 3.19 has no such file, and does not require it for `gid_map`.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        write_file(c"/proc/self/uid_map", single_id_map(self.uid).as_bytes())?;
        write_file(c"/proc/self/gid_map", single_id_map(self.gid).as_bytes())
    }
}

fn single_id_map(outside: u32) -> Text {
    let mut map = Text::new();
    map.push(b"0 ");
    map.push_number(outside);
    map.push(b" 1\n");
    map
}

/// Gives the process a private `/run/netns`. The rest of `/run` stays as it is.
fn make_names_private() -> nix::Result<()> {
    // No mount made here propagates to other mount namespaces, but an unmount there propagates to here: in the mount
    // namespace of a new user namespace, all mounts are slaves (`mount_namespaces(7)`).
    match mount_tmpfs(c"/run/netns") {
        Err(Errno::ENOENT) => rebuild_run(),
        other => other,
    }
}

/// Mounts a new `/run` with every entry of the old one. Used if `/run/netns` is missing and `/run` is not writable.
fn rebuild_run() -> nix::Result<()> {
    let old = Descriptor::open(c"/run", libc::O_RDONLY | libc::O_DIRECTORY)?;
    mount_tmpfs(c"/run")?;
    let rebuilt = old.each_entry(|name| {
        // An entry that cannot be copied is missing in the new `/run`. The other entries are still useful.
        let _ = show_again(&old, name);
    });
    // SAFETY: it reads a constant string.
    let made = rebuilt.and_then(|()| Errno::result(unsafe { libc::mkdir(c"/run/netns".as_ptr(), 0o755) }));
    if made.is_err() {
        // SAFETY: it reads a constant string. Detaching the new `/run` makes the old one visible again.
        unsafe { libc::umount2(c"/run".as_ptr(), libc::MNT_DETACH) };
    }
    made.map(drop)
}

/// Makes an entry of the old `/run` visible in the new one: a symbolic link by a new link, any other file by a bind
/// mount.
fn show_again(old: &Descriptor, name: &CStr) -> nix::Result<()> {
    let mut place = Text::new();
    place.push(b"/run/");
    place.push(name.to_bytes());
    let place = place.as_c_str()?;

    let mut source = Text::new();
    source.push(b"/proc/self/fd/");
    source.push_number(old.0.unsigned_abs());
    source.push(b"/");
    source.push(name.to_bytes());
    let source = source.as_c_str()?;

    match old.kind_of(name)? {
        libc::S_IFLNK => {
            let mut target = [0_u8; libc::PATH_MAX as usize];
            // SAFETY: it reads a string, and writes less than the buffer holds, so that a zero stays at the end.
            let length = unsafe { libc::readlink(source.as_ptr(), target.as_mut_ptr().cast(), target.len() - 1) };
            Errno::result(length)?;
            // SAFETY: both strings end within their buffers.
            Errno::result(unsafe { libc::symlink(target.as_ptr().cast(), place.as_ptr()) }).map(drop)
        }
        libc::S_IFDIR => {
            // SAFETY: it reads a string.
            Errno::result(unsafe { libc::mkdir(place.as_ptr(), 0o755) })?;
            mount(source, place, None, libc::MS_BIND | libc::MS_REC).inspect_err(|_| {
                // SAFETY: it reads a string; the directory was made above.
                unsafe { libc::rmdir(place.as_ptr()) };
            })
        }
        // For a socket, a FIFO or a device, an ordinary file can be the mount point.
        _ => {
            // SAFETY: it reads a string.
            Errno::result(unsafe { libc::mknod(place.as_ptr(), libc::S_IFREG | 0o600, 0) })?;
            mount(source, place, None, libc::MS_BIND).inspect_err(|_| {
                // SAFETY: it reads a string; the file was made above.
                unsafe { libc::unlink(place.as_ptr()) };
            })
        }
    }
}

fn mount_tmpfs(place: &CStr) -> nix::Result<()> {
    mount(c"tmpfs", place, Some(c"mode=0755"), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
}

/// `mount(2)`: mounts a tmpfs if options are given, and otherwise acts on an existing mount or directory.
fn mount(source: &CStr, place: &CStr, tmpfs: Option<&CStr>, flags: c_ulong) -> nix::Result<()> {
    let (kind, options) =
        tmpfs.map_or((ptr::null(), ptr::null()), |options| (c"tmpfs".as_ptr(), options.as_ptr().cast()));
    // SAFETY: each pointer is null or a string that outlives the call.
    Errno::result(unsafe { libc::mount(source.as_ptr(), place.as_ptr(), kind, flags, options) }).map(drop)
}

fn write_file(path: &CStr, content: &[u8]) -> nix::Result<()> {
    let file = Descriptor::open(path, libc::O_WRONLY)?;
    // SAFETY: it reads at most as many bytes as the slice holds.
    let written = Errno::result(unsafe { libc::write(file.0, content.as_ptr().cast(), content.len()) })?;
    // The kernel accepts the content of such a file whole or not at all.
    if usize::try_from(written) == Ok(content.len()) { Ok(()) } else { Err(Errno::EIO) }
}

/// An open descriptor. (`OwnedFd` belongs to `std`.)
struct Descriptor(c_int);

impl Descriptor {
    fn open(path: &CStr, flags: c_int) -> nix::Result<Descriptor> {
        // SAFETY: it reads a string.
        Errno::result(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }).map(Descriptor)
    }

    /// Returns the file type of an entry: `S_IFDIR` and so on.
    fn kind_of(&self, name: &CStr) -> nix::Result<libc::mode_t> {
        let mut found = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: it reads a string, and writes into a local `stat`.
        Errno::result(unsafe { libc::fstatat(self.0, name.as_ptr(), found.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
        // SAFETY: all zeros are a valid `stat`, and the kernel has written the real one.
        Ok(unsafe { found.assume_init() }.st_mode & libc::S_IFMT)
    }

    /// Calls `visit` with the name of every entry except `.` and `..` (`getdents64(2)`; `readdir` allocates).
    fn each_entry(&self, mut visit: impl FnMut(&CStr)) -> nix::Result<()> {
        /// `struct linux_dirent64` has before the name: inode (8 bytes), offset (8), record length (2), type (1).
        const LENGTH_AT: usize = 16;
        const NAME_AT: usize = 19;
        let mut buffer = [0_u8; 4096];
        loop {
            // SAFETY: it writes at most as many bytes as the buffer holds.
            let filled = unsafe { libc::syscall(libc::SYS_getdents64, self.0, buffer.as_mut_ptr(), buffer.len()) };
            let filled = usize::try_from(Errno::result(filled)?).unwrap_or(0);
            let mut records = buffer.get(..filled).unwrap_or_default();
            if records.is_empty() {
                return Ok(());
            }
            while let Some(&[low, high]) = records.get(LENGTH_AT..LENGTH_AT + 2) {
                let length = usize::from(u16::from_ne_bytes([low, high]));
                let name = records.get(NAME_AT..length).and_then(|name| CStr::from_bytes_until_nul(name).ok());
                if let Some(name) = name.filter(|name| *name != c"." && *name != c"..") {
                    visit(name);
                }
                records = records.get(length..).unwrap_or_default();
            }
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: this value owns the descriptor, which is not used after this point.
        unsafe { libc::close(self.0) };
    }
}

/// A short text on the stack, such as a number or a path. If it does not fit, `as_c_str` fails.
struct Text {
    bytes: [u8; Text::ROOM],
    length: usize,
}

impl Text {
    /// Room for `/proc/self/fd/2147483647/`, a name of 255 bytes, and the zero at the end.
    const ROOM: usize = 300;

    fn new() -> Text {
        Text { bytes: [0; Text::ROOM], length: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        for byte in more {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
        }
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn as_c_str(&self) -> nix::Result<&CStr> {
        let whole = self.bytes.get(..=self.length).ok_or(Errno::ENAMETOOLONG)?;
        CStr::from_bytes_with_nul(whole).map_err(|_| Errno::EINVAL)
    }
}
