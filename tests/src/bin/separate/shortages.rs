//! Descriptors are short for the length of one system call, while a process makes its first call, a view, or a
//! namespace of a pool. What could not be read then is not decided for longer: the call fails, or all is as without the
//! shortage.
//!
//! A process is traced (`ptrace(2)`), and its limit of descriptors is lowered while it opens its first file; then the
//! same with another process and the second file, and so on.
//!
//! Arguments: what the tracee does; and `tracee`, for the processes that this one starts and traces.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use in_netns::{Call, Error, ErrorKind, NetNs, NetNsPool, ThreadFate, pinned};
use in_netns_tests::profiles;
use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};
use seccompiler::SeccompAction;

/// The signal by which the tracee reports that the shortages begin, and that they end.
const TURN: Signal = Signal::SIGUSR1;

pub(crate) fn main() {
    let mut arguments = crate::arguments();
    let what = arguments.next().expect("what the tracee does");
    if arguments.next().is_some() {
        return tracee(&what);
    }
    let mut file = 1;
    while is_short_at(&what, file) {
        file += 1;
    }
    assert!(file > 1, "no file was opened");
}

fn tracee(what: &str) {
    io::stdin().read_line(&mut String::new()).expect("a line");
    crate::rootless();
    match what {
        "first-call" => first_call(what),
        "filtered" | "without-kcmp" => {
            // No code makes the first one.
            refuse(if what == "filtered" { 9999 } else { libc::SYS_kcmp });
            first_call(what);
        }
        "view" => view(),
        "pool" => pool(),
        other => panic!("{other}?"),
    }
}

fn refuse(call: i64) {
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    profiles::apply(BTreeMap::from([(call, vec![])]), SeccompAction::Allow, refused);
}

fn shortly<R>(act: impl FnOnce() -> Result<R, Error>) -> Option<R> {
    raise(TURN).expect("our own process");
    let result = act();
    raise(TURN).expect("our own process");
    result.map_err(|error| assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}")).ok()
}

/// What a thread inherits from the one that starts it.
fn inherited() -> (SigSet, Persona) {
    (SigSet::thread_get_mask().expect("a mask"), personality::get().expect("a personality"))
}

/// The first call comes from a thread that differs from the main thread.
fn first_call(what: &str) {
    let leaders = inherited();
    let work = || {
        SigSet::from(Signal::SIGUSR2).thread_block().expect("a mask");
        personality::set(Persona::ADDR_NO_RANDOMIZE).expect("a personality");
        assert_ne!(inherited(), leaders);
        if let Some(found) = shortly(|| pinned(|_| inherited())) {
            assert_eq!(found, leaders);
        }
        assert_eq!(pinned(|_| inherited()).expect("a call"), leaders);
        assert!(!holds("/memfd:") || what == "without-kcmp", "kcmp(2) tells");
        assert!(!holds("uts:"), "the descriptor of a thread leads home (Linux 6.9)");
        let outcome = Call::new(NetNs::current().expect("a namespace")).outcome(getppid).expect("a call");
        assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    };
    thread::scope(|scope| scope.spawn(work).join().expect("the thread's own checks hold"));
}

/// Whether the process has a descriptor of such a file.
fn holds(kind: &str) -> bool {
    let files = fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| link.to_string_lossy().starts_with(kind))
}

/// The mounts below `/sys` that are not of interfaces, by the devices that are seen there.
fn below_sys() -> BTreeMap<PathBuf, u64> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc is mounted");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let below = points.filter(|point| point.starts_with("/sys") && point.iter().all(|part| part != "net"));
    below.filter(|point| point.iter().count() > 2).map(|point| (point.clone(), device(point))).collect()
}

fn device(path: PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |file| file.dev())
}

