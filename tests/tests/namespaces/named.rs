//! Named namespaces, compared with `ip netns` if it is installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{ErrorKind, Names, NetNs, with_netns};
use in_netns_tests::{Scratch, alone, here, key, mount_table, separate};
use nix::mount::{MntFlags, umount2};

fn name(what: &str) -> String {
    format!("in-netns-{what}-{}", std::process::id())
}

fn file(name: &str) -> String {
    format!("/run/netns/{name}")
}

/// Returns `None` if `ip` is not installed: the README promises that the tests work without it. `.ci/run` installs it.
fn ip(arguments: &[&str]) -> Option<Output> {
    match Command::new("ip").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("`ip` is not installed: its side of this test is not checked");
            None
        }
        Err(error) => panic!("ip: {error}"),
    }
}

fn ip_lists(name: &str) -> Option<bool> {
    let output = ip(&["netns", "list"])?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().lines().any(|line| line.split(' ').next() == Some(name)))
}

#[test]
fn case_24_what_we_create_is_there_for_ip_and_gone_when_deleted() {
    let _alone = alone();
    let name = name("ours");
    let ns = NetNs::create_named(&name).unwrap();
    assert_eq!(NetNs::from_name(&name).unwrap(), ns);
    assert!(NetNs::list_named().unwrap().contains(&name));
    assert_ne!(ip_lists(&name), Some(false));
    if let Some(output) = ip(&["netns", "exec", &name, "readlink", "/proc/self/ns/net"]) {
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            ns.to_string(),
            "{:?}",
            String::from_utf8(output.stderr)
        );
    }
    NetNs::delete_named(&name).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
    assert!(!NetNs::list_named().unwrap().contains(&name));
    assert_ne!(ip_lists(&name), Some(true));
}

