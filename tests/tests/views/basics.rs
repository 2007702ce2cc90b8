//! Views of a network namespace, in this process. What needs files of its own in `/etc` or `/run` is in
//! `tests/src/bin/separate/views.rs`, which `users/view_files.rs` runs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{Call, ErrorKind, NetNs, View, in_netns, with_netns, with_netns_async};
use in_netns_examples::netlink::Netlink;
use in_netns_tests::{Scratch, alone, here, home, in_directory, key, mount_table, threads_in};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The interfaces that `/sys` shows.
fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").expect("sysfs is mounted");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect()
}

/// The mount points of a mount table.
fn mount_points(table: &str) -> BTreeSet<&str> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).collect()
}

/// A namespace with an interface of its own.
fn with_interface(name: &str) -> NetNs {
    let ns = NetNs::new().unwrap();
    ns.run(|| Netlink::connect()?.add_veth(name, (&ns, "peer"))).unwrap().unwrap();
    ns
}

/// What such a namespace has.
fn interfaces_with(name: &str) -> BTreeSet<String> {
    ["lo", "peer", name].map(str::to_owned).into()
}

#[test]
fn a_view_shows_the_interfaces_of_its_namespace_in_sys() {
    let ns = with_interface("only-here");
    let at_home = interfaces();
    let view = ns.view().unwrap();
    assert_eq!(view.run(interfaces).unwrap(), interfaces_with("only-here"));
    assert_eq!(view.run(here).unwrap(), key(ns.id()));
    // Without the view, /sys is home's.
    assert_eq!(ns.run(interfaces).unwrap(), at_home);
    assert!(!at_home.contains("only-here"));
    let without = View::builder(&ns).without_sys().build().unwrap();
    assert_eq!(without.run(interfaces).unwrap(), at_home);
    assert_eq!(without.run(here).unwrap(), key(ns.id()));
}

#[test]
fn a_view_of_the_namespace_whose_sys_is_there_already_shows_it() {
    let home = NetNs::current().unwrap();
    // Home's, where the tests run as root: the kernel mounts no filesystem on itself.
    let view = home.view().unwrap();
    let names = || nix::net::if_::if_nameindex().unwrap().iter().map(|i| i.name().to_string_lossy().into()).collect();
    let expected: BTreeSet<String> = names();
    let (there, shown) = view.run(|| (here(), interfaces())).unwrap();
    assert_eq!(there, key(home.id()));
    assert!(shown.is_superset(&expected), "{shown:?} shows {expected:?}");
    assert!(view.command("true").status().unwrap().success());
}

#[test]
fn a_view_whose_sys_a_body_has_unmounted_shows_it_again() {
    let at_home = interfaces();
    for ns in [with_interface("unmounted"), NetNs::current().unwrap()] {
        let view = ns.view().unwrap();
        let expected = view.run(interfaces).unwrap();
        for _ in 0..3 {
            view.run(|| umount2("/sys", MntFlags::MNT_DETACH)).unwrap().unwrap();
            assert_eq!(view.run(interfaces).unwrap(), expected);
        }
    }
    assert_eq!(interfaces(), at_home);
}

#[test]
fn what_is_mounted_below_sys_at_home_is_there_in_a_view() {
    let view = NetNs::new().unwrap().view().unwrap();
    let inside = view.run(|| mount_table("thread-self")).unwrap();
    let at_home = mount_table("self");
    let below = |point: &&str| point.starts_with("/sys/");
    let at_home: BTreeSet<_> = mount_points(&at_home).into_iter().filter(below).collect();
    assert_eq!(mount_points(&inside).into_iter().filter(below).collect::<BTreeSet<_>>(), at_home);
    for point in at_home {
        let identity = || fs::metadata(point).map(|file| (file.dev(), file.ino())).ok();
        assert_eq!(view.run(identity).unwrap(), identity(), "{point}");
    }
}

