//! Bad input gives a clear error, the body does not run, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use in_netns::{Error, ErrorKind, IntoNetNs, Names, NetNs, with_netns};
use in_netns_tests::{alone, descriptors, give_up_sys_admin, here, key, limited, threads_outside_home};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::Resource;
use nix::sys::stat::Mode;
use proptest::prelude::*;

/// The error of a call into `ns`, whose body must not run.
#[track_caller]
fn refused(ns: impl IntoNetNs) -> Error {
    with_netns(ns, || unreachable!("the body ran")).unwrap_err()
}

#[track_caller]
fn assert_refused(ns: impl IntoNetNs, kind: ErrorKind, named: &str) {
    let error = refused(ns);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(named), "`{error}` does not name `{named}`");
}

#[test]
fn case_13_what_is_missing_is_named() {
    let _alone = alone();
    assert_refused("no-such-name", ErrorKind::NotFound, "/run/netns/no-such-name");
    assert_refused("/no/such/path", ErrorKind::NotFound, "/no/such/path");
    assert_refused(Path::new("relative/path"), ErrorKind::NotFound, "relative/path");
    assert_refused("/etc/passwd/below", ErrorKind::NotFound, "/etc/passwd/below");
    assert_refused(Path::new(""), ErrorKind::NotFound, "an empty path");
    let missing = NetNs::from_pid(i32::MAX.unsigned_abs()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains(&i32::MAX.to_string()), "{missing}");
}

/// A dangling link exists; only its target is missing.
#[test]
fn a_dangling_link_is_reported_as_one() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/no/such/place", &link).unwrap();
    for path in [link.clone(), link.join("below")] {
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let message = error.to_string();
        assert!(message.contains("it is there, and leads nowhere") && message.contains("/no/such/place"), "{message}");
    }

    let name = format!("in-netns-dangling-{}", std::process::id());
    NetNs::delete_named(&{
        let other = format!("{name}-other");
        NetNs::create_named(&other).unwrap();
        other
    })
    .unwrap();
    std::os::unix::fs::symlink("/no/such/place", format!("/run/netns/{name}")).unwrap();
    let error = refused(name.as_str());
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("it is there, and leads nowhere"), "{error}");
    assert!(!error.to_string().contains("no such name"), "{error}");
    assert_eq!(NetNs::create_named(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    NetNs::delete_named(&name).unwrap();
}

/// Every message that results from an errno contains its name and its number once.
#[test]
fn messages_carry_the_errno_once() {
    let _alone = alone();
    let looped = tempfile::tempdir().unwrap();
    let at = looped.path().join("loop");
    std::os::unix::fs::symlink(&at, &at).unwrap();
    for (path, errno) in [
        (Path::new("/no/such/path"), "(ENOENT, os error 2)"),
        (Path::new("/etc/passwd/below"), "(ENOTDIR, os error 20)"),
        (&at, "(ELOOP, os error 40)"),
        (Path::new(&"x".repeat(5000)), "(ENAMETOOLONG, os error 36)"),
    ] {
        let error = refused(path);
        let message = error.to_string();
        assert!(message.ends_with(errno), "{message}");
        assert_eq!(message.matches("os error").count(), 1, "{message}");
        assert_eq!(std::io::Error::from(error).to_string(), message);
    }
}

/// A namespace of another kind is named with its usual term.
/// The kind does not tell which limit it is.
#[test]
fn a_message_names_the_limit_of_descriptors() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let name = format!("in-netns-test-limit-{}", std::process::id());
    let highest = *descriptors().keys().max().unwrap();
    let few = limited(Resource::RLIMIT_NOFILE, u64::from(highest) + 1);
    let full: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let errors = [
        NetNs::current().unwrap_err(),
        NetNs::new().unwrap_err(),
        NetNs::from_path("/proc/self/ns/net").unwrap_err(),
        NetNs::from_pid(std::process::id()).unwrap_err(),
        NetNs::create_named(&name).unwrap_err(),
        ns.persist(&name).unwrap_err(),
        NetNs::delete_named(&name).unwrap_err(),
        NetNs::list_named().unwrap_err(),
        ns.names().unwrap_err(),
        ns.holders().unwrap_err(),
    ];
    drop((full, few));
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        let message = error.to_string();
        assert!(message.contains("`ulimit -n`") && message.ends_with("(EMFILE, os error 24)"), "{message}");
    }
}