fn view() {
    let umask_now = || {
        let now = umask(Mode::empty());
        umask(now);
        now
    };
    let ns = NetNs::new().expect("a namespace");
    drop(ns.view().expect("a view"));
    let new = umask_now() ^ Mode::S_IWGRP;
    umask(new);
    let at_home = below_sys();
    if let Some(view) = shortly(|| ns.view()) {
        assert_eq!(view.run(|| (umask_now(), below_sys())).expect("a call"), (new, at_home));
    }
}

/// A namespace that a socket keeps is counted, after its last handle.
fn pool() {
    let pool = NetNsPool::builder().ready(0).at_most(1).build().expect("a pool");
    // The threads are there.
    drop(pool.take().expect("a namespace"));
    if let Some(ns) = shortly(|| pool.take()) {
        let _socket = ns.udp_bind("127.0.0.1:0").expect("a socket");
        drop(ns);
        // It is counted for as long as the socket is there, so there is no room for another one.
        assert_eq!(pool.take_timeout(Duration::from_millis(200)).expect("a pool"), None);
        assert_eq!(pool.stats().alive, 1);
    }
}

/// Whether the tracee opened so many files. It is to pass.
#[allow(clippy::zombie_processes)] // `waitpid` waits for it.
fn is_short_at(what: &str, file: u32) -> bool {
    let mut child = Command::new("/proc/self/exe")
        .args(["shortages", what, "tracee"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("this program");
    let mut stdin = child.stdin.take().expect("it is piped");
    let process = Pid::from_raw(child.id().try_into().expect("an id"));
    let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
    ptrace::seize(process, options).expect("a child can be traced");
    ptrace::interrupt(process).expect("it is traced");
    stdin.write_all(b"\n").expect("it reads");

    let (mut opened, mut are_counted, mut limited) = (0, false, None);
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL)).expect("traced threads");
        let stopped = status.pid().expect("a thread");
        let signal = match status {
            WaitStatus::Exited(_, code) if stopped == process => {
                assert_eq!(code, 0, "{what}, without file {file}");
                break;
            }
            WaitStatus::Signaled(_, signal, _) if stopped == process => panic!("{what}, without file {file}: {signal}"),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::Stopped(_, TURN) => {
                are_counted = !are_counted;
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::PtraceSyscall(_) => {
                if let Some((_, limit)) = limited.take_if(|(thread, _)| *thread == stopped) {
                    limit_descriptors(process, limit);
                } else if are_counted && is_about_to_open(stopped) {
                    opened += 1;
                    if opened == file {
                        limited = Some((stopped, limit_descriptors(process, 0)));
                    }
                }
                None
            }
            _ => None,
        };
        match ptrace::syscall(stopped, signal) {
            // It was killed by the end of its process.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("go on with {stopped}: {errno}"),
        }
    }
    opened >= file
}

#[allow(unsafe_code)]
fn is_about_to_open(thread: Pid) -> bool {
    let info = ptrace::syscall_info(thread).expect("it is stopped");
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return false;
    }
    // SAFETY: the kernel wrote this field, as `op` says.
    let call = unsafe { info.u.entry.nr };
    [libc::SYS_openat, libc::SYS_memfd_create, libc::SYS_pidfd_open]
        .map(|call| u64::try_from(call).expect("a number"))
        .contains(&call)
}

/// Sets the soft limit of descriptors of a process, and returns the one that it had.
fn limit_descriptors(process: Pid, limit: u64) -> u64 {
    let before = exchange_limit(process, None);
    exchange_limit(process, Some(libc::rlimit { rlim_cur: limit, ..before }));
    before.rlim_cur
}

#[allow(unsafe_code)]
fn exchange_limit(process: Pid, new: Option<libc::rlimit>) -> libc::rlimit {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the limits are read from, and written to, values that outlive the call.
    let result = unsafe { libc::prlimit(process.as_raw(), libc::RLIMIT_NOFILE, new, &raw mut old) };
    Errno::result(result).expect("a limit up to the hard one can be set");
    old
}