#[test]
fn a_body_begins_in_the_directory_of_its_caller() {
    let view = NetNs::new().unwrap().view().unwrap();
    let of_process = std::env::current_dir().unwrap();
    let scratch = Scratch::new();
    in_directory(scratch.path(), || {
        let at_home = std::env::current_dir().unwrap();
        assert_eq!(view.run(std::env::current_dir).unwrap().unwrap(), at_home);
        let fresh = Call::new(&view).fresh().run(std::env::current_dir).unwrap().unwrap();
        assert_eq!(fresh, at_home);
        // Where the directory is not to be seen in the view, a body begins at the root.
        let hidden = at_home.parent().unwrap();
        view.run(|| mount(Some("body"), hidden, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap()).unwrap();
        assert_eq!(view.run(std::env::current_dir).unwrap().unwrap(), Path::new("/"));
        assert_eq!(std::env::current_dir().unwrap(), at_home);
    });
    assert_eq!(std::env::current_dir().unwrap(), of_process);
}

#[test]
fn a_scoped_thread_is_in_the_view() {
    let ns = with_interface("scoped");
    let view = ns.view().unwrap();
    let seen = view.run(|| thread::scope(|scope| scope.spawn(interfaces).join().unwrap())).unwrap();
    assert_eq!(seen, interfaces_with("scoped"));
}

#[test]
fn the_texts_of_a_view_are_seen_in_etc() {
    let at_home = fs::read_to_string("/etc/hosts").unwrap();
    let view = View::builder(&NetNs::new().unwrap()).hosts("192.0.2.1 first\n").build().unwrap();
    let read = || fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(view.run(read).unwrap(), "192.0.2.1 first\n");
    assert_eq!(read(), at_home);
    // The whole of it is there, however long.
    let long = "192.0.2.1 name\n".repeat(20_000);
    let view = View::builder(view.netns()).hosts(&long).build().unwrap();
    assert_eq!(view.run(read).unwrap(), long);
}

#[test]
fn a_view_follows_the_files_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hosts");
    fs::write(&file, "one").unwrap();
    let view = View::builder(&NetNs::new().unwrap()).etc(directory.path()).build().unwrap();
    let read = || fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(view.run(read).unwrap(), "one");
    // Replaced, as an editor does it.
    for text in ["two", "three", "four"] {
        fs::write(directory.path().join("new"), text).unwrap();
        fs::rename(directory.path().join("new"), &file).unwrap();
        assert_eq!(view.run(read).unwrap(), text);
        assert_eq!(view.clone().run(read).unwrap(), text);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(view.run(read).unwrap(), read());
    // What can no longer be made is an error, and no body runs.
    fs::write(directory.path().join("in-netns-no-such-file"), "").unwrap();
    let ran = AtomicBool::new(false);
    let error = view.run(|| ran.store(true, Ordering::Relaxed)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!ran.load(Ordering::Relaxed));
    assert_eq!(threads_in(view.netns()), [0; 0]);
    fs::remove_file(directory.path().join("in-netns-no-such-file")).unwrap();
    assert_eq!(view.run(read).unwrap(), read());
}

#[test]
fn a_link_in_the_directory_of_a_view_is_followed_each_time() {
    let scratch = tempfile::tempdir().unwrap();
    let (directory, destination) = (scratch.path().join("etc"), scratch.path().join("destination"));
    fs::create_dir(&directory).unwrap();
    symlink(&destination, directory.join("hosts")).unwrap();
    fs::write(&destination, "one").unwrap();
    let view = View::builder(&NetNs::new().unwrap()).etc(&directory).build().unwrap();
    let read = || fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(view.run(read).unwrap(), "one");
    for text in ["two", "three"] {
        fs::write(scratch.path().join("new"), text).unwrap();
        fs::rename(scratch.path().join("new"), &destination).unwrap();
        assert_eq!(view.run(read).unwrap(), text);
    }
    // A link that leads nowhere is an error, and not home's file.
    fs::remove_file(&destination).unwrap();
    let error = view.run(read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let link = directory.join("hosts");
    assert!(
        error.to_string().contains(&format!("open {}: it is a link that leads nowhere", link.display())),
        "{error}"
    );
    fs::write(&destination, "four").unwrap();
    assert_eq!(view.run(read).unwrap(), "four");
}

/// A directory with `hosts`, which another thread replaces all the time while `act` runs: by a new file at this path,
/// which is there for 2 ms of each `period`.
fn while_hosts_is_replaced<R>(new: impl Fn(&Path) -> PathBuf, period: Duration, act: impl FnOnce(&Path) -> R) -> R {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("etc");
    fs::create_dir(&directory).unwrap();
    let (file, new) = (directory.join("hosts"), new(&directory));
    fs::write(&file, "the view's").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::write(&new, "the view's").unwrap();
                let there = Duration::from_millis(2).min(period);
                thread::sleep(there);
                fs::rename(&new, &file).unwrap();
                thread::sleep(period.saturating_sub(there));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&directory)));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_file_that_is_replaced_as_usual_stops_no_call() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for new in [".hosts.tmp", "hosts.new"] {
        while_hosts_is_replaced(
            |directory| directory.join(new),
            Duration::from_millis(50),
            |directory| {
                let view = (0..100).map(|_| View::builder(&ns).etc(directory).build()).find_map(Result::ok).unwrap();
                let until = Instant::now() + Duration::from_secs(1);
                while Instant::now() < until {
                    let seen = view.run(|| fs::read_to_string("/etc/hosts").unwrap());
                    assert_eq!(seen.unwrap_or_else(|error| panic!("{new}: {error}")), "the view's");
                }
            },
        );
    }
}

