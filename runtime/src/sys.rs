//! The syscalls, all of them, with safe faces.
//!
//! Everything above this module speaks of namespaces and threads; what the kernel wants to hear is decided here alone.
//! [`raw`] holds the calls that `nix` does not wrap, [`before_main`] what is done where there is no `std` yet, [`process_local`] what
//! a child process does not inherit: with them the only `unsafe` of this layer.

#[allow(unsafe_code)] // Before `main`, libc alone is to be relied on: see the module's documentation.
pub(crate) mod before_main;
#[allow(unsafe_code)] // A page that the kernel empties in child processes: see the module's documentation.
pub(crate) mod process_local;
#[allow(unsafe_code)] // The syscalls that nix does not wrap: each a few lines, with its SAFETY comment.
mod raw;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{self, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{self, CloneFlags, CpuSet};
use nix::sys::stat::{self, Mode};
use nix::sys::statfs::{self, NSFS_MAGIC};
use nix::unistd::{Pid, gettid};

pub(crate) use nix::mount::{MntFlags, MsFlags, mount, umount2};
pub(crate) use nix::sched::{setns, unshare};
pub(crate) use raw::{
    CAP_SETFCAP, CAP_SYS_ADMIN, Capabilities, Resource, bring_loopback_up, capabilities_of, copy_of_descriptor,
    first_mount, futex_wait, futex_wake, has_mount, namespace_type, netns_of_socket, owning_user_namespace,
    pidfd_of_process, pidfd_of_thread, set_capabilities, share,
};

/// A thread id, as `gettid(2)` gives it.
pub(crate) type Tid = Pid;

/// The calling thread's id.
pub(crate) fn current_tid() -> Tid {
    gettid()
}

/// The id of the process, which is also the thread id of its leader.
pub(crate) fn process_id() -> Tid {
    nix::unistd::getpid()
}

/// The CPU that the calling thread is on at this moment.
pub(crate) fn current_cpu() -> u32 {
    sched::sched_getcpu().ok().and_then(|cpu| cpu.try_into().ok()).unwrap_or(0)
}

/// Moves the calling thread off a CPU if it is there and may run elsewhere. Its affinity is the same afterwards. Returns whether the
/// thread is on another CPU.
pub(crate) fn leave_cpu(cpu: u32) -> bool {
    if current_cpu() == cpu {
        move_by_affinity(|affinity| affinity.unset(cpu as usize));
    }
    current_cpu() != cpu
}

/// Moves the calling thread to a CPU if it may run there. Its affinity is the same afterwards.
pub(crate) fn return_to_cpu(cpu: u32) {
    if current_cpu() != cpu {
        move_by_affinity(|affinity| {
            let may_run_there = affinity.is_set(cpu as usize)?;
            *affinity = CpuSet::new();
            if may_run_there { affinity.set(cpu as usize) } else { Ok(()) }
        });
    }
}

/// Narrows the calling thread's affinity, which moves it at once, and sets what it was before.
fn move_by_affinity(narrow: impl FnOnce(&mut CpuSet) -> nix::Result<()>) {
    let this_thread = Pid::from_raw(0);
    let Ok(affinity) = sched::sched_getaffinity(this_thread) else { return };
    let mut narrowed = affinity;
    // An affinity without a CPU is refused, and the thread stays.
    if narrow(&mut narrowed).is_ok() && sched::sched_setaffinity(this_thread, &narrowed).is_ok() {
        // What the kernel has just taken for narrower it takes again, unless the last CPU of it goes offline meanwhile.
        let _ = sched::sched_setaffinity(this_thread, &affinity);
    }
}

/// Opens what may be a namespace file: close-on-exec, and without waiting for whoever else might open a FIFO.
pub(crate) fn open_namespace_file(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    fcntl::open(path, flags, Mode::empty())
}

/// Whether the descriptor is on the namespace filesystem. Asked before any `ioctl_nsfs(2)`, so that a device is never
/// sent a request that means something else to it.
pub(crate) fn is_namespace_file(fd: impl AsFd) -> nix::Result<bool> {
    Ok(statfs::fstatfs(fd)?.filesystem_type() == NSFS_MAGIC)
}

/// Device and inode, which identify a namespace for as long as something holds it (`namespaces(7)`).
pub(crate) fn identity(fd: impl AsFd) -> nix::Result<(u64, u64)> {
    stat::fstat(fd).map(|file| (file.st_dev, file.st_ino))
}

/// The namespace of one kind that a thread is in, as `readlink(2)` of its `ns/` file tells: `uts:[4026531838]`.
///
/// The link is read, not followed: that is half the price of a `stat`, and opens nothing.
pub(crate) fn namespace_of(thread: ProcTask, kind: Kind) -> io::Result<PathBuf> {
    fs::read_link(thread.proc_path().join("ns").join(kind.file()))
}

/// Whose `/proc` files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcTask {
    /// The calling thread: `/proc/thread-self`. (`/proc/self` would be the process leader.)
    Me,
    /// The process leader: `/proc/self`.
    Leader,
}

