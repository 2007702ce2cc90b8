//! A seccomp filter refuses a system call, before the first call or later. Warm calls reuse their thread, and no thread
//! keeps the changes of a body.
//!
//! Arguments: `before` or `later`; the system call; the errno, by its number; and what the first argument of the call
//! is, if that matters.
//!
//! Or `untold`: a tracer makes the kernel refuse capset(2), as a security module may. Or `threads`: no thread can be
//! started. Or `processes-only`: the caller can start none, for another reason. Or `no-proc`: `/proc` is covered. Or
//! `names`: the directories of names cannot be found.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use in_netns::{Call, Change, ErrorKind, NetNs, RetireReason, ThreadFate, pool_stats, with_netns};
use in_netns_tests::{BOUND, profiles, threads_outside_home};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::getppid;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

fn refuse(call: &str, errno: u32, first: Option<u64>) {
    let call = call.parse::<syscalls::Sysno>().expect("a system call").id();
    let rule = |value| {
        let is_equal = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
        SeccompRule::new(vec![is_equal.expect("a condition")]).expect("a rule")
    };
    let rules = BTreeMap::from([(i64::from(call), first.map(rule).into_iter().collect())]);
    profiles::apply(rules, SeccompAction::Allow, SeccompAction::Errno(errno));
}

/// Calls until warm ones use one thread again. The first ones retire threads that did not have the filter.
fn threads_are_reused(ns: &NetNs) {
    let start = Instant::now();
    loop {
        let spawned = pool_stats().spawned_total;
        for _ in 0..20 {
            with_netns(ns, getppid).expect("a call");
            std::thread::sleep(Duration::from_micros(100));
        }
        if pool_stats().spawned_total == spawned {
            return;
        }
        let fate = Call::new(ns).outcome(getppid).expect("a call").thread;
        assert!(start.elapsed() < BOUND / 4, "warm calls use their thread again: {:?}, {fate:?}", pool_stats());
    }
}

#[track_caller]
fn changes(ns: &NetNs, change: Change, body: impl Fn() + Send + Sync) {
    for call in [Call::new(ns), Call::new(ns).fresh()] {
        match call.outcome(&body).expect("a call").thread {
            ThreadFate::Retired(RetireReason::Changed(found)) => assert_eq!(found, change),
            fate => panic!("{change:?}: {fate:?}"),
        }
    }
}

fn calls_are_as_ever(ns: &NetNs) {
    threads_are_reused(ns);
    for _ in 0..2 {
        let leave = |flags| move || unshare(flags).expect("unshare");
        changes(ns, Change::Filesystem, leave(CloneFlags::CLONE_FS));
        changes(ns, Change::FileTable, leave(CloneFlags::CLONE_FILES));
        // It leaves the list of `SEM_UNDO` operations, too.
        changes(ns, Change::Namespace, leave(CloneFlags::CLONE_NEWIPC));
        threads_are_reused(ns);
    }
    for call in [Call::new(ns), Call::new(ns).fresh()] {
        let fate = call.outcome(getppid).expect("a call").thread;
        let is_pristine = matches!(fate, ThreadFate::Reusable | ThreadFate::Retired(RetireReason::Fresh));
        assert!(is_pristine, "{fate:?}");
    }
    assert!(threads_outside_home().is_empty());
}

fn no_thread_can_be_started() {
    refuse("clone3", libc::EPERM.unsigned_abs(), None);
    refuse("clone", libc::EPERM.unsigned_abs(), None);
    let error = NetNs::new().expect_err("it takes a thread");
    assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
    assert!(error.to_string().contains("seccomp filter"), "{error}");
}

/// The kernel itself refuses the caller threads. That there is a filter is not the reason.
fn the_caller_starts_processes_only() {
    refuse("acct", libc::EPERM.unsigned_abs(), None);
    let ns = NetNs::new().expect("a namespace");
    unshare(CloneFlags::CLONE_NEWPID).expect("unshare");
    let error = Call::new(&ns).fresh().run(|| ()).expect_err("it takes a thread");
    assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
    assert!(error.to_string().contains("CLONE_NEWPID") && !error.to_string().contains("seccomp"), "{error}");
}

/// The profile forbids what tells without `/proc` that a thread has stayed in its mount namespace. So that is not
/// known, and the main thread still decides what bodies have.
fn no_proc() {
    use nix::mount::{MsFlags, mount};

    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mount");
    profiles::Profile::read("moby").apply();
    let ns = std::thread::spawn(NetNs::new).join().expect("the first caller").expect("a namespace");
    mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::empty(), none).expect("mount");
    caps::securebits::set_keepcaps(true).expect("prctl");
    for _ in 0..3 {
        let outcome = Call::new(&ns).outcome(caps::securebits::has_keepcaps).expect("a call");
        let fate = outcome.thread;
        assert!(matches!(fate, ThreadFate::Retired(RetireReason::Changed(Change::Unknown))), "{fate:?}");
        assert!(outcome.value.expect("no panic").expect("prctl"), "bodies have what the main thread has");
    }
}

