//! A process is traced while it makes its first call, as by `strace(1)`, and not afterwards. So system calls took much
//! longer when they were measured. The inspection still detects every change of a body.
//!
//! Argument: `tracee`, for the process that this one starts and traces.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use in_netns::{NetNs, pinned, with_netns};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The signal by which the tracee reports that it has made its first call.
const CALLED: Signal = Signal::SIGUSR1;

pub(crate) fn main() {
    if crate::arguments().next().is_some() { tracee() } else { trace() }
}

fn tracee() {
    let wait = || io::stdin().read_line(&mut String::new()).expect("a line");
    wait();
    // The code of `meddle` is in memory from here on: a page fault takes longer than a system call.
    thread::spawn(meddle).join().expect("it does not panic");
    let ns = NetNs::new().expect("a namespace");
    let at_home = pinned(|_| directory()).expect("a thread");
    with_netns(&ns, || ()).expect("a call");
    raise(CALLED).expect("our own process");
    wait();
    for _ in 0..50 {
        with_netns(&ns, meddle).expect("a call");
        assert_eq!(pinned(|_| directory()).expect("a thread"), at_home);
    }
}

/// Makes two changes, which take some microseconds.
fn meddle() {
    unshare(CloneFlags::CLONE_FS).expect("always allowed");
    std::env::set_current_dir("/proc").expect("/proc is mounted");
}

fn directory() -> PathBuf {
    std::env::current_dir().expect("a directory")
}

fn trace() {
    let mut child =
        Command::new("/proc/self/exe").args(["traced", "tracee"]).stdin(Stdio::piped()).spawn().expect("this program");
    let mut stdin = child.stdin.take().expect("it is piped");
    let process = Pid::from_raw(child.id().try_into().expect("an id"));
    let options = ptrace::Options::PTRACE_O_TRACECLONE | ptrace::Options::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(process, options).expect("a child can be traced");
    ptrace::interrupt(process).expect("it is traced");
    stdin.write_all(b"\n").expect("it reads");

    let mut threads = vec![process];
    let mut has_called = false;
    while !threads.is_empty() {
        let status = waitpid(None, Some(WaitPidFlag::__WALL)).expect("traced threads");
        let stopped = status.pid().expect("a thread");
        let signal = match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                threads.retain(|other| *other != stopped);
                continue;
            }
            WaitStatus::Stopped(_, CALLED) => {
                has_called = true;
                let others = threads.iter().filter(|other| **other != stopped);
                // One that stops at this moment need not be interrupted.
                others.for_each(|other| _ = ptrace::interrupt(*other));
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => None,
        };
        if has_called {
            threads.retain(|other| *other != stopped);
            ptrace::detach(stopped, signal).expect("it is stopped");
            continue;
        }
        if !threads.contains(&stopped) {
            threads.push(stopped);
        }
        // A slow tracer, so that a body of some microseconds is far below what was measured.
        thread::sleep(Duration::from_micros(50));
        match ptrace::syscall(stopped, signal) {
            // It was killed by the end of its process.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("go on with {stopped}: {errno}"),
        }
    }
    stdin.write_all(b"\n").expect("it reads");
    let status = child.wait().expect("our own child");
    assert!(status.success(), "{status}");
}
