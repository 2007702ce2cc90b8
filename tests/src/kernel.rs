//! Helpers that read the state of threads and namespaces from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use in_netns::{NetNs, NetNsId, pool_stats};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::stat;

/// The bound of every wait. It is long enough for any expected event; only a failing test waits for all of it.
pub const BOUND: Duration = Duration::from_secs(20);

/// Serialises tests that count resources of the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of this process, each with its network namespace, as the kernel reports it.
///
/// A thread that exits during the listing is left out. It can make the kernel leave out others, so two listings must
/// agree.
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

/// The namespace of the process's leader, which the tests never move.
pub fn home() -> (u64, u64) {
    namespace_of_task(std::process::id()).expect("the leader's namespace")
}

/// The namespace of the calling thread, as the kernel reports it.
pub fn here() -> (u64, u64) {
    namespace_of_task(tid()).expect("the calling thread's namespace")
}

/// The threads of this process that are in `ns`, as the kernel reports them.
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

/// Whether a thread of this process sleeps in the kernel. `false` where it is gone.
pub fn is_asleep(tid: u32) -> bool {
    fs::read_to_string(format!("/proc/self/task/{tid}/stat")).is_ok_and(|stat| stat.contains(") S "))
}

/// A thread of this process with this name, which the kernel cuts off after 15 bytes.
pub fn thread_named(name: &str) -> Option<u32> {
    let has_it = |thread: &u32| {
        fs::read_to_string(format!("/proc/self/task/{thread}/comm")).is_ok_and(|found| found.trim_end() == name)
    };
    threads().into_keys().find(has_it)
}

/// How often a thread of this process has begun to wait, and how often it was interrupted.
pub fn context_switches(thread: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("it is alive");
    let count = |name: &str| {
        let count = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        count.and_then(|count| count.trim().parse().ok()).expect("a number")
    };
    (count("voluntary_ctxt_switches"), count("nonvoluntary_ctxt_switches"))
}

/// Whether a process has not ended yet. A child that has ended stays until it is waited for.
pub fn is_running(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The mount table of a process, `self` for this one. The path of a mount may be no UTF-8.
pub fn mount_table(process: &str) -> String {
    let table = fs::read(format!("/proc/{process}/mountinfo")).expect("/proc");
    String::from_utf8_lossy(&table).into_owned()
}

/// A mount table, without what other programs mount at the same time: names, and directories for temporary files.
pub fn lasting_mounts(process: &str) -> Vec<String> {
    let others = [" /run/netns/", " /tmp/"];
    let table = mount_table(process);
    table.lines().filter(|line| !others.iter().any(|other| line.contains(other))).map(str::to_owned).collect()
}

/// The open descriptors of the process: number and target.
pub fn descriptors() -> BTreeMap<u32, String> {
    let open = fs::read_dir("/proc/self/fd").expect("/proc/self/fd");
    open.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?.display().to_string();
        // The directory itself is open only for this listing.
        (!target.ends_with("/fd")).then_some((entry.file_name().to_str()?.parse().ok()?, target))
    })
    .collect()
}

/// Sets a limit of the process, until the result is dropped.
///
/// # Panics
///
/// If the limit is above the hard limit.
pub fn limited(resource: Resource, soft: u64) -> impl Drop {
    let before = getrlimit(resource).expect("getrlimit");
    setrlimit(resource, soft, before.1).expect("a limit up to the hard one can be set");
    scopeguard::guard((), move |()| setrlimit(resource, before.0, before.1).expect("it has been so before"))
}

/// Raises the limit of descriptors to the hard limit, until the result is dropped. The usual 1,024 are not enough.
///
/// # Panics
///
/// If the limit cannot be read.
pub fn all_descriptors() -> impl Drop {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    limited(Resource::RLIMIT_NOFILE, hard)
}

/// Waits for a condition, with a bound.
///
/// # Panics
///
/// If the condition is not met within the bound.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited {BOUND:?} without success: {what}");
        std::thread::yield_now();
    }
}

/// Runs in a thread, with a bound, what might hang.
///
/// # Panics
///
/// If it does not end within the bound, and with its own panic.
pub fn in_time<R: Send + 'static>(what: &str, run: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = std::thread::spawn(run);
    wait_until(what, || thread.is_finished());
    thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// Waits until no thread is leased.
#[track_caller]
pub fn wait_until_given_back() {
    wait_until("the thread is given back", || pool_stats().leased == 0);
}

/// Drops a capability from the calling thread's effective set. A body that does so cannot be restored.
pub fn drop_effective(capability: caps::Capability) {
    caps::drop(None, caps::CapSet::Effective, capability).expect("a capability can always be dropped");
}

/// Makes a restore of the calling thread fail: a body gives up `CAP_SYS_ADMIN`.
pub fn give_up_sys_admin() {
    drop_effective(caps::Capability::CAP_SYS_ADMIN);
}

/// Makes a command run in a private mount namespace.
pub fn in_new_mount_namespace(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec, the closure makes one syscall and does not allocate.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?))
    }
}

/// Moves the calling thread into several namespaces of a process at once, by a process descriptor.
///
/// # Errors
///
/// The errors of `pidfd_open(2)` and `setns(2)`.
pub fn enter_process(pid: u32, kinds: nix::sched::CloneFlags) -> nix::Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: pidfd_open takes two numbers.
    #[allow(unsafe_code)]
    let fd = nix::errno::Errno::result(unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel returned this new descriptor, and no other value owns it.
    #[allow(unsafe_code)]
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) };
    nix::sched::setns(fd, kinds)
}

/// Gives up root of the host. If the user id cannot be changed, the process is not root of the host.
///
/// # Panics
///
/// If the process cannot be made dumpable again.
pub fn become_ordinary_user() {
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    let _ = setresgid(group, group, group);
    let _ = setresuid(user, user, user);
    // Changing the user id made the process undumpable, and its files in /proc belong to root.
    nix::sys::prctl::set_dumpable(true).expect("prctl");
}

/// Enters a user namespace as its root, together with namespaces of other kinds. Call it in a `main` that has not
/// started a thread.
///
/// # Panics
///
/// If user namespaces are not allowed.
pub fn become_root_of_a_user_namespace(others: nix::sched::CloneFlags) {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER | others).expect("user namespaces are allowed");
    fs::write("/proc/self/setgroups", "deny").expect("setgroups");
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).expect("uid_map");
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).expect("gid_map");
}
