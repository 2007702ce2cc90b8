//! Views where `/etc` and `/run` are the process's own. The argument selects the case.
//!
//! - `named`: `/etc/netns/NAME`, as `ip netns exec` shows it
//! - `linked`: the name is a link, or the directory of names is one
//! - `replaced`: `/etc/resolv.conf` is a link, and is replaced at home
//! - `missing`: `/etc/resolv.conf` is not there, or leads nowhere
//! - `no-mount`: `/etc/resolv.conf` leads to a file over which nothing can be mounted
//! - `services`: programs that answer for names listen on their sockets
//! - `nscd`: `nsswitch.conf` is unusual, and nscd listens
//! - `own-directory`: entries of the view's directory cover that directory and one another, or are hidden
//! - `late-nsswitch`, `late-sockets`, `late-directory`: what is made after the view
//! - `no-nscd`: there is a file in place of the directory of nscd
//! - `one-file`: two names in `/etc` lead to one file
//! - `below`: an entry leads to a file in a directory that is an entry too
//! - `jail`: the process has called `chroot(2)`, and there is no `/sys`
//! - `covered`: a part of `/sys` is covered, as in a container
//! - `interface-mounts`: something is mounted over files of interfaces in `/sys`
//! - `unmounted`: what is mounted below `/sys` is unmounted while views are made
//! - `chroot`: the process has called `chroot(2)`
//! - `modules`: look-ups of names in the view of a process that has modules for them
//! - `foreign-mounts`: home's mount namespace belongs to the parent user namespace
//! - `loop`: makes views and calls without end, where the process is

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind as Io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use in_netns::{ErrorKind, NetNs, View};
use in_netns_examples::dns;
use in_netns_tests::{become_root_of_a_user_namespace, lasting_mounts, mount_table};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

pub(crate) fn main() {
    let case = crate::arguments().next().unwrap_or_default();
    match case.as_str() {
        "loop" => without_end(),
        "foreign-mounts" => {
            become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
            foreign_mounts();
        }
        "covered" => {
            become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
            make_private();
            mount_tmpfs("/sys/kernel");
            // The earlier mounts belong to the parent, and cannot be unmounted.
            become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
            covered();
        }
        case => {
            become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
            make_private();
            mount_tmpfs("/run");
            own_etc();
            match case {
                "named" => named(),
                "linked" => linked(),
                "replaced" => replaced(),
                "missing" => missing(),
                "no-mount" => no_mount(),
                "services" => services(),
                "nscd" => nscd(),
                "file-size" => file_size(),
                "own-directory" => own_directory(),
                "late-nsswitch" => late_nsswitch(),
                "late-sockets" => late_sockets(),
                "late-directory" => late_directory(),
                "no-nscd" => no_nscd(),
                "one-file" => one_file(),
                "below" => below(),
                "jail" => jail(),
                "interface-mounts" => interface_mounts(),
                "unmounted" => unmounted(),
                "chroot" => chrooted(),
                "modules" => modules(),
                other => panic!("what is {other:?}?"),
            }
        }
    }
}

fn make_private() {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("a mount namespace of its own");
}

