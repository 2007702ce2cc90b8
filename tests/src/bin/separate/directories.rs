//! Names in unusual directories, in a private mount namespace. The argument selects the case.
//!
//! - `var-run`: `/var/run` is a separate directory, and a name exists only there
//! - `linked`: `/run/netns` is a link to `/run/docker/netns`
//! - `dangling`: `/run/netns` is a dangling link
//! - `read-only`: the directory is on a mount that is read-only
//! - `full`: the file system of the directory is full, and then the mount namespace is
//! - `not-utf8`: the path of a mount is no UTF-8
//! - `short`: descriptors or namespaces are short
//! - `working`: the directory is the working directory, by a relative path

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use in_netns::{ErrorKind, Holder, Names, NetNs, with_netns};
use in_netns_tests::{become_root_of_a_user_namespace, mount_table};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

pub(crate) fn main() {
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("a mount namespace of its own");
    for directory in ["/run", "/var"] {
        mount(Some("own"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
    }
    match crate::arguments().next().as_deref() {
        Some("var-run") => var_run(),
        Some("linked") => linked(),
        Some("dangling") => dangling(),
        Some("working") => working(),
        Some("short") => short(),
        Some("read-only") => read_only(),
        Some("full") => full(),
        Some("not-utf8") => not_utf8(),
        other => panic!("what is {other:?}?"),
    }
}

/// Binds a namespace to a file, as other tools do.
fn bind(ns: &NetNs, file: &str) {
    use std::os::fd::{AsFd, AsRawFd};
    fs::write(file, "").expect("a file");
    let source = format!("/proc/thread-self/fd/{}", ns.as_fd().as_raw_fd());
    mount(Some(source.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
}

fn names_of(ns: &NetNs) -> Vec<String> {
    let holders = ns.holders().expect("/proc is mounted");
    let name = |holder: &Holder| match holder {
        Holder::Name { .. } => Some(holder.to_string()),
        _ => None,
    };
    holders.iter().filter_map(name).collect()
}

fn full() {
    fs::create_dir("/run/full").expect("a directory");
    // One for the root, one for the directory of names.
    mount(Some("own"), "/run/full", Some("tmpfs"), MsFlags::empty(), Some("nr_inodes=2")).expect("a tmpfs");
    for path in ["/run/full/names", "/run/full/names/below"] {
        let error = Names::at(path).create("blue").expect_err("there is no inode left");
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::LimitReached && text.contains("no space or no inodes left"), "{text}");
        assert!(text.ends_with("(ENOSPC, os error 28)"), "{text}");
    }

    let ns = NetNs::new().expect("a namespace");
    mount_as_much_as_is_allowed();
    let named = Names::at("/run/netns").create("blue").map(drop);
    let errors = [named.expect_err("nothing can be mounted"), ns.view().map(drop).expect_err("nothing can be mounted")];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        assert!(error.to_string().contains("fs.mount-max"), "{error}");
    }
    assert_eq!(Names::at("/run/netns").list().expect("it is a directory"), Vec::<String>::new());
}

/// Uses up `fs.mount-max`: each mount of a directory with all that is mounted below, in itself, doubles them.
fn mount_as_much_as_is_allowed() {
    for number in 0.. {
        let directory = format!("/run/{number}");
        fs::create_dir(&directory).expect("a directory");
        if mount(Some("own"), directory.as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>).is_err() {
            return;
        }
        let inside = format!("{directory}/inside");
        fs::create_dir(&inside).expect("a directory");
        let again = MsFlags::MS_BIND | MsFlags::MS_REC;
        while mount(Some(directory.as_str()), inside.as_str(), None::<&str>, again, None::<&str>).is_ok() {}
    }
}

/// Nothing is mounted where no file can be created.
fn read_only() {
    fs::create_dir_all("/run/own").expect("a directory");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(Some("/run"), "/run", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a mount");
    mount(None::<&str>, "/run", None::<&str>, flags, None::<&str>).expect("a mount that is read-only");
    let error = Names::at("/run/own").create("blue").expect_err("no file can be created");
    assert!(error.to_string().contains("EROFS"), "{error}");
    let mounts = mount_table("self");
    assert!(!mounts.contains(" /run/own "), "{mounts}");
}

/// The names of the directory are copied to the mount that it becomes, and unmounted below. Both happens whatever else
/// is mounted.
fn not_utf8() {
    let other = Path::new(OsStr::from_bytes(b"/run/not utf8 \xff"));
    fs::create_dir_all(other).expect("a directory");
    mount(Some("own"), other, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
    fs::create_dir_all("/run/netns").expect("a directory");
    let theirs = NetNs::new().expect("root of this user namespace");
    bind(&theirs, "/run/netns/theirs");
    let ours = NetNs::create_named("ours").expect("a name");
    assert_eq!(names_of(&ours), ["name `ours` (/run/netns/ours)"]);
    for name in ["theirs", "ours"] {
        NetNs::delete_named(name).expect("it is there");
    }
    assert_eq!(NetNs::list_named().expect("a list"), [""; 0]);
    assert_eq!(names_of(&theirs), [""; 0]);
}

/// Nothing is left where descriptors or namespaces are short: no file, and no mount of the directory.
fn short() {
    fn is_left(directory: &str) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let has_file = fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some());
        has_file || mounts.contains(&format!(" {directory} "))
    }
    drop(NetNs::new().expect("a namespace"));
    let mut failures = 0;
    for free in 0..30 {
        let directory = format!("/run/short-{free}");
        let names = Names::at(&directory);
        let open = in_netns_tests::descriptors();
        let limit = (0..).filter(|number| !open.contains_key(number)).nth(free).expect("a number");
        let limited = in_netns_tests::limited(nix::sys::resource::Resource::RLIMIT_NOFILE, limit.into());
        let created = names.create("blue");
        drop(limited);
        match created {
            Ok(_) => names.delete("blue").expect("it is there"),
            Err(error) => {
                failures += 1;
                assert_eq!(error.kind(), ErrorKind::LimitReached, "{free} free: {error}");
                assert!(!is_left(&directory), "{free} free: {error}");
            }
        }
    }
    assert!((3..25).contains(&failures), "{failures}");
    fs::write("/proc/sys/user/max_net_namespaces", "0").expect("root of this user namespace");
    assert_eq!(Names::at("/run/few").create("blue").expect_err("no room").kind(), ErrorKind::LimitReached);
    assert!(!is_left("/run/few"));
}

fn working() {
    fs::create_dir_all("/run/own/below").expect("a directory");
    std::env::set_current_dir("/run/own").expect("the directory is there");
    for directory in [".", "below/..", "below"] {
        let names = Names::at(directory);
        let ns = names.create("blue").expect("a name");
        assert_eq!(names.open("blue").expect("it is there"), ns, "{directory}");
        assert!(names.list().expect("a list").contains(&"blue".to_owned()), "{directory}");
        assert_eq!(names.directory(), Path::new(directory));
        names.delete("blue").expect("it is there");
        assert!(!names.list().expect("a list").contains(&"blue".to_owned()), "{directory}");
    }

    fs::create_dir("/run/gone").expect("a directory");
    std::env::set_current_dir("/run/gone").expect("the directory is there");
    fs::remove_dir("/run/gone").expect("it is empty");
    for path in [".", "names"] {
        let text = Names::at(path).create("blue").expect_err("it has no working directory").to_string();
        assert!(text.contains("it is relative, and the working directory does not exist"), "{text}");
    }
}

fn var_run() {
    fs::create_dir_all("/var/run/netns").expect("a directory");
    let old = NetNs::new().expect("root of this user namespace");
    bind(&old, "/var/run/netns/old");
    assert_eq!(NetNs::from_name("old").expect("it is there"), old);
    assert!(with_netns("old", || old.is_current()).expect("it is there").expect("/proc"));
    assert_eq!(NetNs::list_named().expect("a list"), ["old"]);
    assert_eq!(names_of(&old), ["name `old` (/var/run/netns/old)"]);
    assert_eq!(NetNs::create_named("old").expect_err("it is there").kind(), ErrorKind::AlreadyExists);
    // A new name is created in the directory that has the existing names.
    let new = NetNs::create_named("new").expect("a name");
    assert!(Path::new("/var/run/netns/new").exists() && !Path::new("/run/netns").exists());
    assert_eq!(NetNs::from_name("new").expect("it is there"), new);

    // If both directories exist, both are read.
    fs::create_dir("/run/netns").expect("a directory");
    let third = NetNs::create_named("third").expect("a name");
    assert!(Path::new("/run/netns/third").exists());
    assert_eq!(NetNs::list_named().expect("a list"), ["new", "old", "third"]);
    assert_eq!(NetNs::create_named("old").expect_err("it is there").kind(), ErrorKind::AlreadyExists);
    for name in ["old", "new", "third"] {
        NetNs::delete_named(name).expect("it is there");
    }
    assert_eq!(NetNs::list_named().expect("a list"), [""; 0]);
    assert_eq!(names_of(&third), [""; 0]);
    let error = NetNs::delete_named("old").expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

fn linked() {
    fs::create_dir_all("/run/docker/netns").expect("a directory");
    symlink("/run/docker/netns", "/run/netns").expect("a link");
    let theirs = NetNs::new().expect("root of this user namespace");
    bind(&theirs, "/run/docker/netns/abc");
    assert_eq!(NetNs::from_name("abc").expect("it is there"), theirs);
    let ours = NetNs::create_named("ours").expect("a name");
    assert_eq!(NetNs::from_path("/run/docker/netns/ours").expect("it is there"), ours);
    assert_eq!(NetNs::list_named().expect("a list"), ["abc", "ours"]);
    assert_eq!(names_of(&theirs), ["name `abc` (/run/netns/abc)"]);
    assert_eq!(names_of(&ours), ["name `ours` (/run/netns/ours)"]);
    for name in ["abc", "ours"] {
        NetNs::delete_named(name).expect("it is there");
    }
    assert!(Path::new("/run/netns").is_symlink());
}

fn dangling() {
    symlink("/nowhere", "/run/netns").expect("a link");
    for error in [
        NetNs::from_name("blue").expect_err("it leads nowhere"),
        NetNs::create_named("blue").expect_err("it leads nowhere"),
        NetNs::delete_named("blue").expect_err("it leads nowhere"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let message = error.to_string();
        assert!(message.contains("/run/netns") && message.contains("/nowhere"), "{message}");
        assert!(message.contains("it is there, and leads nowhere"), "{message}");
    }
}