#[test]
fn a_namespace_of_another_kind_is_named() {
    let _alone = alone();
    for (kind, named) in [
        ("mnt", "a mount namespace"),
        ("uts", "a UTS namespace"),
        ("ipc", "an IPC namespace"),
        ("user", "a user namespace"),
        ("pid", "a PID namespace"),
        ("cgroup", "a cgroup namespace"),
        ("time", "a time namespace"),
    ] {
        let message = refused(Path::new(&format!("/proc/self/ns/{kind}"))).to_string();
        assert!(message.contains(named) && !message.contains("CLONE"), "{message}");
    }
}

#[test]
fn case_13_a_process_that_has_exited() {
    let _alone = alone();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    assert_eq!(NetNs::from_pid(pid).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn case_14_what_is_no_network_namespace_is_reported_as_such() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "text").unwrap();
    fs::write(at("empty"), "").unwrap();
    nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    for path in [at("file"), at("empty"), at("fifo"), at("socket"), dir.path().to_owned()] {
        assert_refused(&path, ErrorKind::NotANetNs, path.to_str().unwrap());
    }
    for path in [at("fifo"), at("socket"), dir.path().to_owned()] {
        let message = NetNs::from_path(&path).unwrap_err().to_string();
        assert!(!message.contains("delete_named"), "it would not remove that: {message}");
    }
    for path in ["/proc/self/status", "/proc/self/ns/mnt", "/proc/self/ns/user", "/dev/null", "/"] {
        assert_refused(path, ErrorKind::NotANetNs, path);
    }
}

#[test]
fn case_14_a_descriptor_of_something_else_is_refused() {
    let _alone = alone();
    let file = File::open("/etc/passwd").unwrap();
    assert_eq!(refused(file.as_fd()).kind(), ErrorKind::NotANetNs);
    assert_eq!(refused(OwnedFd::from(file)).kind(), ErrorKind::NotANetNs);
    let mount = File::open("/proc/self/ns/mnt").unwrap();
    assert_eq!(NetNs::from_fd(mount.into()).unwrap_err().kind(), ErrorKind::NotANetNs);
    assert_eq!(NetNs::of_socket(File::open("/etc/passwd").unwrap()).unwrap_err().kind(), ErrorKind::NotASocket);
}

/// To open a FIFO would let a writer go on that waits for a reader.
#[test]
fn what_is_no_namespace_is_not_opened() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let opened = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    opened.add_watch(&fifo, AddWatchFlags::IN_OPEN).unwrap();
    assert_refused(&fifo, ErrorKind::NotANetNs, "no file of a namespace");
    assert_eq!(opened.read_events().unwrap_err(), Errno::EAGAIN);
}

#[test]
fn a_descriptor_of_a_path_is_opened() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let path_of = |path: &str| nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let found = NetNs::from_fd(path_of(&format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd()))).unwrap();
    assert_eq!(found, ns);
    assert_eq!(with_netns(&found, here).unwrap(), key(ns.id()));
    for path in ["/etc/passwd", "/proc/self/ns/mnt", "/tmp", "/dev/null"] {
        assert_eq!(NetNs::from_fd(path_of(path)).unwrap_err().kind(), ErrorKind::NotANetNs, "{path}");
    }
}