fn mount_tmpfs(place: &str) {
    mount(Some("own"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
}

/// An `/etc` with the files that matter here.
fn own_etc() {
    let kept = ["ld.so.cache", "passwd"].map(|name| (name, fs::read(Path::new("/etc").join(name)).unwrap_or_default()));
    mount_tmpfs("/etc");
    for (name, content) in kept {
        fs::write(Path::new("/etc").join(name), content).expect("a file");
    }
    for name in ["resolv.conf", "hosts"] {
        fs::write(Path::new("/etc").join(name), "# home's\n").expect("a file");
    }
    fs::write("/etc/nsswitch.conf", "passwd: files\nhosts: files dns\n").expect("a file");
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("a file")
}

fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").expect("sysfs");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect()
}

/// Gives a file a new content, as programs do that must not be seen half-way.
fn replace(path: &str, text: &str) {
    let new = format!("{path}.new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, path).expect("a file");
}

fn named() {
    fs::create_dir_all("/etc/netns/blue").expect("a directory");
    fs::write("/etc/netns/blue/resolv.conf", "# blue's\n").expect("a file");
    fs::write("/etc/netns/blue/hosts", "192.0.2.1 blue.test\n").expect("a file");
    let ns = NetNs::create_named("blue").expect("root of this user namespace");
    ns.run(|| in_netns_examples::netlink::Netlink::connect()?.add_veth("blue0", (&ns, "blue1")))
        .expect("it is there")
        .expect("a pair");
    let view = NetNs::from_name("blue").and_then(|ns| ns.view()).expect("a view");
    let seen = || (interfaces(), read("/etc/resolv.conf"), read("/etc/hosts"));
    let in_view = view.run(seen).expect("the view");
    assert_eq!(in_view.0, ["blue0", "blue1", "lo"].map(str::to_owned).into());
    assert_eq!((in_view.1.as_str(), in_view.2.as_str()), ("# blue's\n", "192.0.2.1 blue.test\n"));
    assert_eq!((read("/etc/resolv.conf").as_str(), read("/etc/hosts").as_str()), ("# home's\n", "# home's\n"));
    // The same as `ip netns exec` shows.
    let script = "ls /sys/class/net; cat /etc/resolv.conf /etc/hosts; cut -d: -f1 /proc/net/dev | tail -n +3 | sort";
    let ours = view.run(|| Command::new("sh").args(["-c", script]).output().expect("sh")).expect("the view");
    match Command::new("ip").args(["netns", "exec", "blue", "sh", "-c", script]).output() {
        Ok(theirs) => {
            assert!(theirs.status.success(), "{theirs:?}");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&ours.stdout), text(&theirs.stdout));
        }
        Err(error) => assert!(error.kind() == Io::NotFound && std::env::var_os("CI").is_none(), "ip: {error}"),
    }
    // The thread's own network is in /proc too.
    let own = view.run(|| read("/proc/thread-self/net/dev")).expect("the view");
    assert!(own.contains("blue0:") && !read("/proc/thread-self/net/dev").contains("blue0:"), "{own}");
    // A file that is added is there from then on.
    fs::write("/etc/netns/blue/passwd", "# blue's\n").expect("a file");
    assert_eq!(view.run(|| read("/etc/passwd")).expect("the view"), "# blue's\n");

    // Of two names with a directory each, none is preferred.
    ns.persist("azure").expect("a name");
    assert_eq!(ns.view().expect("one of them has a directory").run(seen).expect("the view").1, "# blue's\n");
    fs::create_dir("/etc/netns/azure").expect("a directory");
    let error = ns.view().expect_err("two directories");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("/etc/netns/azure and /etc/netns/blue"), "{error}");
    let chosen = View::builder(&ns).etc("/etc/netns/azure").build().expect("a view");
    assert_eq!(chosen.run(|| read("/etc/resolv.conf")).expect("the view"), "# home's\n");
    let none = View::builder(&ns).without_etc().build().expect("a view");
    assert_eq!(none.run(|| read("/etc/hosts")).expect("the view"), "# home's\n");
}

/// Programs that know no `ip netns` make names for it by `ln -s /proc/PID/ns/net /run/netns/NAME`. Docker has its names
/// in a directory of its own, which users make a link to.
fn linked() {
    for name in ["link", "mounted"] {
        fs::create_dir_all(format!("/etc/netns/{name}")).expect("a directory");
        fs::write(format!("/etc/netns/{name}/resolv.conf"), format!("# of {name}\n")).expect("a file");
    }
    fs::create_dir("/run/elsewhere").expect("a directory");
    symlink("elsewhere", "/run/netns").expect("a link");
    let ns = NetNs::new().expect("root of this user namespace");
    let mut child = ns.command("cat").stdin(std::process::Stdio::piped()).spawn().expect("a process");
    symlink(format!("/proc/{}/ns/net", child.id()), "/run/netns/link").expect("a link");
    symlink("/nowhere", "/run/netns/dangling").expect("a link");
    NetNs::create_named("mounted").expect("a name");
    for name in ["link", "mounted"] {
        let view = NetNs::from_name(name).and_then(|ns| ns.view()).expect("a view");
        assert_eq!(view.run(|| read("/etc/resolv.conf")).expect("the view"), format!("# of {name}\n"));
    }
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
}

fn replaced() {
    fs::create_dir("/run/stub").expect("a directory");
    fs::write("/run/stub/resolv.conf", "# stub\n").expect("a file");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    symlink("../run/stub/resolv.conf", "/etc/resolv.conf").expect("a link");
    let ns = NetNs::new().expect("root of this user namespace");
    let view = View::builder(&ns).resolv_conf("# the view's\n").build().expect("a view");
    let check = |what: &str| {
        assert_eq!(view.run(|| read("/etc/resolv.conf")).expect("the view"), "# the view's\n", "{what}");
        assert_eq!(view.run(|| read("/etc/nsswitch.conf")).expect("the view"), "passwd: files\nhosts: files dns\n");
    };
    check("over a link");
    assert_eq!(read("/etc/resolv.conf"), "# stub\n");
    replace("/run/stub/resolv.conf", "# new stub\n");
    check("the file that the link leads to was replaced");
    fs::write("/run/other", "# other\n").expect("a file");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    symlink("/run/other", "/etc/resolv.conf").expect("a link");
    check("the link leads elsewhere");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    fs::write("/etc/resolv.conf", "# a file\n").expect("a file");
    check("it is a file");
    for _ in 0..100 {
        replace("/etc/resolv.conf", "# again\n");
        replace("/etc/nsswitch.conf", "passwd: files\nhosts: dns files\n");
        check("again and again");
    }
    assert_eq!(read("/etc/resolv.conf"), "# again\n");
    // Beside bodies, with several threads: no body sees home's file.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..200 {
                        // A file that is replaced all the time is an error, and not home's.
                        match view.run(|| fs::read_to_string("/etc/hosts")) {
                            Ok(hosts) => assert_eq!(hosts.expect("a file"), "# home's\n"),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
                        }
                    }
                })
            })
            .collect();
        let replacer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                replace("/etc/resolv.conf", "# again\n");
                thread::yield_now();
            }
        });
        let ended: Vec<_> = callers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
        replacer.join().expect("no panic");
    });
    check("in the end");
}

