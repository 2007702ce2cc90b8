//! The view of a process, against processes in namespaces of their own.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use in_netns::{Call, ErrorKind, NetNs, ThreadFate, View};
use in_netns_tests::{Scratch, alone, descriptors, in_directory, tid};
use nix::mount::{MsFlags, mount};

/// A process in its own mount, UTS, IPC, cgroup and network namespaces, with a file, a hostname and an interface that
/// are nowhere else.
struct Container(Child);

/// The options of `unshare(1)`.
const NAMESPACES: [&str; 5] = ["--mount", "--uts", "--ipc", "--cgroup", "--net"];

impl Container {
    fn start(name: &str) -> Container {
        let script = format!(
            "mount -t tmpfs tmpfs /mnt && echo {name} > /mnt/file && hostname {name} &&
             mount -t sysfs sysfs /sys && ip link add {name} type veth peer name peer && echo ready && cat"
        );
        Container::run(&NAMESPACES, &script)
    }

    /// In the namespaces of these options, until `ready` is printed.
    fn run(namespaces: &[&str], script: &str) -> Container {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["sh", "-c", script]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut container = Container(child.unwrap());
        let mut line = String::new();
        BufReader::new(container.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        container
    }

    /// Of the process that `unshare --fork` has started.
    fn child(&self) -> u32 {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    fn namespace(&self, kind: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/{kind}", self.0.id())).unwrap()
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const KINDS: [&str; 5] = ["mnt", "net", "uts", "ipc", "cgroup"];

fn namespace(kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap()
}

fn hostname() -> String {
    // The calling thread's, whichever process the file is of.
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim_end().to_owned()
}

fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn pidfd_of(process: &Child) -> OwnedFd {
    // SAFETY: pidfd_open takes two numbers.
    #[allow(unsafe_code)]
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.id(), 0) };
    let fd = i32::try_from(nix::errno::Errno::result(fd).unwrap()).unwrap();
    // SAFETY: the kernel has just made the descriptor.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn it_shows_the_files_the_hostname_and_the_interfaces_of_the_process() {
    // A test beside it could use the thread that is looked at.
    let _alone = alone();
    let container = Container::start("shown");
    let at_home = (hostname(), interfaces(), KINDS.map(namespace));
    let pidfd = pidfd_of(&container.0);
    let views = [
        View::of_process(container.0.id()).unwrap(),
        View::of_process(&container.0).unwrap(),
        View::of_process(&pidfd).unwrap(),
        View::of_process(pidfd).unwrap(),
    ];
    for view in views {
        let outcome = Call::new(&view)
            .outcome(|| {
                let file = fs::read_to_string("/mnt/file").unwrap();
                (tid(), file, hostname(), interfaces(), KINDS.map(namespace), std::env::current_dir().unwrap())
            })
            .unwrap();
        let (thread, file, host, interfaces, namespaces, directory) = outcome.value.unwrap();
        assert_eq!((file.as_str(), host.as_str()), ("shown\n", "shown"));
        assert_eq!(interfaces, ["lo", "peer", "shown"].map(str::to_owned).into());
        assert_eq!(namespaces, KINDS.map(|kind| container.namespace(kind)));
        assert_eq!(directory, std::env::current_dir().unwrap(), "it is there too");
        assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
        let of_thread = |kind: &str| fs::read_link(format!("/proc/self/task/{thread}/ns/{kind}")).unwrap();
        assert_eq!(KINDS.map(of_thread), at_home.2, "the thread is back");
    }
    assert_eq!((hostname(), interfaces(), KINDS.map(namespace)), at_home);
    assert!(!Path::new("/mnt/file").exists());
}

/// Also a body that makes no system call, after which the thread is not inspected. No body of a library that is not
/// optimised is that short.
#[test]
fn a_short_body_leaves_all_namespaces_of_the_process() {
    // A test beside it could use the thread.
    let _alone = alone();
    let container = Container::start("short");
    let there = View::of_process(container.0.id()).unwrap();
    let here = NetNs::current().unwrap().view().unwrap();
    let at_home = KINDS.map(namespace);
    for _ in 0..100 {
        there.run(|| ()).unwrap();
        let [_, now @ ..] = here.run(|| KINDS.map(namespace)).unwrap();
        assert_eq!(now, at_home[1..]);
    }
}

#[test]
fn a_body_begins_at_the_root_where_the_process_has_no_such_directory() {
    let container = Container::start("rooted");
    let view = View::of_process(container.0.id()).unwrap();
    let scratch = Scratch::new();
    let hidden = scratch.path().parent().unwrap();
    let cover = || nix::mount::mount(Some("body"), hidden, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>);
    view.run(cover).unwrap().unwrap();
    let begins = in_directory(scratch.path(), || view.run(std::env::current_dir).unwrap().unwrap());
    assert_eq!(begins, Path::new("/"));
}

/// What is missing is looked for in the view, and not at home.
#[test]
fn a_command_that_cannot_be_started_says_what_is_missing_in_the_view() {
    let at_home = Scratch::new();
    let container = Container::start("commands");
    let view = View::of_process(&container.0).unwrap();
    let in_the_view = format!("/mnt/only-{}", std::process::id());
    view.run(|| fs::create_dir(&in_the_view)).unwrap().unwrap();
    view.run(|| mount(Some("none"), std::env::temp_dir().as_path(), Some("tmpfs"), MsFlags::empty(), None::<&str>))
        .unwrap()
        .unwrap();
    let message = |program: &str, directory: &Path| {
        let error = view.command(program).current_dir(directory).spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        error.to_string()
    };
    let said = message("/no/such/program", Path::new(&in_the_view));
    assert!(said.contains("no such program"), "{said}");
    let said = message("true", at_home.path());
    assert!(said.contains(&format!("the working directory {} does not exist", at_home.path().display())), "{said}");
    assert!(view.command("true").current_dir(&in_the_view).status().unwrap().success());
    // A path that is relative begins where the process would.
    let said = in_directory(Path::new("/"), || message("/no/such/program", Path::new(&in_the_view[1..])));
    assert!(said.contains("no such program"), "{said}");
}

#[test]
fn a_view_outlives_its_process() {
    let mut container = Container::start("outlived");
    let view = View::of_process(&container.0).unwrap();
    let pidfd = pidfd_of(&container.0);
    let id = container.0.id();
    container.end();
    assert_eq!(view.run(|| fs::read_to_string("/mnt/file").unwrap()).unwrap(), "outlived\n");
    assert_eq!(view.run(hostname).unwrap(), "outlived");
    // And a process that has exited has none.
    for error in [View::of_process(&pidfd).unwrap_err(), View::of_process(id).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    let error = View::of_process(OwnedFd::from(fs::File::open("/dev/null").unwrap())).unwrap_err();
    assert!(error.kind() == ErrorKind::NotANetNs && error.to_string().contains("not one of a process"), "{error}");
}

const ASYNC_KINDS: [&str; 3] = ["mnt", "net", "uts"];

/// Checks where the thread of an async call is, and one that it starts for blocking closures. A view without `/proc`
/// does not show it: both threads wait until they were looked at from outside.
async fn every_thread_of_an_async_call_is_in(view: &View, expected: &[PathBuf; 3]) {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let look = |tell: &tokio::sync::mpsc::UnboundedSender<_>| {
        tell.send((tid(), Path::new("/mnt/file").exists())).unwrap();
    };
    let call = view.spawn_async(move || async move {
        look(&tell);
        let blocking = move || {
            look(&tell);
            wait.recv().unwrap();
        };
        tokio::task::spawn_blocking(blocking).await.unwrap();
    });
    for what in ["the call's own thread", "the one for blocking closures"] {
        let Some((thread, has_file)) = told.recv().await else { break };
        assert!(has_file, "{what}");
        let of_thread = |kind: &str| fs::read_link(format!("/proc/self/task/{thread}/ns/{kind}")).unwrap();
        assert_eq!(&ASYNC_KINDS.map(of_thread), expected, "{what}");
    }
    let _ = go_on.send(());
    call.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_call_works_where_the_process_has_another_proc_or_none() {
    // In a user namespace the kernel refuses a new /proc and to unmount that of the parent, as it does here.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if !map.contains("4294967295") {
        return;
    }
    let make = "mount -t tmpfs tmpfs /mnt && touch /mnt/file";
    let own = ["--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let with_own_proc = Container::run(&own, &format!("{make} && echo ready && cat"));
    let without_proc = Container::run(&own[..3], &format!("{make} && umount -l /proc && echo ready && cat"));
    for process in [with_own_proc.child(), without_proc.0.id()] {
        let view = View::of_process(process).unwrap();
        let expected = ASYNC_KINDS.map(|kind| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap());
        assert!(!view.run(|| Path::new("/proc/thread-self").exists()).unwrap());
        every_thread_of_an_async_call_is_in(&view, &expected).await;
        let borrowed = view.run_async(|| async { fs::read("/mnt/file").unwrap() });
        assert_eq!(borrowed.await.unwrap(), b"");
    }
}

#[test]
fn nothing_is_left_of_it() {
    let _alone = alone();
    let container = Container::start("left");
    View::of_process(&container.0).unwrap().run(|| ()).unwrap();
    let before = descriptors().len();
    for _ in 0..200 {
        let view = View::of_process(&container.0).unwrap();
        view.run(hostname).unwrap();
    }
    // Other tests have some of their own meanwhile.
    assert!(descriptors().len() < before + 100);
    let inside = container.namespace("mnt");
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let here = threads.filter(|thread| fs::read_link(thread.path().join("ns/mnt")).is_ok_and(|at| at == inside));
    assert_eq!(here.count(), 0);
}

/// `/etc/nsswitch.conf` of this process names the modules; the files of a container must not be what is loaded.
#[test]
fn modules_for_names_are_those_of_home() {
    if !cfg!(target_env = "gnu") {
        return;
    }
    let container = Container::start("modules");
    let services = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let hosts = services.lines().find_map(|line| line.strip_prefix("hosts:")).unwrap_or_default();
    let wanted = hosts.split_ascii_whitespace().filter(|service| !service.contains(['[', '=']));
    let path_of = |service: &str| format!("libnss_{service}.so.2");
    let installed = |name: &String| {
        ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib"]
            .into_iter()
            .any(|directory| Path::new(directory).join(name).exists())
    };
    let wanted: Vec<_> = wanted.map(path_of).filter(installed).collect();
    let view = View::of_process(&container.0).unwrap();
    let loaded = view.run(|| fs::read_to_string("/proc/self/maps").unwrap()).unwrap();
    for name in wanted {
        assert!(loaded.contains(&name), "{name} is not loaded before a body runs");
    }
}