#[test]
fn case_24_what_ip_creates_is_there_for_us_and_the_other_way_round() {
    let _alone = alone();
    let name = name("theirs");
    let Some(output) = ip(&["netns", "add", &name]) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(NetNs::list_named().unwrap().contains(&name));
    let ns = NetNs::from_name(&name).unwrap();
    assert_eq!(with_netns(name.as_str(), here).unwrap(), key(ns.id()));
    NetNs::delete_named(&name).unwrap();
    assert_eq!(ip_lists(&name), Some(false));

    NetNs::create_named(&name).unwrap();
    let output = ip(&["netns", "del", &name]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(NetNs::from_name(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn case_24_a_duplicate_changes_nothing() {
    let _alone = alone();
    let name = name("twice");
    let ns = NetNs::create_named(&name).unwrap();
    // Of this name: other programs have others.
    let is_own = |text: &String| text.contains(&name);
    let mounts = || mount_table("self").lines().map(str::to_owned).filter(is_own).collect::<Vec<_>>();
    let names = || NetNs::list_named().unwrap().into_iter().filter(is_own).collect::<Vec<_>>();
    let before = (mounts(), names());
    let error = NetNs::create_named(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!((mounts(), names()), before);
    assert_eq!(NetNs::from_name(&name).unwrap(), ns);
    NetNs::delete_named(&name).unwrap();
}

/// If the kernel creates no more namespaces, the name is released. The helper uses a user namespace, whose limit it
/// lowers.
#[test]
fn a_half_made_namespace_is_rolled_back() {
    let _alone = alone();
    let output = separate!("half_made").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// As a remote file system may refuse it, and the kernel did before Linux 6.0 where it had no memory.
#[test]
fn a_directory_that_cannot_be_unlocked_is_no_failure() {
    let _alone = alone();
    // The threads of the library have no filter.
    in_netns::init().unwrap();
    let names = [name("locked-1"), name("locked-2")];
    let created = thread::scope(|scope| {
        let work = || {
            refuse_to_unlock();
            names.each_ref().map(|name| NetNs::create_named(name).and_then(|ns| Ok(NetNs::from_name(name)? == ns)))
        };
        scope.spawn(work).join()
    });
    let deleted = names.map(|name| NetNs::delete_named(&name));
    for created in created.unwrap() {
        assert!(created.unwrap());
    }
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// Makes the kernel refuse `flock(2)` with `LOCK_UN` on the calling thread.
fn refuse_to_unlock() {
    use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

    let unlocks =
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(libc::LOCK_UN.unsigned_abs()))
            .unwrap();
    let rules = BTreeMap::from([(libc::SYS_flock, vec![SeccompRule::new(vec![unlocks]).unwrap()])]);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let refused = SeccompAction::Errno(libc::ENOMEM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
fn case_24_a_stale_file_can_be_deleted_and_deleting_twice_is_not_found() {
    let _alone = alone();
    let name = name("stale");
    NetNs::delete_named(&{
        let other = format!("{name}-other");
        NetNs::create_named(&other).unwrap();
        other
    })
    .unwrap();
    fs::write(file(&name), "").unwrap();
    NetNs::delete_named(&name).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
    let error = NetNs::delete_named(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&file(&name)), "{error}");
}

#[test]
fn case_24_one_in_use_is_detached_and_goes_on() {
    let _alone = alone();
    let name = name("used");
    let ns = NetNs::create_named(&name).unwrap();
    with_netns(&ns, || {
        NetNs::delete_named(&name).unwrap();
        assert_eq!(here(), key(ns.id()));
        std::net::TcpListener::bind("127.0.0.1:80").unwrap();
    })
    .unwrap();
    with_netns(&ns, || ()).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
}

#[test]
fn the_directory_is_a_shared_mount() {
    let _alone = alone();
    let name = name("shared");
    NetNs::create_named(&name).unwrap();
    let mounts = mount_table("self");
    // The last line is the topmost mount.
    let netns = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/run/netns")).expect("a mount of its own");
    assert!(netns.contains(" shared:"), "{netns}");
    NetNs::delete_named(&name).unwrap();
}

/// A link in the directory is removed; what it points to is not unmounted.
#[test]
fn deleting_a_link_leaves_its_target() {
    let _alone = alone();
    let (name, link) = (name("target"), name("link"));
    let ns = NetNs::create_named(&name).unwrap();
    std::os::unix::fs::symlink(file(&name), file(&link)).unwrap();
    NetNs::delete_named(&link).unwrap();
    assert!(!Path::new(&file(&link)).is_symlink());
    assert_eq!(NetNs::from_name(&name).unwrap(), ns);
    NetNs::delete_named(&name).unwrap();
}

#[test]
fn loopback_is_up() {
    let _alone = alone();
    let name = name("up");
    let ns = NetNs::create_named(&name).unwrap();
    ns.run(|| std::net::UdpSocket::bind("[::1]:53")).unwrap().unwrap();
    NetNs::delete_named(&name).unwrap();
}

/// Names in unusual directories: each program has a private mount namespace.
#[test]
fn names_in_unusual_directories() {
    let _alone = alone();
    for case in ["var-run", "linked", "dangling", "read-only", "full", "not-utf8", "short", "working"] {
        let output = separate!("directories").arg(case).output().unwrap();
        assert!(output.status.success(), "{case}: {output:?}");
    }
}

fn mount_on(source: impl AsRef<Path>, target: &str) {
    use nix::mount::{MsFlags, mount};
    mount(Some(source.as_ref()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// The number of mounts on a path.
fn mounts_on(path: &str) -> usize {
    let mounts = mount_table("self");
    mounts.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
}

fn of(ns: &NetNs) -> String {
    use std::os::fd::{AsFd, AsRawFd};
    format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd())
}

/// `ip netns del` unmounts only the upper one, and fails.
#[test]
fn a_name_with_several_mounts_is_deleted_whole() {
    let _alone = alone();
    let name = name("stacked");
    let ns = NetNs::create_named(&name).unwrap();
    mount_on(of(&NetNs::new().unwrap()), &file(&name));
    mount_on(of(&ns), &file(&name));
    NetNs::delete_named(&name).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
    assert_eq!(mounts_on(&file(&name)), 0);
}

/// A mount on a name that is not a network namespace stays mounted.
#[test]
fn deleting_leaves_other_mounts_alone() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let _alone = alone();
    let (name, scratch) = (name("tmpfs"), in_netns_tests::Scratch::new());
    NetNs::create_named(&name).unwrap();
    NetNs::delete_named(&name).unwrap();
    let assert_refused = || {
        let error = NetNs::delete_named(&name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotANetNs, "{error}");
        assert_eq!(mounts_on(&file(&name)), 1, "{error}");
    };

    fs::create_dir(file(&name)).unwrap();
    mount(Some("tmpfs"), file(&name).as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert_refused();
    umount2(file(&name).as_str(), MntFlags::MNT_DETACH).unwrap();
    let error = NetNs::delete_named(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotANetNs, "{error}");
    fs::remove_dir(file(&name)).unwrap();

    fs::write(file(&name), "").unwrap();
    fs::write(scratch.path().join("file"), "").unwrap();
    mount_on(scratch.path().join("file"), &file(&name));
    assert_refused();
    umount2(file(&name).as_str(), MntFlags::MNT_DETACH).unwrap();
    // A mount of a namespace of another kind.
    mount_on("/proc/self/ns/uts", &file(&name));
    assert_refused();
    umount2(file(&name).as_str(), MntFlags::MNT_DETACH).unwrap();
    NetNs::delete_named(&name).unwrap();
}

/// Another user of the directory replaces the file while the namespace is created: with a link to another file, with
/// another file, or with nothing.
#[test]
fn a_namespace_is_mounted_on_the_file_that_was_made_for_it_or_nowhere() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let _alone = alone();
    let scratch = in_netns_tests::Scratch::new();
    let (name, elsewhere) = (name("raced"), scratch.path().join("elsewhere"));
    fs::write(&elsewhere, "").unwrap();
    NetNs::create_named(&name).unwrap();
    NetNs::delete_named(&name).unwrap();
    let moved = format!("{}-moved", file(&name));
    // The replacement comes later while it comes before the mount, and sooner while it comes after it: so it is close.
    let mut delay = Duration::ZERO;
    for round in 0..300 {
        let stop = AtomicBool::new(false);
        let (result, is_replaced) = std::thread::scope(|scope| {
            let replacer = scope.spawn(|| {
                while !Path::new(&file(&name)).is_file() {
                    if stop.load(Ordering::Relaxed) {
                        return false;
                    }
                    std::hint::spin_loop();
                }
                let found = Instant::now();
                while found.elapsed() < delay {
                    std::hint::spin_loop();
                }
                // The kernel refuses this on a mount point, and the file stays.
                let done = if round % 3 == 2 { fs::rename(file(&name), &moved) } else { fs::remove_file(file(&name)) };
                if done.is_ok() {
                    match round % 3 {
                        0 => std::os::unix::fs::symlink(&elsewhere, file(&name)).unwrap(),
                        1 => fs::write(file(&name), "").unwrap(),
                        _ => {}
                    }
                }
                done.is_ok()
            });
            let result = NetNs::create_named(&name);
            stop.store(true, Ordering::Relaxed);
            (result, replacer.join().unwrap())
        });
        delay = if is_replaced { delay + delay / 16 + Duration::from_micros(1) } else { delay * 15 / 16 };
        assert_eq!(mounts_on(elsewhere.to_str().unwrap()), 0);
        assert_eq!(mounts_on(&moved), 0, "{result:?}");
        match result {
            Ok(ns) => assert_eq!(NetNs::from_name(&name).unwrap(), ns),
            Err(error) => assert_eq!(mounts_on(&file(&name)), 0, "{error}"),
        }
        let _ = NetNs::delete_named(&name);
        let _ = fs::remove_file(&moved);
        assert!(!Path::new(&file(&name)).is_symlink() && !fs::exists(file(&name)).unwrap());
    }
}

/// Installs a handler without `SA_RESTART`, and returns its signal.
#[allow(unsafe_code)]
fn count_signals() -> (nix::sys::signal::Signal, &'static std::sync::atomic::AtomicU32) {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    extern "C" fn count(_: libc::c_int) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler adds to an atomic and does nothing else.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    (Signal::SIGUSR1, &COUNT)
}

/// Sends a signal to one thread of this process.
#[allow(unsafe_code)]
fn signal_thread(tid: u32, signal: nix::sys::signal::Signal) {
    // SAFETY: tgkill takes three numbers.
    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, signal as libc::c_int) };
}

/// A creation waits in `flock(2)` while another program holds the directory's lock. A signal can interrupt that wait.
#[test]
fn a_signal_does_not_fail_the_creation_that_waits_for_the_directory() {
    use nix::fcntl::{Flock, FlockArg};
    use std::sync::atomic::Ordering;
    let _alone = alone();
    let name = name("waits");
    NetNs::create_named(&name).unwrap();
    NetNs::delete_named(&name).unwrap();
    let lock = Flock::lock(fs::File::open("/run/netns").unwrap(), FlockArg::LockExclusive).unwrap();
    let (signal, count) = count_signals();
    std::thread::scope(|scope| {
        let (tell, hear) = std::sync::mpsc::channel();
        let name = name.as_str();
        let creator = scope.spawn(move || {
            tell.send(in_netns_tests::tid()).unwrap();
            NetNs::create_named(name)
        });
        let tid = hear.recv().unwrap();
        let waits = format!("{} ", libc::SYS_flock);
        let waits_for_lock = || {
            creator.is_finished()
                || fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).is_ok_and(|at| at.starts_with(&waits))
        };
        let before = count.load(Ordering::Relaxed);
        for sent in 1..=20 {
            in_netns_tests::wait_until("it waits for the lock", waits_for_lock);
            signal_thread(tid, signal);
            in_netns_tests::wait_until("it received the signal", || {
                creator.is_finished() || count.load(Ordering::Relaxed) >= before + sent
            });
        }
        drop(lock);
        creator.join().unwrap().unwrap();
    });
    NetNs::delete_named(&name).unwrap();
}

/// Every operation runs while all threads of the process receive signals.
#[test]
fn signals_fail_no_operation() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let _alone = alone();
    let name = name("signals");
    let (signal, count) = count_signals();
    let (stop, before) = (AtomicBool::new(false), count.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let me = in_netns_tests::tid();
            while !stop.load(Ordering::Relaxed) {
                let tasks = fs::read_dir("/proc/self/task").unwrap();
                tasks
                    .flatten()
                    .filter_map(|task| task.file_name().to_str()?.parse().ok())
                    .filter(|tid| *tid != me)
                    .for_each(|tid| signal_thread(tid, signal));
            }
        });
        let stop = scopeguard::guard((), |()| stop.store(true, Ordering::Relaxed));
        while count.load(Ordering::Relaxed) < before + 20_000 {
            let ns = NetNs::create_named(&name).unwrap();
            assert_eq!(NetNs::from_name(&name).unwrap(), ns);
            assert_eq!(NetNs::from_pid(std::process::id()).unwrap(), NetNs::current().unwrap());
            assert!(NetNs::list_named().unwrap().contains(&name));
            ns.holders().unwrap();
            let socket = ns.run(|| std::net::UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
            assert_eq!(NetNs::of_socket(&socket).unwrap(), ns);
            assert!(in_netns::privileges().can_make());
            NetNs::delete_named(&name).unwrap();
        }
        drop(stop);
    });
}

/// What one of two programs does to a name is no failure of the other one, and is not said to be another cause.
#[test]
fn what_is_done_to_a_name_at_the_same_time_is_reported_as_that() {
    const ROUNDS: u32 = 200;
    let _alone = alone();
    let scratch = Scratch::new();
    let names = Names::at(scratch.path().join("names"));
    scopeguard::defer! {
        let _ = umount2(names.directory(), MntFlags::MNT_DETACH);
    }
    // The directory is a mount from here on.
    names.create("first").unwrap();
    names.delete("first").unwrap();
    // Two delete a name at once.
    let together = Barrier::new(2);
    for _ in 0..ROUNDS {
        names.create("blue").unwrap();
        let delete = || {
            together.wait();
            names.delete("blue")
        };
        let results = thread::scope(|scope| [scope.spawn(delete), scope.spawn(delete)].map(|one| one.join().unwrap()));
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        assert!(results.iter().any(Result::is_ok), "{results:?}");
        assert_eq!(names.list().unwrap(), [""; 0]);
    }
    // One deletes what the other one is creating.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let deletes = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                if let Err(error) = names.delete("red") {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                }
            }
        });
        let errors: Vec<_> = (0..ROUNDS).filter_map(|_| names.create("red").err()).collect();
        stop.store(true, Ordering::SeqCst);
        deletes.join().unwrap();
        // The name of the round before may still be there.
        for error in errors.iter().filter(|error| error.kind() != ErrorKind::AlreadyExists) {
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            assert!(error.to_string().contains("another program removed or replaced"), "{error}");
        }
    });
}