fn missing() {
    let ns = NetNs::new().expect("root of this user namespace");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    for what in ["is not there", "leads nowhere", "leads to itself"] {
        let error = View::builder(&ns).resolv_conf("").build().expect_err(what);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("there is no /etc/resolv.conf to mount it over"), "{error}");
        assert!(error.to_string().contains("mount the text for resolv.conf over /etc/resolv.conf"), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), Io::NotFound);
        if what == "leads nowhere" {
            fs::remove_file("/etc/resolv.conf").expect("it is there");
            symlink("resolv.conf", "/etc/resolv.conf").expect("a link");
        } else {
            let _ = symlink("/run/nowhere", "/etc/resolv.conf");
        }
    }
    // An entry of the directory of a view may be such a link, too.
    let directory = Path::new("/run/entries");
    fs::create_dir(directory).expect("a directory");
    symlink("hosts", directory.join("hosts")).expect("a link");
    let error = View::builder(&ns).etc(directory).build().expect_err("it leads to itself");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("/run/entries/hosts: it is a link that leads nowhere"), "{error}");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    symlink("/run/nowhere", "/etc/resolv.conf").expect("a link");
    // Nor is it made behind the caller's back.
    assert!(Path::new("/etc/resolv.conf").is_symlink() && !Path::new("/run/nowhere").exists());
    ns.view().expect("without a resolv.conf of its own");
    // Without nsswitch.conf there is none to be had, and nothing else is lost.
    fs::remove_file("/etc/nsswitch.conf").expect("it is there");
    let view = View::builder(&ns).hosts("# the view's\n").build().expect("a view");
    assert_eq!(view.run(|| read("/etc/hosts")).expect("the view"), "# the view's\n");
    // Services other than those of the C library cannot be set then, and the request is not ignored.
    let error = View::builder(&ns).names("files").build().expect_err("there is nothing to mount it over");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("there is no /etc/nsswitch.conf"), "{error}");
    View::builder(&ns).names("files  dns").build().expect("those of the C library");
    View::builder(&ns).names_as_at_home().build().expect("those of home");
}

/// A machine with its root on NFS has its name servers in `/proc/net/pnp`. The kernel looks the files of `/proc/net` up
/// anew each time, which unmounts what is mounted over them.
fn no_mount() {
    let ns = NetNs::new().expect("root of this user namespace");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    symlink("/proc/net/dev", "/etc/resolv.conf").expect("a link");
    let error = View::builder(&ns).resolv_conf("nameserver 192.0.2.1\n").build().expect_err("nothing is shown there");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let message = error.to_string();
    assert!(message.contains("over /etc/resolv.conf: it leads to /proc/"), "{message}");
    assert!(message.contains("/net/dev, and the kernel drops each mount on that file"), "{message}");
    ns.view().expect("without a resolv.conf of its own").run(|| ()).expect("the view");
}

/// What is mounted over the files of an interface belongs to the interface of home, also where the namespace has one of
/// the same name.
fn interface_mounts() {
    mount(Some("own"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).expect("the sysfs of its own network");
    let (home, ns) = (NetNs::current().expect("/proc"), NetNs::new().expect("root of this user namespace"));
    home.run(|| in_netns_examples::netlink::Netlink::connect()?.add_veth("at-home", (&home, "at-home-too")))
        .expect("it is there")
        .expect("a link");
    let expected: BTreeSet<_> = ["lo".to_owned()].into();
    mount_tmpfs("/sys/kernel/debug");
    for covered in ["/sys/class/net/at-home", "/sys/class/net/lo", "/sys/class/net", "/sys/devices/virtual/net"] {
        mount_tmpfs(covered);
        fs::write(Path::new(covered).join("mtu"), "home's\n").expect("a file");
        let view = ns.view().unwrap_or_else(|error| panic!("{covered}: {error}"));
        let seen = view.run(|| (interfaces(), read("/sys/class/net/lo/mtu"))).expect("the view");
        assert_eq!(seen, (expected.clone(), "65536\n".to_owned()), "{covered}");
        // What is mounted elsewhere is shown.
        let device = || std::os::unix::fs::MetadataExt::dev(&fs::metadata("/sys/kernel/debug").expect("a directory"));
        assert_eq!(view.run(device).expect("the view"), device(), "{covered}");
    }
}

/// An unmount at home reaches a view that is being made.
fn unmounted() {
    let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>).expect("a mount namespace of its own");
    let ns = NetNs::new().expect("root of this user namespace");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let places = ["/sys/kernel/debug", "/sys/fs/cgroup", "/sys/firmware"];
                places.into_iter().for_each(mount_tmpfs);
                for place in places {
                    nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH).expect("it is mounted");
                }
            }
        });
        let made: Vec<_> = (0..500).map(|_| ns.view()).collect();
        stop.store(true, Ordering::Relaxed);
        for view in made {
            assert_eq!(view.expect("a view").run(interfaces).expect("the view"), ["lo".to_owned()].into());
        }
    });
}