#[test]
fn a_view_is_made_of_files_that_are_replaced_meanwhile() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // Made elsewhere: at each moment the directory has `hosts` and nothing else.
    while_hosts_is_replaced(
        |directory| directory.with_file_name("new"),
        Duration::from_millis(2),
        |directory| {
            for _ in 0..300 {
                View::builder(&ns).etc(directory).build().unwrap();
            }
        },
    );
}

#[test]
fn what_editors_leave_in_the_directory_of_a_view_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hosts"), "the view's").unwrap();
    for name in [".hosts.swp", "hosts~", "#hosts#"] {
        fs::write(directory.path().join(name), "").unwrap();
    }
    symlink("user@host.1234", directory.path().join(".#hosts")).unwrap();
    let view = View::builder(&NetNs::new().unwrap()).etc(directory.path()).build().unwrap();
    let read = || fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(view.run(read).unwrap(), "the view's");
}

#[test]
fn a_name_that_is_not_text_is_an_error_that_names_the_entry() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(OsStr::from_bytes(b"odd-\xff")), "").unwrap();
    let error = View::builder(&NetNs::new().unwrap()).etc(directory.path()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("there is no /etc/odd-\u{fffd} to mount it over"), "{error}");
    // Where it is of no account, it stops nothing.
    fs::rename(
        directory.path().join(OsStr::from_bytes(b"odd-\xff")),
        directory.path().join(OsStr::from_bytes(b".\xff")),
    )
    .unwrap();
    View::builder(&NetNs::new().unwrap()).etc(directory.path()).build().unwrap();
}

#[test]
fn a_file_of_names_that_cannot_be_read_is_an_error_and_never_a_wait() {
    let ns = NetNs::new().unwrap();
    let error_with = |make: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join("nsswitch.conf"));
        let builder = View::builder(&ns).etc(directory.path());
        let (send, receive) = std::sync::mpsc::channel();
        thread::spawn(move || send.send(builder.build().map(drop)));
        let error = receive.recv_timeout(Duration::from_secs(10)).expect("it ends").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let what = format!("read {}/nsswitch.conf: ", directory.path().display());
        let message = error.to_string();
        message.split_once(&what).unwrap_or_else(|| panic!("{message}")).1.to_owned()
    };
    let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(error_with(&fifo), "it is not a regular file");
    assert_eq!(error_with(&|path| symlink("/dev/zero", path).unwrap()), "it is not a regular file");
    let large = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
    assert_eq!(error_with(&large), "it is as large as 1 MiB, or larger");
}

#[test]
fn a_path_that_no_directory_can_have_is_named_with_the_reason() {
    let ns = NetNs::new().unwrap();
    let error = View::builder(&ns).etc("").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("an empty path"), "{error}");
}

/// What the C library compares to find out whether `resolv.conf` is another one than before. The device is not part of
/// it.
#[test]
fn the_c_library_can_tell_the_files_of_views_apart() {
    let _alone = alone();
    let identity = || fs::metadata("/etc/hosts").map(|file| (file.size(), file.ino(), file.mtime(), file.mtime_nsec()));
    let ns = NetNs::new().unwrap();
    let builder = View::builder(&ns).hosts("192.0.2.1 name\n");
    let views: Vec<_> = (0..50).map(|_| builder.clone().build().unwrap()).collect();
    let found: BTreeSet<_> = views.iter().map(|view| view.run(identity).unwrap().unwrap()).collect();
    assert_eq!(found.len(), views.len());
}