/// No name is gone because its directory could not be found.
fn names_are_not_lost() {
    let (names, mut watch) = NetNs::watch().expect("the names");
    for call in ["readlink", "readlinkat"] {
        // Not every architecture has both.
        if call.parse::<syscalls::Sysno>().is_ok() {
            refuse(call, libc::ENOMEM.unsigned_abs(), None);
        }
    }
    let error = NetNs::list_named().expect_err("the directories cannot be found");
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("/run/netns"), "{error}");
    assert_eq!(watch.try_next().expect_err("likewise").kind(), ErrorKind::LimitReached, "{names:?}");
    let name = format!("in-netns-not-found-{}", std::process::id());
    assert_eq!(NetNs::create_named(&name).expect_err("likewise").kind(), ErrorKind::LimitReached);
}

/// A process that the kernel refuses capset(2).
fn untold() {
    crate::rootless();
    let ns = NetNs::new().expect("a namespace");
    calls_are_as_ever(&ns);
    changes(&ns, Change::Capabilities, || {
        caps::drop(None, caps::CapSet::Bounding, caps::Capability::CAP_SYS_TIME).expect("root may drop it");
    });
    calls_are_as_ever(&ns);
}

/// Starts `untold`, and refuses its threads capset(2).
#[cfg(target_arch = "x86_64")]
fn refuse_by_tracing() {
    use std::collections::BTreeSet;
    use std::os::unix::process::CommandExt;

    use nix::errno::Errno;
    use nix::sys::ptrace;
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["refusals", "untold", "traced"]);
    // SAFETY: it makes one system call.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(Into::into));
    }
    #[allow(clippy::zombie_processes)] // `waitpid` waits for it.
    let child = command.spawn().expect("this program");
    let process = Pid::from_raw(child.id().try_into().expect("an id"));
    let mut refused = BTreeSet::new();
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL)).expect("traced threads");
        let thread = status.pid().expect("a thread");
        let mut signal = None;
        match status {
            WaitStatus::Exited(exited, code) if exited == process => {
                assert_eq!(code, 0);
                return;
            }
            WaitStatus::Signaled(ended, by, _) if ended == process => panic!("ended by {by}"),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceSyscall(_) => {
                let mut registers = ptrace::getregs(thread).expect("it is stopped");
                if refused.remove(&thread) {
                    registers.rax = 0_u64.wrapping_sub(libc::EPERM.unsigned_abs().into());
                } else if i64::try_from(registers.orig_rax) == Ok(libc::SYS_capset) {
                    // No system call has this number.
                    registers.orig_rax = u64::MAX;
                    refused.insert(thread);
                }
                ptrace::setregs(thread, registers).expect("it is stopped");
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                let options = ptrace::Options::PTRACE_O_TRACECLONE
                    | ptrace::Options::PTRACE_O_TRACEFORK
                    | ptrace::Options::PTRACE_O_TRACEVFORK
                    | ptrace::Options::PTRACE_O_TRACESYSGOOD
                    | ptrace::Options::PTRACE_O_EXITKILL;
                ptrace::setoptions(thread, options).expect("it is stopped");
            }
            // A new thread begins with it.
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            _ => {}
        }
        match ptrace::syscall(thread, signal) {
            // It was killed by the end of its process.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("go on with {thread}: {errno}"),
        }
    }
}

pub(crate) fn main() {
    let arguments: Vec<String> = crate::arguments().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["untold", "traced"] => return untold(),
        #[cfg(target_arch = "x86_64")]
        ["untold"] => return refuse_by_tracing(),
        _ => crate::rootless(),
    }
    let number = |text: &String| text.parse().expect("a number");
    match arguments.as_slice() {
        [when] if when == "threads" => no_thread_can_be_started(),
        [when] if when == "processes-only" => the_caller_starts_processes_only(),
        [when] if when == "no-proc" => no_proc(),
        [when] if when == "names" => names_are_not_lost(),
        [when, call, errno, first @ ..] => {
            let refuse = || refuse(call, number(errno), first.first().map(number).map(u64::from));
            if when == "before" {
                refuse();
            }
            let ns = NetNs::new().expect("a namespace");
            threads_are_reused(&ns);
            if when == "later" {
                refuse();
            }
            calls_are_as_ever(&ns);
        }
        other => panic!("{other:?}?"),
    }
}