/// How many connections have arrived.
fn connections(listener: &UnixListener) -> usize {
    listener.set_nonblocking(true).expect("a socket");
    std::iter::from_fn(|| listener.accept().ok()).count()
}

/// A view has files of its own. Where the process may write none, that is no reason for the kernel to end it.
fn file_size() {
    let ns = NetNs::new().expect("root of this user namespace");
    fs::write("/etc/nsswitch.conf", "hosts: files resolve dns\n").expect("a file");
    let none = in_netns_tests::limited(nix::sys::resource::Resource::RLIMIT_FSIZE, 0);
    let error = ns.view().expect_err("no file may be written");
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
    drop(none);
    ns.view().expect("a view").run(|| ()).expect("a call");
}

fn services() {
    let ns = NetNs::new().expect("root of this user namespace");
    let conf = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    let at_home = UdpSocket::bind("127.0.0.1:53").expect("a network of its own");
    let inside = ns.udp_bind("127.0.0.1:53").expect("a socket");
    let heard = AtomicUsize::new(0);
    fs::write("/etc/nsswitch.conf", "passwd: files\nhosts: files resolve mdns4_minimal [NOTFOUND=return] sss dns\n")
        .expect("a file");
    let sockets = ["/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket"];
    let listeners = sockets.map(listen);
    let late = View::builder(&ns).resolv_conf(conf).build().expect("a view");
    assert!(!late.run(|| Path::new("/run/nscd").exists()).expect("the view"));
    // nscd starts after the view was made.
    let nscd = listen("/run/nscd/socket");
    let view = View::builder(&ns).resolv_conf(conf).build().expect("a view");
    thread::scope(|scope| {
        let address = Ipv4Addr::new(192, 0, 2, 53);
        let (inside, heard) = (&inside, &heard);
        scope.spawn(move || {
            // It ends when there is nothing to answer any more.
            inside.set_read_timeout(Some(std::time::Duration::from_secs(2))).expect("a socket");
            let _ = dns::answer(inside, address, heard);
        });
        for view in [&late, &view] {
            let look_up = || ("asked.in-netns.test", 80).to_socket_addrs().map(|mut found| found.next());
            let found = view.run(look_up).expect("the view").expect("its name server answers").expect("an address");
            assert_eq!(found.ip(), IpAddr::V4(address));
            assert_eq!(view.run(|| read("/etc/nsswitch.conf")).expect("the view"), "passwd: files\nhosts: files dns\n");
            // Nor does a library that asks these programs itself reach one.
            for path in sockets.into_iter().chain(["/run/nscd/socket"]) {
                let connect = || std::os::unix::net::UnixStream::connect(path).expect_err("it is covered").kind();
                let refused = view.run(connect).expect("the view");
                assert!(matches!(refused, Io::ConnectionRefused | Io::NotFound), "{path}: {refused}");
            }
        }
        assert!(heard.load(Ordering::SeqCst) > 0);
        at_home.set_nonblocking(true).expect("a socket");
        assert!(at_home.recv(&mut [0; 512]).is_err(), "a question was heard at home");
        assert_eq!(connections(&nscd), 0);
        assert_eq!(listeners.each_ref().map(connections), [0, 0]);
        // What is wanted is not covered. nscd always is.
        let chosen = View::builder(&ns).names("files resolve").build().expect("a view");
        assert!(chosen.run(|| read("/etc/nsswitch.conf")).expect("the view").ends_with("\nhosts: files resolve\n"));
        let connect = |path: &'static str| move || std::os::unix::net::UnixStream::connect(path).is_ok();
        assert!(chosen.run(connect(sockets[0])).expect("the view"));
        assert!(!chosen.run(connect(sockets[1])).expect("the view"));
        assert!(!chosen.run(connect("/run/nscd/socket")).expect("the view"));
        let unchanged = View::builder(&ns).names_as_at_home().build().expect("a view");
        assert!(unchanged.run(connect("/run/nscd/socket")).expect("the view"));
        assert!(unchanged.run(|| read("/etc/nsswitch.conf")).expect("the view").contains("mdns4_minimal"));
    });
}

