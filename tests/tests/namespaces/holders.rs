//! Holders of a namespace: the tests create and remove each kind.
//!
//! The tests take turns: before it execs, a child process of one test holds the descriptors of all.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use in_netns::{ErrorKind, Holder, NetNs, with_netns};
use in_netns_tests::{
    Scratch, alone, descriptors, in_new_mount_namespace, limited, separate, start_until, tid, wait_until,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::Resource;

fn held_by(ns: &NetNs) -> Vec<Holder> {
    ns.holders().unwrap()
}

/// The holders as text, which a user of the crate can compare.
fn texts(ns: &NetNs) -> Vec<String> {
    held_by(ns).iter().map(Holder::to_string).collect()
}

fn me() -> u32 {
    std::process::id()
}

/// A process that lives until its standard input ends, or until it is dropped.
struct Process(Child);

impl Process {
    /// Starts `cat`, which writes nothing, with the descriptor as its standard output.
    fn with(fd: impl Into<OwnedFd>) -> Process {
        Process(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::from(fd.into())).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_unused_namespace_has_no_holder() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert_eq!(texts(&ns), [""; 0]);
    let clone = ns.clone();
    assert_eq!(texts(&clone), [""; 0], "a clone is the same descriptor");
}

#[test]
fn a_thread_is_a_holder() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (end, wait) = mpsc::channel::<()>();
    let (tell, hear) = mpsc::channel();
    let live = move || {
        tell.send(tid()).unwrap();
        let _ = wait.recv();
    };
    let thread = with_netns(&ns, || thread::Builder::new().name("resident".into()).spawn(live)).unwrap().unwrap();
    let id = hear.recv().unwrap();
    let holders = held_by(&ns);
    let [Holder::Thread { process, thread: found, name, .. }] = &holders[..] else { panic!("{holders:?}") };
    assert_eq!((*process, *found, name.as_str()), (me(), id, "resident"));
    assert_eq!(holders[0].to_string(), format!("thread {id} `resident` of process {}", me()));
    drop(end);
    thread.join().unwrap();
    wait_until("the thread is gone", || held_by(&ns).is_empty());
}

#[test]
fn the_calls_own_thread_is_a_holder_while_it_is_inside() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (id, inside) = ns.run(|| (tid(), texts(&ns))).unwrap();
    assert_eq!(inside.len(), 1, "{inside:?}");
    assert!(inside[0].starts_with(&format!("thread {id} ")), "{inside:?}");
    assert_eq!(texts(&ns), [""; 0]);
}

#[test]
fn another_process_is_a_holder() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut child = Process(ns.run(|| Command::new("cat").stdin(Stdio::piped()).spawn()).unwrap().unwrap());
    let pid = child.0.id();
    wait_until("it has become the program", || texts(&ns) == [format!("thread {pid} `cat` of process {pid}")]);
    drop(child.0.stdin.take());
    child.0.wait().unwrap();
    assert_eq!(texts(&ns), [""; 0]);
}

#[test]
fn a_descriptor_is_a_holder() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let copy = ns.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(texts(&ns), [format!("descriptor {} of process {}", copy.as_raw_fd(), me())]);
    let holders = held_by(&ns);
    assert!(matches!(holders[..], [Holder::Descriptor { process, .. }] if process == me()), "{holders:?}");
    let child = Process::with(copy);
    assert_eq!(texts(&ns), [format!("descriptor 1 of process {}", child.0.id())]);
    drop(child);
    assert_eq!(texts(&ns), [""; 0]);
}

#[test]
fn a_socket_is_a_holder() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let other = NetNs::new().unwrap();
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:80")).unwrap().unwrap();
    assert_eq!(texts(&ns), [format!("socket {} of process {}", listener.as_raw_fd(), me())]);
    assert_eq!(texts(&other), [""; 0]);
    drop(listener);
    // A socket that no table in /proc/net shows, in a process at home.
    let unbound = ns.run(|| {
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        );
        socket.unwrap()
    });
    let child = Process::with(unbound.unwrap());
    assert_eq!(texts(&ns), [format!("socket 1 of process {}", child.0.id())]);
    drop(child);
    assert_eq!(texts(&ns), [""; 0]);
}

#[test]
fn a_name_is_a_holder() {
    let _alone = alone();
    let name = format!("in-netns-holders-{}", me());
    let ns = NetNs::create_named(&name).unwrap();
    let texts_then = texts(&ns);
    NetNs::delete_named(&name).unwrap();
    let (names, others): (Vec<_>, Vec<_>) = texts_then.into_iter().partition(|text| text.starts_with("name "));
    assert_eq!(names, [format!("name `{name}` (/run/netns/{name})")]);
    // The directory is shared: a process in another mount namespace sees the mount too.
    assert!(others.iter().all(|text| text.starts_with(&format!("mount /run/netns/{name} as process "))), "{others:?}");
    assert_eq!(texts(&ns), [""; 0]);
}