#[test]
fn case_14_an_emptied_name_file_is_explained() {
    let _alone = alone();
    let name = format!("in-netns-emptied-{}", std::process::id());
    NetNs::create_named(&name).unwrap();
    let path = format!("/run/netns/{name}");
    nix::mount::umount2(path.as_str(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    let error = refused(name.as_str());
    assert_eq!(error.kind(), ErrorKind::NotANetNs);
    assert!(error.to_string().contains("mount is gone"), "{error}");
    NetNs::delete_named(&name).unwrap();
    assert!(!fs::exists(path).unwrap());
}

const BAD_NAMES: &[&str] = &["", ".", "..", "a/b", "../etc/passwd", "nul\0byte"];

#[test]
fn case_15_names_that_cannot_be() {
    let _alone = alone();
    let long = "x".repeat(256);
    for name in BAD_NAMES.iter().copied().chain([long.as_str()]) {
        for error in [
            NetNs::from_name(name).unwrap_err(),
            NetNs::create_named(name).unwrap_err(),
            NetNs::delete_named(name).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
        }
    }
    assert_eq!(NetNs::from_name(&"x".repeat(255)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_nul_byte_in_a_path_is_named() {
    let _alone = alone();
    let names = Names::at("/tmp/nul\0byte");
    for error in [
        names.create("name").unwrap_err(),
        names.open("name").unwrap_err(),
        names.delete("name").unwrap_err(),
        names.list().unwrap_err(),
        NetNs::from_path("/tmp/nul\0byte").unwrap_err(),
        refused(Path::new("/tmp/nul\0byte")),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
        let text = error.to_string();
        assert!(text.ends_with("a path cannot contain a NUL byte") && !text.contains('\0'), "{text:?}");
        assert_eq!(error.raw_os_error(), None);
    }
}

#[test]
fn case_16_without_privilege_nothing_moves_and_the_message_says_what_is_missing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // The thread is fresh, so it inherits from a thread without the capability. (The pool's threads do not.)
    std::thread::scope(|scope| {
        scope.spawn(|| {
            give_up_sys_admin();
            let before = here();
            let error = in_netns::Call::new(&ns).fresh().run(|| unreachable!("the body ran")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            let user = fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
            let message = error.to_string();
            assert!(message.contains("CAP_SYS_ADMIN") && message.contains(&user), "{message}");
            assert!(message.contains(&ns.to_string()), "{message}");
            let error = ns.join().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert_eq!(here(), before);
        });
    });
}

#[test]
fn a_failed_entry_leaves_a_thread_that_works() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            give_up_sys_admin();
            in_netns::Call::new(&ns).fresh().run(|| ()).unwrap_err();
        });
    });
    with_netns(&ns, || ()).unwrap();
}

#[test]
fn an_io_error_keeps_kind_message_and_source() {
    let _alone = alone();
    let error = NetNs::from_name("no-such-name").unwrap_err();
    let message = error.to_string();
    let io = std::io::Error::from(error);
    assert_eq!(io.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(io.to_string(), message);
    let source = std::error::Error::source(&io).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.raw_os_error(), Some(nix::errno::Errno::ENOENT as i32));
    assert!(io.get_ref().unwrap().is::<Error>());
}

/// Valid names are created, found, listed and deleted; invalid names change nothing.
#[test]
fn any_name_is_created_and_deleted_or_refused() {
    let _alone = alone();
    let strategy = proptest::string::string_regex("[ -~é/.]{0,12}").unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    });
    let before = NetNs::list_named().unwrap();
    let created = std::cell::RefCell::new(BTreeSet::new());
    runner
        .run(&strategy, |name| {
            match NetNs::create_named(&name) {
                Ok(ns) => {
                    created.borrow_mut().insert(name.clone());
                    prop_assert!(NetNs::list_named().unwrap().contains(&name));
                    prop_assert_eq!(NetNs::from_name(&name).unwrap(), ns);
                    NetNs::delete_named(&name).unwrap();
                }
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidName),
            }
            Ok(())
        })
        .unwrap();
    // As root, other programs may make names in the same directory meanwhile.
    let left: Vec<_> = NetNs::list_named().unwrap().into_iter().filter(|name| !before.contains(name)).collect();
    assert!(left.iter().all(|name| !created.borrow().contains(name)), "{left:?}");
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}