fn nscd() {
    let ns = NetNs::new().expect("root of this user namespace");
    fs::create_dir("/run/nscd").expect("a directory");
    let _nscd = UnixListener::bind("/run/nscd/socket").expect("a socket");
    fs::create_dir_all("/run/systemd/resolve").expect("a directory");
    let _resolve = UnixListener::bind("/run/systemd/resolve/io.systemd.Resolve").expect("a socket");
    let answers = || {
        ["/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"]
            .map(|path| std::os::unix::net::UnixStream::connect(path).is_ok())
    };
    assert_eq!(answers(), [true, true]);
    // In the directory of the view.
    fs::create_dir("/etc/view").expect("a directory");
    let cases: [(&[u8], _); 6] = [
        (b"passwd: files\n", false),
        (b"", false),
        (b"# \xe9t\xe9\nhosts: files dns\n", false),
        (b"# \xe9t\xe9\nhosts: files resolve\n", true),
        // The C library takes the last line, and white space before the colon.
        (b"hosts: files resolve\nhosts : dns\n", false),
        (b"hosts: dns\n  hosts\t:resolve\n", true),
    ];
    for (text, has_resolve) in cases {
        let what = String::from_utf8_lossy(text);
        fs::write("/etc/view/nsswitch.conf", text).expect("a file");
        let view = View::builder(&ns).etc("/etc/view").build().expect("a view");
        let (seen, answers) = view.run(|| (fs::read("/etc/nsswitch.conf"), answers())).expect("the view");
        assert_eq!((seen.expect("a file"), answers), (text.to_vec(), [false, has_resolve]), "{what}");
    }
    fs::remove_file("/etc/view/nsswitch.conf").expect("it is there");
    // At home.
    let cases: [(&[u8], &[u8]); 4] = [
        (b"# \xe9t\xe9\nhosts: files resolve\npasswd: files", b"# \xe9t\xe9\npasswd: files\nhosts: files dns\n"),
        (b"passwd: files\n", b"passwd: files\nhosts: files dns\n"),
        (b"hosts : resolve\nhosts\tresolve\nhostsx: y\n", b"hostsx: y\nhosts: files dns\n"),
        (b"", b"hosts: files dns\n"),
    ];
    for (at_home, expected) in cases {
        fs::write("/etc/nsswitch.conf", at_home).expect("a file");
        let view = ns.view().expect("a view");
        let (seen, answers) = view.run(|| (fs::read("/etc/nsswitch.conf"), answers())).expect("the view");
        assert_eq!((seen.expect("a file"), answers), (expected.to_vec(), [false, false]));
    }
    // What cannot be read is an error: not a view with home's file.
    fs::remove_file("/etc/nsswitch.conf").expect("it is there");
    fs::create_dir("/etc/nsswitch.conf").expect("a directory");
    let error = ns.view().expect_err("it is a directory");
    assert!(error.to_string().contains("read /etc/nsswitch.conf: it is not a regular file"), "{error}");
    View::builder(&ns).names_as_at_home().build().expect("it is not read");
    // The default of the C library, without the file.
    fs::remove_dir("/etc/nsswitch.conf").expect("it is there");
    assert_eq!(ns.view().expect("a view").run(answers).expect("the view"), [false, false]);
}

fn own_directory() {
    fs::create_dir_all("/etc/netns/blue/netns").expect("a directory");
    fs::write("/etc/netns/blue/resolv.conf", "# blue's\n").expect("a file");
    let ns = NetNs::create_named("blue").expect("root of this user namespace");
    let error = ns.view().expect_err("it would cover the directory");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let message = error.to_string();
    let what = "mount /etc/netns/blue/netns over /etc/netns: it would cover /etc/netns/blue itself";
    assert!(message.contains(what), "{message}");
    fs::remove_dir("/etc/netns/blue/netns").expect("it is there");
    // A directory may cover what a link of another entry leads to.
    fs::create_dir("/etc/netns/blue/ssl").expect("a directory");
    fs::create_dir("/etc/ssl").expect("a directory");
    fs::write("/etc/ssl/hosts", "# below ssl\n").expect("a file");
    symlink("/etc/ssl/hosts", "/etc/netns/blue/hosts").expect("a link");
    let view = ns.view().expect("a view");
    for _ in 0..3 {
        let seen = || (read("/etc/resolv.conf"), read("/etc/hosts"), Path::new("/etc/ssl/hosts").exists());
        assert_eq!(view.run(seen).expect("the view"), ("# blue's\n".into(), "# below ssl\n".into(), false));
    }
    // A hidden file is left out while `/etc` has none of this name.
    fs::write("/etc/netns/blue/.hidden", "# blue's\n").expect("a file");
    assert!(!view.run(|| Path::new("/etc/.hidden").exists()).expect("the view"));
    fs::write("/etc/.hidden", "# home's\n").expect("a file");
    assert_eq!(view.run(|| read("/etc/.hidden")).expect("the view"), "# blue's\n");
}

fn late_nsswitch() {
    fs::remove_file("/etc/nsswitch.conf").expect("it is there");
    let view = NetNs::new().and_then(|ns| ns.view()).expect("a view");
    for _ in 0..2 {
        assert!(!view.run(|| Path::new("/etc/nsswitch.conf").exists()).expect("the view"));
        fs::write("/etc/nsswitch.conf", "hosts: files resolve\n").expect("a file");
        assert_eq!(view.run(|| read("/etc/nsswitch.conf")).expect("the view"), "hosts: files dns\n");
        fs::remove_file("/etc/nsswitch.conf").expect("it is there");
    }
}