#[test]
fn a_mount_elsewhere_is_a_holder() {
    let _alone = alone();
    let scratch = Scratch::new();
    let ns = NetNs::new().unwrap();
    let point = scratch.path().join("with space");
    fs::write(&point, "").unwrap();
    let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
    mount(Some(source.as_str()), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let seen = held_by(&ns);
    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    assert!(
        seen.iter()
            .any(|holder| matches!(holder, Holder::Mount { process, path, .. } if *process == me() && *path == point)),
        "{seen:?}"
    );
    assert_eq!(texts(&ns), [""; 0]);
}

/// A program in a mount namespace of its own, where a namespace is mounted on a file.
fn with_mount(ns: &NetNs, point: &Path, program: &[&str]) -> Command {
    let script = r#"mount --make-rprivate / && mount --bind "$0" "$1" && shift && exec "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(format!("/proc/{}/fd/{}", me(), ns.as_fd().as_raw_fd())).arg(point).args(program);
    in_new_mount_namespace(&mut command);
    command
}

#[test]
fn a_mount_in_another_mount_namespace_is_a_holder() {
    let _alone = alone();
    let scratch = Scratch::new();
    let ns = NetNs::new().unwrap();
    let point = scratch.path().join("there");
    fs::write(&point, "").unwrap();
    let (child, _) = start_until(&mut with_mount(&ns, &point, &["sh", "-c", "echo done && exec cat"]), "done");
    let child = Process(child);
    assert_eq!(texts(&ns), [format!("mount {} as process {} sees it", point.display(), child.0.id())]);
    drop(child);
    wait_until("the mount namespace is gone", || held_by(&ns).is_empty());
}

/// What its threads share is held by those that live.
#[test]
fn a_process_whose_leader_has_exited_is_a_holder() {
    let _alone = alone();
    let start = |command: &mut Command| Process(start_until(command, "ready").0);
    let start_with = |fd: OwnedFd| start(separate!("leaderless").stderr(Stdio::from(fd)));
    let ns = NetNs::new().unwrap();
    let child = start_with(ns.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(texts(&ns), [format!("descriptor 2 of process {}", child.0.id())]);
    drop(child);
    let child = start_with(ns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap().into());
    assert_eq!(texts(&ns), [format!("socket 2 of process {}", child.0.id())]);
    drop(child);

    let scratch = Scratch::new();
    let point = scratch.path().join("there");
    fs::write(&point, "").unwrap();
    let child = start(&mut with_mount(&ns, &point, &[env!("CARGO_BIN_EXE_separate"), "leaderless"]));
    assert_eq!(texts(&ns), [format!("mount {} as process {} sees it", point.display(), child.0.id())]);
    drop(child);
    wait_until("the mount namespace is gone", || held_by(&ns).is_empty());

    // The process itself.
    let output = separate!("leaderless").arg("holders").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A list that lacks a holder looks like that of a namespace which nothing else keeps.
#[test]
fn a_list_is_complete_or_an_error_where_descriptors_are_short() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let socket = ns.udp_bind("127.0.0.1:0").unwrap();
    let fd = socket.as_raw_fd().unsigned_abs();
    let is_listed =
        |holders: &[Holder]| holders.iter().any(|at| matches!(at, Holder::Socket { fd: at, .. } if *at == fd));
    let highest = *descriptors().keys().max().unwrap();
    for free in 0..12 {
        let few = limited(Resource::RLIMIT_NOFILE, u64::from(highest) + 16);
        let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        files.truncate(files.len() - free);
        let (holders, all) = (ns.holders(), NetNs::all());
        drop((files, few));
        match holders {
            Ok(holders) => assert!(is_listed(&holders), "{free}: {holders:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::LimitReached, "{free}: {error}"),
        }
        match all {
            Ok(all) => {
                let found = all.namespaces.iter().find(|found| found.netns == ns).unwrap();
                assert!(is_listed(&found.holders), "{free}: {found:?}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::LimitReached, "{free}: {error}"),
        }
    }
}

/// The descriptor of a tun device, as a program for a VPN or a virtual machine has one.
#[test]
fn a_tun_device_is_a_holder_also_in_another_process() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let open = || File::options().read(true).write(true).open("/dev/net/tun");
    // Without the driver, or in a container without the device, there is nothing to test.
    let Ok(tun) = with_netns(&ns, open).unwrap() else { return };
    assert_eq!(texts(&ns), [format!("socket {} of process {}", tun.as_raw_fd(), me())]);
    let process = Process::with(tun);
    wait_until("the other process alone holds it", || {
        texts(&ns) == [format!("socket 1 of process {}", process.0.id())]
    });
    let id = ns.id();
    drop(ns);
    let all = NetNs::all().unwrap();
    assert!(all.namespaces.iter().any(|found| found.netns.id() == id), "{all:?}");
}
