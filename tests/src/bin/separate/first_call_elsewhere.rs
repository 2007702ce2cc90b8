//! The first call comes from a thread that has changed everything it can. No pinned thread inherits any of it. If the
//! template thread cannot be restored, the call fails and the next caller is served. With the argument `not-utf8` the
//! names of all threads are no UTF-8.

use std::fs;
use std::thread;

use in_netns::{ErrorKind, NetNs, pinned};
use in_netns_tests::{drop_effective, home, key};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

/// The state that a thread inherits from the thread that starts it.
fn inherited() -> (Vec<String>, Vec<String>, CpuSet) {
    let links = ["net", "uts", "ipc", "cgroup", "mnt"]
        .map(|kind| fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("a namespace").display().to_string());
    let status = fs::read("/proc/thread-self/status").expect("a status");
    let status = String::from_utf8_lossy(&status);
    let of_status = status
        .lines()
        .filter(|line| line.starts_with("SigBlk") || line.starts_with("CapEff") || line.starts_with("Umask"));
    let affinity = sched_getaffinity(Pid::from_raw(0)).expect("an affinity");
    (links.to_vec(), of_status.map(str::to_owned).collect(), affinity)
}

fn elsewhere<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().expect("the thread's own checks hold"))
}

pub(crate) fn main() {
    crate::rootless();
    if crate::arguments().next().as_deref() == Some("not-utf8") {
        // A thread inherits the name of the one that starts it.
        nix::sys::prctl::set_name(c"not utf8 \xff").expect("a name of at most 15 bytes");
    }
    let leaders = inherited();

    // Changes that cannot be undone: the call fails, and no thread is started.
    for unshared in [CloneFlags::CLONE_FS, CloneFlags::CLONE_FILES, CloneFlags::CLONE_NEWNS] {
        let error = elsewhere(|| {
            unshare(unshared).expect("unshare");
            pinned(|_| ()).expect_err("the template cannot be corrected")
        });
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("first call"), "{error}");
    }
    let error = elsewhere(|| {
        drop_effective(caps::Capability::CAP_NET_RAW);
        caps::drop(None, caps::CapSet::Permitted, caps::Capability::CAP_NET_RAW).expect("caps");
        pinned(|_| ()).expect_err("the template cannot be corrected")
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

    // Changes that can be undone.
    let (worker, fresh_home) = elsewhere(|| {
        unshare(
            CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWCGROUP,
        )
        .expect("unshare");
        SigSet::all().thread_block().expect("sigmask");
        drop_effective(caps::Capability::CAP_NET_RAW);
        let mut one_cpu = CpuSet::new();
        let first = (0..CpuSet::count()).find(|cpu| leaders.2.is_set(*cpu).unwrap_or(false)).expect("a CPU");
        one_cpu.set(first).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &one_cpu).expect("affinity");
        assert_ne!(inherited(), leaders);
        (pinned(|_| inherited()).expect("the template is corrected"), pinned(|_| NetNs::current()))
    });
    assert_eq!(worker, leaders);
    let fresh_home = fresh_home.expect("a lease").expect("a namespace");
    assert_eq!(key(fresh_home.id()), home());
    assert!(!SigSet::thread_get_mask().expect("sigmask").contains(Signal::SIGUSR1));
}
