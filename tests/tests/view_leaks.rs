//! Calls in views leave no descriptor, mount or thread behind. These tests count the resources of the whole process, so
//! they run one at a time.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use in_netns::{Call, ErrorKind, NetNs, RetireReason, ThreadFate, View, pool_stats, set_keep_alive};
use in_netns_tests::{
    descriptors, give_up_sys_admin, lasting_mounts, threads, threads_in, threads_outside_home, tid, wait_until,
};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};

in_netns::rootless!();

/// No other test runs, and no thread exits because it is idle.
fn alone() -> MutexGuard<'static, ()> {
    set_keep_alive(Duration::from_secs(3_600));
    in_netns_tests::alone()
}

/// The interfaces that `/sys` shows.
fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").expect("sysfs is mounted");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect()
}

fn mount_namespace_of(thread: u32) -> PathBuf {
    fs::read_link(format!("/proc/self/task/{thread}/ns/mnt")).expect("a thread")
}

#[test]
fn no_mount_of_a_view_shows_at_home() {
    let _alone = alone();
    let before = lasting_mounts("self");
    let view = View::builder(&NetNs::new().unwrap()).hosts("").build().unwrap();
    let inside = view.run(|| lasting_mounts("self")).unwrap();
    assert_eq!(inside, before, "while a body runs");
    view.run(|| mount(Some("body"), "/mnt", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap()).unwrap();
    let table = view.run(|| lasting_mounts("thread-self")).unwrap();
    assert!(table.iter().any(|line| line.contains(" - tmpfs body ")), "a body's mounts stay in the view: {table:?}");
    assert_eq!(lasting_mounts("self"), before);
    // Everything in the view is a slave at most, so that nothing can be passed on.
    let shared =
        |line: &&String| line.split(' ').skip(6).take_while(|field| *field != "-").any(|f| f.starts_with("shared:"));
    assert_eq!(table.iter().find(shared), None);
    drop(view);
    assert_eq!(lasting_mounts("self"), before);
}

#[test]
fn what_a_body_does_to_root_directory_umask_and_mounts_is_undone() {
    let _alone = alone();
    let view = NetNs::new().unwrap().view().unwrap();
    let other = NetNs::new().unwrap().view().unwrap();
    let state =
        || (fs::read_link("/proc/thread-self/root").unwrap(), std::env::current_dir().unwrap(), current_umask());
    let (thread, before) = view.run(|| (tid(), state())).unwrap();
    let outcome = Call::new(&view)
        .outcome(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            umask(Mode::from_bits_truncate(0o777));
            nix::unistd::chroot("/proc").unwrap();
            nix::unistd::chdir("/sys").unwrap();
            tid()
        })
        .unwrap();
    assert_eq!(outcome.value.unwrap(), thread);
    assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    assert_eq!(mount_namespace_of(thread), mount_namespace_of(tid()));
    let root =
        |link: &str| fs::metadata(format!("/proc/self/task/{thread}/{link}")).map(|at| (at.dev(), at.ino())).unwrap();
    let of_process = fs::metadata("/").map(|root| (root.dev(), root.ino())).unwrap();
    assert_eq!((root("root"), root("cwd")), (of_process, of_process), "an idle thread holds no directory but the root");
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    assert!(status.contains(&format!("Umask:\t{:04o}", before.2)), "{status}");
    assert_eq!(view.run(|| (tid(), state())).unwrap(), (thread, before.clone()));
    assert_eq!(other.run(|| (tid(), state())).unwrap(), (thread, before));
}

#[test]
fn a_thread_that_a_body_starts_stays_in_the_view_and_the_body_s_thread_goes_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let view = ns.view().unwrap();
    let (end, wait) = mpsc::channel::<()>();
    let (report, seen) = mpsc::channel();
    let outcome = Call::new(&view)
        .outcome(|| {
            let stray = thread::spawn(move || {
                let _ = wait.recv();
                report.send((interfaces(), fs::read_link("/proc/thread-self/ns/mnt").unwrap())).unwrap();
            });
            (tid(), stray, fs::read_link("/proc/thread-self/ns/mnt").unwrap())
        })
        .unwrap();
    let (thread, stray, inside) = outcome.value.unwrap();
    assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    assert_eq!(mount_namespace_of(thread), mount_namespace_of(tid()));
    drop(end);
    assert_eq!(seen.recv().unwrap(), (["lo".to_owned()].into(), inside));
    stray.join().unwrap();
}

#[test]
fn when_a_call_returns_nothing_of_the_view_is_left() {
    let _alone = alone();
    let view = NetNs::new().unwrap().view().unwrap();
    let at_home = mount_namespace_of(tid());
    for _ in 0..200 {
        view.run(|| ()).unwrap();
        assert_eq!(threads_in(view.netns()), [0; 0]);
        let elsewhere: Vec<_> = threads().into_keys().filter(|thread| mount_namespace_of(*thread) != at_home).collect();
        assert_eq!(elsewhere, [0; 0]);
    }
    // Also after a panic.
    let panicked = std::panic::catch_unwind(|| view.run(|| panic!("of the body"))).unwrap_err();
    assert_eq!(*panicked.downcast_ref::<&str>().unwrap(), "of the body");
    assert_eq!(threads_in(view.netns()), [0; 0]);
}