impl ProcTask {
    pub(crate) fn proc_path(self) -> &'static Path {
        Path::new(match self {
            ProcTask::Me => "/proc/thread-self",
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
    /// network namespace comes first.
    pub(crate) const RESTORABLE: [Kind; 5] = [Kind::Net, Kind::Uts, Kind::Ipc, Kind::Cgroup, Kind::PidForChildren];

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

    /// Opens the namespace of this kind that `thread` is in.
    pub(crate) fn open(self, thread: ProcTask) -> nix::Result<OwnedFd> {
        open_namespace_file(&thread.proc_path().join("ns").join(self.file()))
    }
}

/// Gives the calling thread the processor affinity that another thread of the process has.
pub(crate) fn copy_affinity_from(thread: Tid) -> nix::Result<()> {
    let wanted: CpuSet = nix::sched::sched_getaffinity(thread)?;
    nix::sched::sched_setaffinity(Pid::from_raw(0), &wanted)
}

/// Names the calling thread: what `/proc/self/task/TID/comm` shows, 15 bytes of it.
pub(crate) fn name_current_thread(name: &std::ffi::CStr) -> nix::Result<()> {
    nix::sys::prctl::set_name(name)
}

/// The calling thread's timer slack in nanoseconds (`PR_GET_TIMERSLACK(2const)`). The threads that it starts inherit it.
pub(crate) fn timer_slack() -> nix::Result<u64> {
    nix::sys::prctl::get_timerslack().map(|slack| u64::from(slack.unsigned_abs()))
}

/// Sets the calling thread's timer slack in nanoseconds.
pub(crate) fn set_timer_slack(slack: u64) -> nix::Result<()> {
    nix::sys::prctl::set_timerslack(slack)
}

/// The timer slack of a thread. An error without `CAP_SYS_NICE`.
pub(crate) fn timer_slack_of(thread: u32) -> io::Result<u64> {
    // A directory of that name exists for every thread, though only those of processes are listed.
    let slack = fs::read_to_string(format!("/proc/{thread}/timerslack_ns"))?;
    slack.trim_end().parse().map_err(io::Error::other)
}

/// The id of this process as `/proc` has it.
pub(crate) fn number_in_proc() -> io::Result<u32> {
    let link = fs::read_link("/proc/self")?;
    let number = link.to_str().and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self is no number"))
}

/// The ids of a process's threads, sorted, given its directory in `/proc`, at one look.
///
/// The kernel goes from one thread to the next, and where one exits under its feet, it stops or skips: threads that live on can be
/// missing (measured: once in fifty times, beside eight that exit).
pub(crate) fn threads_at_a_look(process: &Path) -> io::Result<Vec<u32>> {
    let mut threads = numbered_entries(&process.join("task"))?;
    threads.sort_unstable();
    Ok(threads)
}

/// The ids of a process's threads, sorted, given its directory in `/proc`. One that has just exited may be among them.
///
/// A look that lacks a thread has the one that exited instead, and so the next look differs. When two agree, nothing was skipped.
pub(crate) fn threads_of(process: &Path) -> io::Result<Vec<u32>> {
    /// For a process whose threads come and go all the time.
    const LOOKS: usize = 16;
    let mut last = threads_at_a_look(process)?;
    let mut seen = last.clone();
    for _ in 1..LOOKS {
        let now = threads_at_a_look(process)?;
        if now == last {
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

/// Device and inode of the network namespace that a thread is in, given its directory in `/proc`. Opens nothing.
pub(crate) fn net_of_task(task: &Path) -> nix::Result<(u64, u64)> {
    stat::stat(&task.join("ns/net")).map(|file| (file.st_dev, file.st_ino))
}

/// The name of a thread, given its directory in `/proc`.
pub(crate) fn task_name(task: &Path) -> io::Result<String> {
    let name = fs::read(task.join("comm"))?;
    Ok(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

/// What a thread is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskState {
    Awake,
    Asleep,
    /// On its way out, and running no code of the process any more.
    Exiting,
}

/// What a thread of this process is about, from its `stat` file (`proc_pid_stat(5)`). `None` where it is gone.
pub(crate) fn task_state(thread: u32) -> Option<TaskState> {
    /// `PF_EXITING` of `linux/sched.h`, set before a joiner is woken.
    const EXITING: u64 = 0x4;
    let stat = fs::read(format!("/proc/self/task/{thread}/stat")).ok()?;
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

/// Waits until a descriptor is readable, for ever.
pub(crate) fn wait_readable(fd: impl AsFd) -> nix::Result<()> {
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// The inode number of a thread's directory under `/proc/self/task`, or `None` where the thread is gone.
///
/// A thread id that is used again gets a new inode number, so that it is not mistaken for the thread that had it before.
pub(crate) fn task_inode(thread: Tid) -> Option<u64> {
    fs::metadata(format!("/proc/self/task/{thread}")).ok().map(|task| task.ino())
}
