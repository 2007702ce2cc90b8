//! Looking at the kernel's own answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use in_netns::{NetNs, NetNsId};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::stat;

/// Long enough for anything that is going to happen; a failing test waits for so long.
pub const BOUND: Duration = Duration::from_secs(20);

/// For tests that count what the whole process has: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of this process, each with the network namespace that the kernel says it is in.
///
/// A thread that exits meanwhile is left out. It can have the kernel leave out others, so it takes two listings that agree.
pub fn threads() -> BTreeMap<u32, (u64, u64)> {
    let listing = || -> BTreeSet<u32> {
        let tasks = fs::read_dir("/proc/self/task").expect("/proc/self/task");
        tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
    };
    let mut tasks = listing();
    loop {
        let again = listing();
        if again == tasks {
            break;
        }
        tasks = again;
    }
    tasks.into_iter().filter_map(|tid| Some((tid, namespace_of_task(tid)?))).collect()
}

fn namespace_of_task(tid: u32) -> Option<(u64, u64)> {
    let file = stat(&PathBuf::from(format!("/proc/self/task/{tid}/ns/net"))).ok()?;
    Some((file.st_dev, file.st_ino))
}

pub fn key(id: NetNsId) -> (u64, u64) {
    (id.device(), id.inode())
}

/// The namespace of the process's leader, which the tests leave where it is.
pub fn home() -> (u64, u64) {
    namespace_of_task(std::process::id()).expect("the leader's namespace")
}

/// Where the calling thread is, as the kernel says.
pub fn here() -> (u64, u64) {
    namespace_of_task(tid()).expect("the calling thread's namespace")
}

/// The threads that the kernel shows in `ns`.
pub fn threads_in(ns: &NetNs) -> Vec<u32> {
    let wanted = key(ns.id());
    threads().into_iter().filter(|(_, at)| *at == wanted).map(|(tid, _)| tid).collect()
}

pub fn threads_outside_home() -> Vec<u32> {
    let home = home();
    threads().into_iter().filter(|(_, at)| *at != home).map(|(tid, _)| tid).collect()
}

pub fn tid() -> u32 {
    nix::unistd::gettid().as_raw().unsigned_abs()
}

pub fn is_alive(tid: u32) -> bool {
    fs::exists(format!("/proc/self/task/{tid}")).expect("/proc/self/task")
}

/// What the process has open: number and target.
pub fn descriptors() -> BTreeMap<u32, String> {
    let open = fs::read_dir("/proc/self/fd").expect("/proc/self/fd");
    open.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?.display().to_string();
        // The directory that is being read is open only for this.
        (!target.ends_with("/fd")).then_some((entry.file_name().to_str()?.parse().ok()?, target))
    })
    .collect()
}

/// Sets a limit of the process, until the result is dropped.
///
/// # Panics
///
/// Where it is above the hard limit.
pub fn limited(resource: Resource, soft: u64) -> impl Drop {
    let before = getrlimit(resource).expect("getrlimit");
    setrlimit(resource, soft, before.1).expect("a limit up to the hard one can be set");
    scopeguard::guard((), move |()| setrlimit(resource, before.0, before.1).expect("it has been so before"))
}

/// As many descriptors as the process may have, until the result is dropped: 1,024, as is usual, are soon used up.
///
/// # Panics
///
/// Where the kernel does not tell how many that is.
pub fn all_descriptors() -> impl Drop {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    limited(Resource::RLIMIT_NOFILE, hard)
}

/// Waits for a condition, with a bound.
///
/// # Panics
///
/// When the condition does not come about.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}");
        std::thread::yield_now();
    }
}

/// Takes a capability from the calling thread's effective set: a body that does so cannot be restored.
pub fn drop_effective(capability: caps::Capability) {
    caps::drop(None, caps::CapSet::Effective, capability).expect("a capability can always be dropped");
}

/// A body that makes its own way back impossible, for real.
pub fn give_up_sys_admin() {
    drop_effective(caps::Capability::CAP_SYS_ADMIN);
}

/// Has a command run in a mount namespace of its own.
pub fn in_new_mount_namespace(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec, one syscall and no allocation.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?))
    }
}

/// Moves the calling thread into several namespaces of a process at once, by its process descriptor.
///
/// # Errors
///
/// What `pidfd_open(2)` and `setns(2)` say.
pub fn enter_process(pid: u32, kinds: nix::sched::CloneFlags) -> nix::Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: pidfd_open takes two numbers.
    #[allow(unsafe_code)]
    let fd = nix::errno::Errno::result(unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    #[allow(unsafe_code)]
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) };
    nix::sched::setns(fd, kinds)
}

/// Enters a user namespace as its root, together with the namespaces of other kinds. For a `main` that has not started a thread.
///
/// # Panics
///
/// Where user namespaces are not allowed.
pub fn become_root_of_a_user_namespace(others: nix::sched::CloneFlags) {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER | others).expect("user namespaces are allowed");
    fs::write("/proc/self/setgroups", "deny").expect("setgroups");
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).expect("uid_map");
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).expect("gid_map");
}