/// A socket that a program listens at.
fn listen(path: &str) -> UnixListener {
    fs::create_dir_all(Path::new(path).parent().expect("a path of a file")).expect("a directory");
    UnixListener::bind(path).expect("a socket")
}

fn is_answered(path: &str) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

fn late_sockets() {
    mount_tmpfs("/var/lib");
    let view = NetNs::new().and_then(|ns| ns.view()).expect("a view");
    let sockets = [
        "/run/systemd/resolve/io.systemd.Resolve",
        "/run/avahi-daemon/socket",
        "/var/lib/sss/pipes/nss",
        "/var/lib/sss/pipes/private/nss",
        "/run/nscd/socket",
    ];
    for path in sockets {
        assert!(!view.run(|| is_answered(path)).expect("the view"), "{path}");
        for _ in 0..2 {
            let _listener = listen(path);
            assert!(is_answered(path), "{path}");
            assert!(!view.run(|| is_answered(path)).expect("the view"), "{path}");
            fs::remove_file(path).expect("it is there");
        }
    }
}

fn late_directory() {
    let ns = NetNs::create_named("blue").expect("root of this user namespace");
    let view = ns.view().expect("a view");
    for _ in 0..2 {
        assert_eq!(view.run(|| read("/etc/resolv.conf")).expect("the view"), "# home's\n");
        fs::create_dir_all("/etc/netns/blue").expect("a directory");
        fs::write("/etc/netns/blue/resolv.conf", "# blue's\n").expect("a file");
        assert_eq!(view.run(|| read("/etc/resolv.conf")).expect("the view"), "# blue's\n");
        fs::remove_dir_all("/etc/netns/blue").expect("it is there");
    }
    // Without a name the view keeps what it has.
    fs::create_dir_all("/etc/netns/blue").expect("a directory");
    fs::write("/etc/netns/blue/resolv.conf", "# blue's\n").expect("a file");
    NetNs::delete_named("blue").expect("a name");
    replace("/etc/resolv.conf", "# home's\n");
    assert_eq!(view.run(|| read("/etc/resolv.conf")).expect("the view"), "# blue's\n");
}

fn no_nscd() {
    fs::write("/run/nscd", "").expect("a file");
    let view = NetNs::new().and_then(|ns| ns.view()).expect("a view");
    assert_eq!(view.run(|| read("/etc/nsswitch.conf")).expect("the view"), "passwd: files\nhosts: files dns\n");
    fs::remove_file("/run/nscd").expect("it is there");
    let _nscd = listen("/run/nscd/socket");
    assert!(!view.run(|| is_answered("/run/nscd/socket")).expect("the view"));
}

fn one_file() {
    let ns = NetNs::new().expect("root of this user namespace");
    fs::create_dir("/etc/view").expect("a directory");
    for name in ["resolv.conf", "other.conf"] {
        fs::write(Path::new("/etc/view").join(name), "# the view's\n").expect("a file");
    }
    fs::write("/etc/other.conf", "# home's\n").expect("a file");
    for name in ["resolv.conf", "hosts"] {
        fs::remove_file(Path::new("/etc").join(name)).expect("it is there");
        symlink("other.conf", Path::new("/etc").join(name)).expect("a link");
    }
    let builder = View::builder(&ns);
    let cases = [
        (builder.clone().etc("/etc/view"), "other.conf and resolv.conf"),
        (builder.clone().resolv_conf("").hosts(""), "hosts and resolv.conf"),
    ];
    for (builder, names) in cases {
        let error = builder.build().expect_err("one file cannot show two");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let what = format!("mount over {names} in /etc: both lead to /etc/other.conf");
        assert!(error.to_string().contains(&what), "{error}");
    }
    // One file is shown at both.
    fs::remove_file("/etc/view/resolv.conf").expect("it is there");
    symlink("other.conf", "/etc/view/resolv.conf").expect("a link");
    let view = builder.etc("/etc/view").build().expect("a view");
    let seen = || (read("/etc/resolv.conf"), read("/etc/other.conf"));
    assert_eq!(view.run(seen).expect("the view"), ("# the view's\n".into(), "# the view's\n".into()));
}

fn below() {
    for directory in ["/etc/resolvconf", "/etc/view/resolvconf"] {
        fs::create_dir_all(directory).expect("a directory");
        fs::write(Path::new(directory).join("resolv.conf"), "# below\n").expect("a file");
    }
    fs::write("/etc/view/resolvconf/other", "# the view's\n").expect("a file");
    fs::write("/etc/view/resolv.conf", "# the view's\n").expect("a file");
    fs::remove_file("/etc/resolv.conf").expect("it is there");
    symlink("resolvconf/resolv.conf", "/etc/resolv.conf").expect("a link");
    let view = NetNs::new().and_then(|ns| View::builder(&ns).etc("/etc/view").build()).expect("a view");
    let seen = || (read("/etc/resolv.conf"), read("/etc/resolvconf/other"));
    for _ in 0..2 {
        assert_eq!(view.run(seen).expect("the view"), ("# the view's\n".into(), "# the view's\n".into()));
    }
}