#[test]
fn a_body_that_gives_up_the_way_back_costs_its_thread() {
    let _alone = alone();
    let view = NetNs::new().unwrap().view().unwrap();
    for capability in [caps::Capability::CAP_SYS_ADMIN, caps::Capability::CAP_SYS_CHROOT] {
        let before = pool_stats().poisoned_total;
        let outcome = Call::new(&view)
            .outcome(|| {
                in_netns_tests::drop_effective(capability);
                tid()
            })
            .unwrap();
        let ThreadFate::Retired(RetireReason::Poisoned(error)) = outcome.thread else { panic!("{:?}", outcome.thread) };
        assert!(error.to_string().contains("mount namespace"), "{error}");
        assert!(!in_netns_tests::is_alive(outcome.value.unwrap()), "the call returned before the thread was gone");
        assert_eq!(pool_stats().poisoned_total, before + 1);
        assert_eq!(threads_in(view.netns()), [0; 0]);
    }
    assert_eq!(view.run(interfaces).unwrap(), ["lo".to_owned()].into());
}

#[test]
fn without_cap_sys_chroot_no_body_runs() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let view = ns.view().unwrap();
    let ran = AtomicBool::new(false);
    let error = thread::scope(|scope| {
        let call = || {
            in_netns_tests::drop_effective(caps::Capability::CAP_SYS_CHROOT);
            // A thread of the call's own has what its caller has.
            Call::new(&view).fresh().run(|| ran.store(true, Ordering::Relaxed)).unwrap_err()
        };
        scope.spawn(call).join().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("lacks CAP_SYS_CHROOT"), "{error}");
    assert!(!ran.load(Ordering::Relaxed));
    assert_eq!(threads_outside_home(), [0; 0]);
}

#[test]
fn without_privileges_there_is_no_view_and_no_body_runs() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let view = ns.view().unwrap();
    let ran = AtomicBool::new(false);
    thread::scope(|scope| {
        let call = || {
            give_up_sys_admin();
            let error = Call::new(&view).fresh().run(|| ran.store(true, Ordering::Relaxed)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
        };
        scope.spawn(call).join().unwrap();
    });
    assert!(!ran.load(Ordering::Relaxed));
}

#[test]
fn a_file_that_etc_lacks_is_an_error_that_says_so() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("in-netns-no-such-file"), "").unwrap();
    // The thread that makes views is there.
    NetNs::new().unwrap().view().unwrap();
    let before = (descriptors(), lasting_mounts("self"));
    let error = View::builder(&NetNs::new().unwrap()).etc(directory.path()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("there is no /etc/in-netns-no-such-file"), "{error}");
    let error = View::builder(&NetNs::new().unwrap()).etc("/in-netns/no/such/directory").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/in-netns/no/such/directory"), "{error}");
    assert_eq!((descriptors(), lasting_mounts("self")), before);
    assert_eq!(threads_outside_home(), [0; 0]);
}

#[test]
fn the_mounts_of_a_view_do_not_keep_its_network_namespace() {
    use in_netns_tests::start_until;
    use std::process::Command;

    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let weak = ns.downgrade().unwrap();
    let view = ns.view().unwrap();
    // A process that has the mounts of the view, and no longer its network namespace.
    let script = "ls /sys/class/net && echo ready && cat";
    let home_net = format!("--net=/proc/{}/ns/net", std::process::id());
    let (mut child, output) =
        view.run(|| start_until(Command::new("nsenter").args([&home_net, "sh", "-c", script]), "ready")).unwrap();
    assert_eq!(output, "lo\nready\n");
    let inside = fs::read_link(format!("/proc/{}/ns/mnt", child.id())).unwrap();
    assert_ne!(inside, mount_namespace_of(tid()));
    drop((view, ns));
    wait_until("the namespace is gone", || weak.upgrade().unwrap().is_none());
    assert_eq!(fs::read_link(format!("/proc/{}/ns/mnt", child.id())).unwrap(), inside, "its mounts are still there");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// As many of each as the issue that asked for views names: it takes some seconds.
#[test]
fn a_thousand_views_and_ten_thousand_calls_leave_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // The threads that are needed are there.
    ns.view().unwrap().run(|| ()).unwrap();
    let before = (descriptors(), threads(), lasting_mounts("self"));
    for number in 0..1_000 {
        let view = View::builder(&ns).hosts(number.to_string()).build().unwrap();
        for _ in 0..10 {
            assert_eq!(view.run(|| fs::read_to_string("/etc/hosts").unwrap()).unwrap(), number.to_string());
        }
    }
    assert_eq!((descriptors(), threads(), lasting_mounts("self")), before);
    assert_eq!(pool_stats().leased, 0);
    drop(ns);
}

fn current_umask() -> u32 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap();
    u32::from_str_radix(line, 8).unwrap()
}

/// The mounts of a view are a copy of home's, with the names that there were.
#[test]
fn a_view_does_not_keep_a_namespace_whose_name_is_deleted() {
    let _alone = alone();
    let name = format!("in-netns-view-{}", std::process::id());
    let named = NetNs::create_named(&name).unwrap();
    let weak = named.downgrade().unwrap();
    let view = NetNs::new().unwrap().view().unwrap();
    let seen = || NetNs::from_name(&name).map(|ns| ns.id());
    assert_eq!(view.run(seen).unwrap().unwrap(), named.id());
    drop(named);
    NetNs::delete_named(&name).unwrap();
    wait_until("the namespace is gone", || weak.upgrade().unwrap().is_none());
    assert_eq!(view.run(seen).unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    // And a name that is made later is there.
    let later = NetNs::create_named(&name).unwrap();
    let found = view.run(seen).unwrap();
    NetNs::delete_named(&name).unwrap();
    assert_eq!(found.unwrap(), later.id());
}
