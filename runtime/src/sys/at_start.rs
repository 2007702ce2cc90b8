//! What the process began with: the namespaces of its main thread, and that thread's timer slack, noted before `main`.
//!
//! **Why:** the state at one moment does not distinguish a main thread that is in another namespace for a short time
//! from one that has moved permanently. The namespaces that it began in do.
//!
//! **How:** a function in the section `.init_array`, which makes eight system calls and starts nothing. In a library
//! that is loaded later it notes what the main thread has then, and nothing if another thread loads it.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nix::libc;

use super::{Kind, is_main_thread, process_id};

#[used]
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

/// Inode numbers of the namespaces, in the order of [`FILES`]. 0: not known.
static NAMESPACES: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
static TIMER_SLACK: AtomicU64 = AtomicU64::new(0);

/// The user namespace, and then those that a thread can be in by itself.
const FILES: [&CStr; 5] =
    [c"/proc/self/ns/user", c"/proc/self/ns/net", c"/proc/self/ns/uts", c"/proc/self/ns/ipc", c"/proc/self/ns/cgroup"];

fn index(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Net => Some(1),
        Kind::Uts => Some(2),
        Kind::Ipc => Some(3),
        Kind::Cgroup => Some(4),
        Kind::PidForChildren | Kind::Mount => None,
    }
}

/// Notes what the process has now. Before `main`, and when the process has entered namespaces of its own.
pub(crate) extern "C" fn note() {
    if !is_main_thread() {
        return;
    }
    for (file, known) in FILES.iter().zip(&NAMESPACES) {
        known.store(inode(file), Ordering::Relaxed);
    }
    // SAFETY: this option takes no argument.
    let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
    TIMER_SLACK.store(u64::try_from(slack).unwrap_or(0), Ordering::Relaxed);
}

/// The process that used the crate first, of this one and those that it was forked from. 0: none yet.
static FIRST_USER: AtomicU32 = AtomicU32::new(0);

/// This process uses the crate. A child that it forks begins as a copy of any of its threads, so what is noted does not
/// hold there.
pub(crate) fn used() {
    let _ = FIRST_USER.compare_exchange(0, my_id(), Ordering::Relaxed, Ordering::Relaxed);
}

fn my_id() -> u32 {
    process_id().as_raw().unsigned_abs()
}

/// The main thread has moved to another network namespace, for good.
pub(crate) fn moved_to(netns: u64) {
    NAMESPACES[1].store(netns, Ordering::Relaxed);
}

/// The inode number of the namespace that the process began in. `None` where it is not known, or where the process has
/// entered another user namespace since then, or is the child of one that used the crate.
pub(crate) fn namespace(kind: Kind) -> Option<u64> {
    if ![0, my_id()].contains(&FIRST_USER.load(Ordering::Relaxed)) {
        return None;
    }
    let known = |index: usize| Some(NAMESPACES[index].load(Ordering::Relaxed)).filter(|inode| *inode != 0);
    (known(0)? == inode(FILES[0])).then(|| known(index(kind)?)).flatten()
}

/// The main thread's timer slack in nanoseconds, then.
pub(crate) fn timer_slack() -> Option<u64> {
    Some(TIMER_SLACK.load(Ordering::Relaxed)).filter(|slack| *slack != 0)
}

#[allow(clippy::useless_conversion)] // The number has 32 bits on some architectures.
fn inode(file: &CStr) -> u64 {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends with a zero, and the kernel fills what it is given where it says so.
    match unsafe { libc::stat(file.as_ptr(), found.as_mut_ptr()) } {
        // SAFETY: filled.
        0 => unsafe { found.assume_init() }.st_ino.into(),
        _ => 0,
    }
}

/// The state that the process was started with and that std changes before `main`: std ignores `SIGPIPE`, and opens
/// `/dev/null` where a standard stream is closed.
static IGNORED_SIGPIPE: AtomicBool = AtomicBool::new(false);
static CLOSED_STREAMS: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Records that state, for a program that becomes another one by [`with_inherited`].
pub(crate) extern "C" fn note_inherited() {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: it changes nothing, and the C library fills the structure when it returns 0.
    if unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) } == 0 {
        // SAFETY: filled.
        let ignored = unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN;
        IGNORED_SIGPIPE.store(ignored, Ordering::Relaxed);
    }
    for (stream, closed) in (0..).zip(&CLOSED_STREAMS) {
        // SAFETY: this command takes a number.
        closed.store(unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1, Ordering::Relaxed);
    }
}

/// Runs `exec`, which replaces the program, in the state that [`note_inherited`] has recorded. It returns only if
/// `exec` failed: then `SIGPIPE` is ignored again.
pub(crate) fn with_inherited<R>(exec: impl FnOnce() -> R) -> R {
    for (stream, closed) in (0..).zip(&CLOSED_STREAMS) {
        if closed.load(Ordering::Relaxed) {
            // SAFETY: no value of this program owns a standard stream.
            unsafe { libc::close(stream) };
        }
    }
    let set = |action| {
        // SAFETY: neither action is a handler.
        unsafe { libc::signal(libc::SIGPIPE, action) };
    };
    set(if IGNORED_SIGPIPE.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL });
    let failed = exec();
    set(libc::SIG_IGN);
    failed
}