fn jail() {
    let at = |path: &str| Path::new("/run/jail").join(path);
    for name in ["", "etc", "proc", "mnt", "mnt/view"] {
        fs::create_dir(at(name)).expect("a directory");
    }
    for name in ["hosts", "resolv.conf", "nsswitch.conf"] {
        fs::write(at("etc").join(name), "# the jail's\n").expect("a file");
    }
    fs::write(at("mnt/view/hosts"), "# the view's\n").expect("a file");
    mount(Some("/proc"), &at("proc"), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).expect("a mount");
    nix::unistd::chroot("/run/jail").expect("root of this user namespace");
    nix::unistd::chdir("/").expect("a directory");
    let ns = NetNs::new().expect("root of this user namespace");
    let builder = View::builder(&ns).without_sys();
    // `/mnt` is where the files of the view itself are made.
    let view = builder.clone().etc("/mnt/view").resolv_conf("# text\n").build().expect("a view");
    for _ in 0..3 {
        let seen = || (read("/etc/hosts"), read("/etc/resolv.conf"), read("/mnt/view/hosts"));
        let expected = ["# the view's\n", "# text\n", "# the view's\n"].map(str::to_owned);
        assert_eq!(<[String; 3]>::from(view.run(seen).expect("the view")), expected);
    }
    // Without files of its own a view needs no place for them.
    fs::rename("/mnt", "/elsewhere").expect("a directory");
    let plain = builder.clone().names_as_at_home();
    assert_eq!(plain.build().expect("a view").run(|| read("/etc/hosts")).expect("the view"), "# the jail's\n");
    let linked = builder.clone().names_as_at_home().etc("/elsewhere/view").build().expect("a view");
    assert_eq!(linked.run(|| read("/etc/hosts")).expect("the view"), "# the view's\n");
    let error = builder.hosts("").build().expect_err("there is no place for it");
    assert!(error.to_string().contains("find a directory to work in"), "{error}");
}

fn covered() {
    let ns = NetNs::new().expect("root of this user namespace");
    let (before, lasting) = (mount_table("self"), lasting_mounts("self"));
    let error = ns.view().expect_err("/sys/kernel is covered");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let message = error.to_string();
    assert!(message.contains("mount sysfs on /sys") && message.contains("without_sys()"), "{message}");
    // Nothing is added. A mount also goes here where another program deletes the file that it is on.
    let now = mount_table("self");
    assert!(now.lines().all(|mount| before.contains(mount)), "{before}\n{now}");
    assert_eq!(lasting_mounts("self"), lasting);
    let view = View::builder(&ns).without_sys().hosts("# the view's\n").build().expect("a view");
    assert_eq!(view.run(|| read("/etc/hosts")).expect("the view"), "# the view's\n");
    assert!(view.run(|| view.netns().is_current()).expect("the view").expect("/proc"));
}

fn chrooted() {
    fs::create_dir("/run/root").expect("a directory");
    mount(Some("/"), "/run/root", None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).expect("a mount");
    mount_tmpfs("/run/root/mnt");
    fs::write("/run/root/mnt/marker", "").expect("a file");
    let marker = || Path::new("/mnt/marker").exists();
    assert!(!marker());
    // Threads of both kinds that are idle then have had the root from before.
    let ns = NetNs::new().expect("root of this user namespace");
    let before = ns.view().expect("a view");
    assert!(!before.run(marker).expect("the view"));
    let test = |view: &View| view.command("test").args(["-e", "/mnt/marker"]).status().expect("it starts").success();
    assert!(!test(&before));
    nix::unistd::chroot("/run/root").expect("root of this user namespace");
    nix::unistd::chdir("/mnt").expect("a directory");
    let root = fs::read_link("/proc/self/root").expect("/proc");
    let view = View::builder(&ns).hosts("# the view's\n").build().expect("a view");
    for _ in 0..3 {
        let (marker, hosts, directory, interfaces) =
            view.run(|| (marker(), read("/etc/hosts"), std::env::current_dir(), interfaces())).expect("the view");
        assert!(marker, "its root is the root of the process");
        assert!(test(&view), "for processes too");
        assert_eq!((hosts.as_str(), directory.expect("it is there").as_path()), ("# the view's\n", Path::new("/mnt")));
        assert_eq!(interfaces, ["lo".to_owned()].into());
        for task in fs::read_dir("/proc/self/task").expect("/proc") {
            let task = task.expect("a thread").path();
            assert_eq!(fs::read_link(task.join("root")).expect("/proc"), root);
        }
    }
    assert!(!before.run(marker).expect("the view") && !test(&before), "a view keeps its root");
}

/// The path of a library that this process has loaded.
fn loaded_library(name: &str) -> String {
    let maps = read("/proc/self/maps");
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.find(|path| path.contains(name)).expect("it is linked dynamically").to_owned()
}