#[test]
fn views_are_entered_from_many_threads_at_once() {
    let views: Vec<_> = (0..4)
        .map(|number| {
            let name = format!("many{number}");
            View::builder(&with_interface(&name)).hosts(name).build().unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for (number, view) in views.iter().enumerate().chain(views.iter().enumerate()) {
            scope.spawn(move || {
                let name = format!("many{number}");
                for _ in 0..50 {
                    let (interfaces, hosts) =
                        view.run(|| (interfaces(), fs::read_to_string("/etc/hosts").unwrap())).unwrap();
                    assert_eq!(interfaces, interfaces_with(&name));
                    assert_eq!(hosts, name);
                }
            });
        }
    });
}

#[test]
fn a_call_in_a_body_is_a_call_of_its_own() {
    let (outer, inner) = (with_interface("outer").view().unwrap(), with_interface("inner").view().unwrap());
    let plain = NetNs::new().unwrap();
    let at_home = interfaces();
    let seen = outer
        .run(|| {
            let nested = inner.run(interfaces).unwrap();
            let without = plain.run(interfaces).unwrap();
            (nested, without, interfaces())
        })
        .unwrap();
    assert_eq!(seen.0, interfaces_with("inner"));
    assert_eq!(seen.1, at_home);
    assert_eq!(seen.2, interfaces_with("outer"));
}

#[in_netns(view)]
fn by_attribute(view: &View) -> BTreeSet<String> {
    interfaces()
}

#[in_netns(view = view)]
fn by_option(view: &View) -> BTreeSet<String> {
    // The sysfs of a view is that of the namespace, so that its paths are accepted.
    assert!(Path::new("/sys/class/net/forms").exists());
    interfaces()
}

struct Pod {
    view: View,
}

impl Pod {
    #[in_netns(view = &self.view, fresh)]
    fn fresh(&self) -> Result<BTreeSet<String>, in_netns::Error> {
        Ok(interfaces())
    }

    #[in_netns(view = &self.view)]
    async fn asynchronous(&self) -> Result<[BTreeSet<String>; 3], in_netns::Error> {
        let task = tokio::spawn(async { interfaces() }).await.unwrap();
        let blocking = tokio::task::spawn_blocking(interfaces).await.unwrap();
        Ok([interfaces(), task, blocking])
    }

