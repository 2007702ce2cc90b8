//! A process in a pid namespace of its own, where `/proc` is still that of the parent: its ids are not the numbers in
//! `/proc`. The argument selects the case.
//!
//! - `home`: the main thread makes the first call, and visits another namespace at that time
//! - `restore`: the caller has no `CAP_SYS_ADMIN`
//! - `child`: a body starts a process that asks for a parent-death signal
//! - `root`: the process calls `chroot(2)` while a thread for views is idle
//! - `inventory`: the process has mounted a namespace
//! - `stray`: the marks of an audit cannot be read, while other pinned threads are in the namespace
//! - `thread`: a namespace is looked up by the id of a thread that is no leader

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use in_netns::{Call, NetNs, pinned, pool_stats, set_keep_alive, set_poison_hook};
use in_netns_tests::{tid, wait_until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::stat;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

pub(crate) fn main() {
    crate::rootless();
    let case = crate::arguments().next().expect("a case");
    unshare(CloneFlags::CLONE_NEWPID).expect("a pid namespace");
    // SAFETY: there is one thread, so the child has no locks of other threads.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0));
        }
        ForkResult::Child => {
            let number = fs::read_link("/proc/self").expect("/proc shows this process");
            assert_ne!(number, Path::new(&std::process::id().to_string()), "/proc is that of the parent");
            match case.as_str() {
                "home" => home(),
                "restore" => restore(),
                "child" => child_with_signal(),
                "root" => root(),
                "inventory" => inventory(),
                "stray" => stray(),
                "thread" => by_thread(),
                other => panic!("what is {other:?}?"),
            }
        }
    }
}

/// The network namespace of the calling thread.
fn here() -> (u64, u64) {
    let namespace = stat("/proc/thread-self/ns/net").expect("a namespace");
    (namespace.st_dev, namespace.st_ino)
}

fn home() {
    let start = here();
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
        File::open("/proc/thread-self/ns/net").expect("a namespace")
    };
    let other = thread::spawn(make).join().expect("a namespace");
    // The thread that made it is listed for a moment longer.
    wait_until("one thread", || fs::read_dir("/proc/self/task").expect("/proc").count() == 1);
    let _back = File::open("/proc/thread-self/ns/net").expect("a namespace");
    setns(other, CloneFlags::CLONE_NEWNET).expect("setns");
    assert_ne!(here(), start);
    assert_eq!(pinned(|_| here()).expect("a lease"), start);
}

fn restore() {
    in_netns::init().expect("a template");
    set_poison_hook(|_| {});
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::drop(None, set, caps::Capability::CAP_SYS_ADMIN).expect("a capability can always be dropped");
    }
    for _ in 0..3 {
        assert!(NetNs::new().is_err(), "it takes CAP_SYS_ADMIN");
    }
    assert_eq!(pool_stats().poisoned_total, 0, "the threads are at home");
}

fn child_with_signal() {
    set_keep_alive(Duration::from_millis(50));
    let ns = NetNs::new().expect("a namespace");
    let mut command = Command::new("sleep");
    command.arg("1000");
    // SAFETY: prctl is a system call, and takes numbers here.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            Ok(())
        });
    }
    let mut child = ns.run(|| command.spawn()).expect("a call").expect("sleep");
    // Another thread expires meanwhile, in the same time.
    let (tell, told) = mpsc::channel();
    ns.worker().run(|| tell.send(tid()).expect("it is heard")).expect("a worker");
    let other = told.recv().expect("an id");
    wait_until("a thread without children expires", || pool_stats().threads <= 1 || !is_thread(other));
    thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().expect("it is ours").is_none(), "its thread has not expired");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
}

/// Whether a thread of this process has an id.
fn is_thread(id: u32) -> bool {
    // SAFETY: tgkill takes numbers, and sends nothing for signal 0.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), id, 0) };
    result == 0
}

/// Gives this process a `/tmp` of its own.
fn own_tmp() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private mounts");
    mount(Some("own"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
}

fn root() {
    own_tmp();
    let jail = Path::new("/tmp/jail");
    fs::create_dir_all(jail.join("mnt")).expect("a directory");
    fs::write(jail.join("in-the-jail"), "").expect("a file");
    for name in ["proc", "sys", "etc"] {
        let (source, target) = (Path::new("/").join(name), jail.join(name));
        fs::create_dir(&target).expect("a directory");
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).expect("a mount");
    }
    let sees = || (Path::new("/in-the-jail").exists(), Path::new("/usr").exists());
    let ns = NetNs::new().expect("a namespace");
    let before = ns.view().expect("a view");
    assert_eq!(before.run(sees).expect("the view"), (false, true));
    nix::unistd::chroot(jail).expect("chroot");
    nix::unistd::chdir("/").expect("a directory");
    // Made and used by the thread that was idle.
    let view = ns.view().expect("a view");
    assert_eq!(view.run(sees).expect("the view"), (true, false));
    // Also where the new root has no /proc, and the views are there already.
    nix::mount::umount2("/proc", nix::mount::MntFlags::MNT_DETACH).expect("it is a mount");
    assert_eq!(view.run(sees).expect("the view"), (true, false));
    assert_eq!(before.run(sees).expect("the view"), (false, true));
}

fn inventory() {
    own_tmp();
    let place = Path::new("/tmp/mounted");
    fs::write(place, "").expect("a file");
    let ns = NetNs::new().expect("a namespace");
    let mount_it = || mount(Some("/proc/thread-self/ns/net"), place, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    ns.run(mount_it).expect("a call").expect("a mount");
    let inventory = NetNs::all().expect("an inventory");
    let found = inventory.namespaces.iter().find(|found| found.netns.id() == ns.id()).expect("it is found");
    assert_eq!(found.names, [place]);
}

fn stray() {
    caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_NICE).expect("it can always be dropped");
    let ns = NetNs::new().expect("a namespace");
    let outcome = Call::new(&ns).audit().outcome(|| {
        // A call of another thread, which is still running.
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let ns = ns.clone();
        let call = move || {
            ns.run(move || {
                tell.send(()).expect("it is heard");
                ended.recv()
            })
        };
        let other = thread::Builder::new().name("other".into()).spawn(call).expect("a thread");
        told.recv().expect("it has begun");
        (end, other)
    });
    let outcome = outcome.expect("a call");
    drop(outcome.value);
    let names: Vec<_> = outcome.strays.iter().map(|stray| stray.name.as_str()).collect();
    assert_eq!(names, ["other"], "a pinned thread belongs to another call");
}

fn by_thread() {
    let ns = NetNs::new().expect("a namespace");
    let inside = ns.worker();
    let id = inside.run(tid).expect("a worker");
    match NetNs::from_pid(id) {
        Ok(found) => assert_eq!(found, ns, "another thread's"),
        Err(error) => assert_eq!(error.kind(), in_netns::ErrorKind::Unsupported, "{error}"),
    }
}