/// Looks up names of several kinds: where the caller is.
fn look_ups() {
    let _ = ("name.in-netns.test", 80).to_socket_addrs();
    // An error where there is no such file.
    let user = nix::unistd::User::from_name("in-netns-no-such-user");
    let group = nix::unistd::Group::from_name("in-netns-no-such-group");
    assert!(!matches!(user, Ok(Some(_))) && !matches!(group, Ok(Some(_))));
}

/// Whether a service of `/etc/services` is found.
fn is_service() -> bool {
    // SAFETY: the names are strings; it is only looked at whether there is a result.
    #[allow(unsafe_code)]
    let found = unsafe { libc::getservbyname(c"in-netns-service".as_ptr(), c"tcp".as_ptr()) };
    !found.is_null()
}

/// More arguments: whether names were looked up before, how the container got its files, whether home has an
/// `nsswitch.conf`.
fn modules() {
    if !cfg!(target_env = "gnu") {
        return;
    }
    let options: Vec<String> = crate::arguments().skip(1).collect();
    let has = |option: &str| options.iter().any(|given| given == option);
    let home =
        b"# not UTF-8: \xe9\npasswd: files absent\ngroup: files absent\nhosts: absent [!UNAVAIL=return] files dns\n\
        services: absent [UNAVAIL=return] files\nnetgroup: compat\n";
    if has("missing") {
        fs::remove_file("/etc/nsswitch.conf").expect("it is there");
    } else {
        fs::write("/etc/nsswitch.conf", home).expect("a file");
    }
    fs::write("/etc/hosts", "192.0.2.1 at.home\n").expect("a file");
    fs::write("/etc/services", "in-netns-service 4711/tcp\n").expect("a file");
    // Any library does: that it is loaded shows in /proc.
    let library = loaded_library("/libgcc_s");
    let directory = Path::new(&library).parent().and_then(Path::to_str).expect("a directory");
    fs::create_dir("/run/libs").expect("a directory");
    for module in ["evil", "absent"] {
        fs::copy(&library, format!("/run/libs/libnss_{module}.so.2")).expect("a file");
    }
    fs::write("/run/nsswitch.conf", "passwd: evil files\ngroup: evil files\nhosts: evil files\n").expect("a file");
    let script = if has("same-root") {
        format!("mount --bind /run/nsswitch.conf /etc/nsswitch.conf && mount --bind /run/libs {directory}")
    } else {
        format!(
            "mount -t tmpfs root /mnt && mkdir -p /mnt/etc /mnt/old /mnt/usr/lib /mnt{directory} && cd /mnt &&
             ln -s usr/lib lib; cp /run/nsswitch.conf etc && cp /run/libs/* .{directory} &&
             PATH=$PATH:/sbin:/usr/sbin pivot_root . old"
        )
    };
    // The commands of the shell that follow are its own.
    let script = format!("{script} && echo ready && read line");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", &script]);
    let (mut container, _) = in_netns_tests::start_until(&mut command, "ready");
    if has("before") {
        assert!(("at.home", 80).to_socket_addrs().is_ok());
    }
    let view = View::of_process(&container).expect("a view");
    let are_loaded = |names: &[&str]| names.iter().any(|name| read("/proc/self/maps").contains(name));
    let installed = Path::new(directory).join("libnss_compat.so.2").exists() && !has("missing");
    let loaded_before = are_loaded(&["libnss_compat.so.2"]);
    view.run(look_ups).expect("the view");
    assert!(!are_loaded(&["libnss_evil", "libnss_absent"]), "{}", read("/proc/self/maps"));
    // Nor do later look-ups at home.
    look_ups();
    assert!(!are_loaded(&["libnss_evil", "libnss_absent"]), "{}", read("/proc/self/maps"));
    // What home's file says of a missing module counts as before.
    assert!(("at.home", 80).to_socket_addrs().is_ok());
    assert_eq!(is_service(), has("missing"));
    assert_eq!(loaded_before, installed, "home's modules of all databases are loaded before a body runs");

    let _ = fs::remove_file("/etc/nsswitch.conf");
    fs::create_dir("/etc/nsswitch.conf").expect("a directory");
    let error = View::of_process(&container).expect_err("what cannot be read");
    assert!(error.to_string().contains("read /etc/nsswitch.conf"), "{error}");
    container.kill().expect("it runs");
    container.wait().expect("a child");
}

fn foreign_mounts() {
    let ns = NetNs::new().expect("root of this user namespace");
    let error = ns.view().expect_err("there is no way back to home's mounts");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("belongs to a user namespace above"), "{error}");
    assert!(ns.run(|| ns.is_current()).expect("calls work").expect("/proc"));
    assert_eq!(in_netns::pool_stats().poisoned_total, 0);
}

fn without_end() {
    in_netns::rootless::enter().expect("user namespaces are allowed");
    let ns = NetNs::new().expect("root");
    loop {
        let view = View::builder(&ns).hosts("# the view's\n").build().expect("a view");
        view.run(|| mount_tmpfs("/mnt")).expect("the view");
        println!("again");
    }
}