    #[in_netns(view = view, owned)]
    async fn owned(view: View) -> Result<BTreeSet<String>, in_netns::Error> {
        Ok(tokio::task::spawn_blocking(interfaces).await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_a_call_takes_a_view() {
    let view = with_interface("forms").view().unwrap();
    let expected = interfaces_with("forms");
    assert_eq!(with_netns(&view, interfaces).unwrap(), expected);
    assert_eq!(with_netns(view.clone(), interfaces).unwrap(), expected);
    assert_eq!(Call::new(&view).fresh().thread_name("named").run(interfaces).unwrap(), expected);
    assert_eq!(Call::new(&view).stack_size(1 << 20).run(interfaces).unwrap(), expected);
    assert_eq!(Call::new(&view).audit().outcome(interfaces).unwrap().value.unwrap(), expected);
    assert_eq!(view.try_run(|| Ok::<_, in_netns::Error>(interfaces())).unwrap(), expected);
    assert_eq!(by_attribute(&view), expected);
    assert_eq!(by_option(&view), expected);
    let pod = Pod { view };
    assert_eq!(pod.fresh().unwrap(), expected);
    for seen in pod.asynchronous().await.unwrap() {
        assert_eq!(seen, expected);
    }
    assert_eq!(Pod::owned(pod.view.clone()).await.unwrap(), expected);
    let Pod { view } = pod;
    assert_eq!(with_netns_async(&view, || async { interfaces() }).await.unwrap(), expected);
    assert_eq!(view.run_async(|| async { interfaces() }).await.unwrap(), expected);
    assert_eq!(view.spawn_async(|| async { interfaces() }).await.unwrap(), expected);
    let fresh = Call::new(&view).fresh().run_async(|| async { interfaces() });
    assert_eq!(fresh.await.unwrap(), expected);
}

#[tokio::test]
async fn a_blocking_thread_that_is_asked_for_elsewhere_is_in_the_view_too() {
    let view = with_interface("carried").view().unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let call = view.spawn_async(|| async {
        send.send(tokio::runtime::Handle::current()).unwrap();
        finished.await.unwrap();
    });
    let handle = receive.await.unwrap();
    // This thread is at home, and so is the new one by birth.
    let seen = handle.spawn_blocking(interfaces).await.unwrap();
    assert_eq!(seen, interfaces_with("carried"));
    done.send(()).unwrap();
    call.await.unwrap();
    assert_eq!(key(NetNs::current().unwrap().id()), home());
}

/// The mounts of a view are made anew when its files change. A call that began before stays in those that it entered.
#[tokio::test]
async fn a_blocking_thread_is_in_the_mounts_of_its_call() {
    let directory = Scratch::new();
    fs::write(directory.path().join("hosts"), "one").unwrap();
    let view = View::builder(&NetNs::new().unwrap()).etc(directory.path()).build().unwrap();
    let hosts = || fs::read_to_string("/etc/hosts").unwrap();
    let mounts = || fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    let call = view.spawn_async(move || async move {
        send.send((tokio::runtime::Handle::current(), mounts())).unwrap();
        finished.await.unwrap();
    });
    let (handle, of_call) = receive.await.unwrap();
    fs::write(directory.path().join("new"), "two").unwrap();
    fs::rename(directory.path().join("new"), directory.path().join("hosts")).unwrap();
    assert_eq!(view.run(move || (hosts(), mounts() == of_call)).unwrap(), ("two".to_owned(), false));
    // By birth it is at home.
    assert_eq!(handle.spawn_blocking(hosts).await.unwrap(), "one");
    done.send(()).unwrap();
    call.await.unwrap();
}

#[test]
fn a_command_is_started_in_the_view() {
    let view = View::builder(&with_interface("command")).hosts("# the view's\n").build().unwrap();
    let script = "ls /sys/class/net; cat /etc/hosts; pwd; readlink /proc/self/ns/net";
    let output = view.command("sh").args(["-c", script]).output().unwrap();
    let directory = std::env::current_dir().unwrap();
    let expected = format!("command\nlo\npeer\n# the view's\n{}\n{}\n", directory.display(), view.netns());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let mut child = view.command("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    assert_eq!(threads_in(view.netns()), [0; 0], "the thread that started it is back");
    let of_child = fs::read_link(format!("/proc/{}/ns/mnt", child.id())).unwrap();
    assert_eq!(view.run(|| fs::read_link("/proc/thread-self/ns/mnt").unwrap()).unwrap(), of_child);
    child.kill().unwrap();
    child.wait().unwrap();
    let error = view.command("/in-netns/no/such/program").spawn().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("a view of net:"), "{error}");
}

/// A process may have files without devices. `nsenter` starts programs there all the same.
#[test]
fn a_command_whose_output_is_captured_needs_no_device_in_the_view() {
    let view = NetNs::new().unwrap().view().unwrap();
    view.run(|| mount(Some("none"), "/dev", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap()).unwrap();
    let output = view.command("sh").args(["-c", "cat; test ! -e /dev/null && echo none"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "none\n", "{:?}", output.status);
    // std opens this one, where the process starts.
    let error = view.command("true").stdin(std::process::Stdio::null()).status().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("there is no /dev/null"), "{error}");
}

#[test]
fn services_for_names_are_one_line() {
    let ns = NetNs::new().unwrap();
    let error = View::builder(&ns).names("files dns\npasswd: files").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    assert!(error.to_string().contains("one line"), "{error}");
    let error = View::builder(&ns).names("files\0dns").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
}

#[test]
fn what_is_wrong_with_a_path_is_told() {
    let ns = NetNs::new().unwrap();
    let error = View::builder(&ns).etc("/a\0b").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    assert!(error.to_string().ends_with("a path cannot contain a NUL byte"), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    let directory = Scratch::new();
    fs::create_dir(directory.path().join("hosts")).unwrap();
    let view = ns.view().unwrap();
    let not_directories: [std::io::Error; 5] = [
        View::builder(&ns).etc("/etc/hosts").build().map(drop).unwrap_err().into(),
        View::builder(&ns).etc(directory.path()).build().map(drop).unwrap_err().into(),
        NetNs::from_path("/etc/hosts/name").unwrap_err().into(),
        view.command("true").current_dir("/etc/hosts").status().unwrap_err(),
        ns.command("true").current_dir("/etc/hosts").status().unwrap_err(),
    ];
    for error in not_directories {
        assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory, "{error}");
        assert!(error.to_string().contains("where a directory is expected"), "{error}");
        assert!(error.to_string().ends_with("(ENOTDIR, os error 20)"), "{error}");
    }
}

#[test]
fn a_view_can_be_cloned_and_sent() {
    fn check<T: Clone + Send + Sync + std::fmt::Debug>() {}
    check::<View>();
}
