//! Namespaces that are found by a process or by a process descriptor.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use in_netns::{Error, ErrorKind, Holder, IntoNetNs, NetNs, View, with_netns};
use in_netns_tests::{Scratch, alone, descriptors, is_running, limited, separate, start_until, wait_until};
use nix::sys::resource::Resource;

/// `pidfd_open(2)`.
#[allow(unsafe_code)]
fn pidfd(id: u32, flags: libc::c_int) -> OwnedFd {
    // SAFETY: it takes two numbers.
    let fd = nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) }).unwrap();
    // SAFETY: the kernel returned this new descriptor, and no other value owns it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

/// A child process that is killed and reaped on drop.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `cat` in a namespace.
fn cat_in(ns: &NetNs) -> Process {
    let spawn = || Command::new("cat").stdin(Stdio::piped()).spawn();
    Process(ns.run(spawn).unwrap().unwrap())
}

#[test]
fn a_process_whose_leader_has_exited_is_found_by_another_thread() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let start = || start_until(&mut separate!("leaderless"), "ready");
    let child = Process(ns.run(start).unwrap().0);
    assert_eq!(NetNs::from_pid(child.0.id()).unwrap(), ns);
    assert_eq!(NetNs::from_fd(pidfd(child.0.id(), 0)).unwrap(), ns);
}

/// As that of a program whose long name ends within a character after 15 bytes.
#[test]
fn a_process_whose_name_is_not_utf8_is_found() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let scratch = Scratch::new();
    let program = scratch.path().join(OsStr::from_bytes(b"not utf8 \xff"));
    std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
    let child = Process(ns.command(&program).stdin(Stdio::piped()).spawn().unwrap());
    let id = child.0.id();
    let name = || std::fs::read(format!("/proc/{id}/comm")).unwrap();
    wait_until("the program has been started", || name().starts_with(b"not utf8 \xff"));
    assert_eq!(NetNs::from_pid(id).unwrap(), ns);
    assert_eq!(NetNs::from_pidfd(pidfd(id, 0)).unwrap(), ns);
    assert_eq!(View::of_process(id).unwrap().netns(), &ns);
    let is_process = |holder: &Holder| matches!(holder, Holder::Thread { process, .. } if *process == id);
    assert!(ns.holders().unwrap().iter().any(is_process));
    assert!(NetNs::all().unwrap().unseen.iter().all(|unseen| unseen.process != id));
}

#[test]
fn a_process_descriptor_stands_for_the_namespace_of_its_process() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let child = cat_in(&ns);
    assert_eq!(NetNs::from_fd(pidfd(child.0.id(), 0)).unwrap(), ns);
    assert_eq!(pidfd(child.0.id(), 0).into_netns().unwrap(), ns);
    assert_eq!(pidfd(child.0.id(), 0).as_fd().into_netns().unwrap(), ns);
    assert!(with_netns(pidfd(child.0.id(), 0), || ns.is_current()).unwrap().unwrap());
}

#[test]
fn the_descriptor_of_one_thread_stands_for_that_thread() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (end, wait) = mpsc::channel::<()>();
    let (tell, hear) = mpsc::channel();
    let live = move || {
        tell.send(in_netns_tests::tid()).unwrap();
        let _ = wait.recv();
    };
    let thread = ns.run(|| std::thread::spawn(live)).unwrap();
    let thread_descriptor = pidfd(hear.recv().unwrap(), libc::O_EXCL);
    assert_eq!(NetNs::from_fd(thread_descriptor.try_clone().unwrap()).unwrap(), ns);
    drop(end);
    thread.join().unwrap();
    wait_until("the thread is gone", || {
        NetNs::from_fd(thread_descriptor.try_clone().unwrap()).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    });
}

/// A zombie keeps its number, but has no namespace.
#[test]
fn a_process_that_has_exited_is_reported_as_exited() {
    let _alone = alone();
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    let descriptor = pidfd(pid, 0);
    wait_until("it has exited", || !is_running(pid));
    for error in [NetNs::from_pid(pid).unwrap_err(), NetNs::from_fd(descriptor.try_clone().unwrap()).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("has exited"), "{error}");
    }
    child.wait().unwrap();
    for error in [NetNs::from_pid(pid).unwrap_err(), NetNs::from_fd(descriptor).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

/// Runs `run` while as many descriptors are free, and no more.
fn with_free_descriptors<R>(free: usize, run: impl FnOnce() -> R) -> R {
    let open = descriptors();
    let first_too_many = (0..).filter(|number| !open.contains_key(number)).nth(free).unwrap();
    let _limited = limited(Resource::RLIMIT_NOFILE, first_too_many.into());
    run()
}

/// From none to enough: what is missing is a descriptor, and not the process.
#[test]
fn a_process_that_lives_has_not_exited_where_descriptors_are_short() {
    type Find<'f> = &'f dyn Fn() -> Result<(), Error>;
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let child = cat_in(&ns);
    let descriptor = pidfd(child.0.id(), 0);
    let leaderless = || start_until(&mut separate!("leaderless"), "ready");
    let leaderless = Process(ns.run(leaderless).unwrap().0);
    let ways: [(&str, Find<'_>); 6] = [
        ("from_pid, of this process", &|| NetNs::from_pid(std::process::id()).map(drop)),
        ("from_pid, of a child", &|| NetNs::from_pid(child.0.id()).map(drop)),
        ("from_pid, without a leader", &|| NetNs::from_pid(leaderless.0.id()).map(drop)),
        ("from_pidfd", &|| NetNs::from_pidfd(&descriptor).map(drop)),
        ("View::of_process, by id", &|| View::of_process(child.0.id()).map(drop)),
        ("View::of_process, by descriptor", &|| View::of_process(&descriptor).map(drop)),
    ];
    for (way, find) in ways {
        // A view at home, and threads, are there before the limit.
        find().unwrap();
        let mut failures = 0;
        while let Err(error) = with_free_descriptors(failures, find) {
            assert_eq!(error.kind(), ErrorKind::LimitReached, "{way}, {failures} free: {error}");
            assert!(error.to_string().contains("`ulimit -n`"), "{way}, {failures} free: {error}");
            failures += 1;
            assert!(failures < 100, "{way}: {error}");
        }
        assert!(failures > 0, "{way}");
    }
}

/// Since Linux 6.11. The two are the process's and the namespace's: nothing is read in `/proc`.
#[test]
fn two_descriptors_are_enough_for_the_namespace_of_a_process() {
    let _alone = alone();
    let release = nix::sys::utsname::uname().unwrap().release().to_str().unwrap().to_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 11) {
        return;
    }
    let ns = NetNs::new().unwrap();
    let child = cat_in(&ns);
    assert_eq!(with_free_descriptors(2, || NetNs::from_pid(child.0.id())).unwrap(), ns);
}

#[test]
fn no_descriptor_is_left() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let child = cat_in(&ns);
    let before =
        descriptors().into_iter().filter(|(_, target)| target.contains("pidfd") || target.starts_with("/proc"));
    let before: Vec<_> = before.collect();
    for _ in 0..100 {
        NetNs::from_pid(child.0.id()).unwrap();
        NetNs::from_pid(i32::MAX.unsigned_abs()).unwrap_err();
    }
    let after = descriptors().into_iter().filter(|(_, target)| target.contains("pidfd") || target.starts_with("/proc"));
    assert!(after.count() <= before.len() + 4, "more than other tests have open");
}

#[test]
fn a_process_in_another_place_is_not_confused_by_its_number() {
    let _alone = alone();
    // No process has id 0 or an id above `pid_max`.
    for pid in [0, i32::MAX.unsigned_abs(), u32::MAX] {
        let error = NetNs::from_pid(pid).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
    }
    let own = NetNs::from_pid(std::process::id()).unwrap();
    assert!(own.as_fd().as_raw_fd() > 2);
}

/// Ten thousand processes in a pid namespace with room for a hundred, twice, with and without Linux 6.11.
#[test]
fn an_id_that_is_used_again_is_never_taken_for_the_process_before() {
    let _alone = alone();
    for arguments in [&[][..], &["older"]] {
        let output = separate!("recycled").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_descriptor_of_something_else_is_no_process() {
    let _alone = alone();
    let file = std::fs::File::open("/proc/self/ns/net").unwrap();
    assert_eq!(NetNs::from_pidfd(&file).unwrap_err().kind(), ErrorKind::NotANetNs);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(NetNs::from_pidfd(&socket).unwrap_err().kind(), ErrorKind::NotANetNs);
}
