//! Every namespace that can be seen, however it is held; and the names as they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use in_netns::{ErrorKind, Found, Holder, Inventory, NetNs, NetNsId, Unseen, WatchEvent};
use in_netns_tests::{BOUND, Scratch, alone, descriptors, in_time, limited, wait_until};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;

fn find(inventory: &Inventory, id: NetNsId) -> &Found {
    inventory.namespaces.iter().find(|found| found.netns.id() == id).unwrap_or_else(|| panic!("{id} is not listed"))
}

#[test]
fn each_kind_of_namespace_is_found() {
    let _alone = alone();
    let scratch = Scratch::new();
    let me = std::process::id();
    let name = format!("in-netns-all-{me}");
    let named = NetNs::create_named(&name).unwrap().id();

    let ns = NetNs::new().unwrap();
    let mut child = ns.run(|| Command::new("cat").stdin(Stdio::piped()).spawn()).unwrap().unwrap();
    let of_process = ns.id();
    drop(ns);

    let ns = NetNs::new().unwrap();
    let descriptor = ns.as_fd().try_clone_to_owned().unwrap();
    let of_descriptor = ns.id();
    drop(ns);

    let ns = NetNs::new().unwrap();
    let point = scratch.path().join("with space");
    fs::write(&point, "").unwrap();
    let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
    mount(Some(source.as_str()), &point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let of_mount = ns.id();
    drop(ns);

    let ns = NetNs::new().unwrap();
    let socket = ns.run(|| std::net::UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    let of_socket = ns.id();
    drop(ns);

    let inventory = NetNs::all().unwrap();
    NetNs::delete_named(&name).unwrap();
    umount2(&point, MntFlags::MNT_DETACH).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let found = find(&inventory, named);
    assert!(found.names.iter().any(|path| path.ends_with(&name)) && found.processes.is_empty(), "{found:?}");
    assert!(found.holders.iter().any(|holder| matches!(holder, Holder::Name { name: its, .. } if *its == name)));
    assert_eq!(find(&inventory, of_process).processes, [child.id()]);
    let found = find(&inventory, of_descriptor);
    let text = format!("descriptor {} of process {me}", descriptor.as_raw_fd());
    assert_eq!(found.holders.iter().map(Holder::to_string).collect::<Vec<_>>(), [text]);
    assert_eq!(find(&inventory, of_mount).names, [point]);
    let found = find(&inventory, of_socket);
    assert!(matches!(found.holders[..], [Holder::Socket { .. }]), "{found:?}");
    let home = find(&inventory, NetNs::current().unwrap().id());
    assert!(home.processes.contains(&me));
    for found in &inventory.namespaces {
        assert_eq!(found.cookie, found.netns.cookie());
    }
    let ids: Vec<_> = inventory.namespaces.iter().map(|found| found.netns.id()).collect();
    assert!(ids.is_sorted() && ids.iter().collect::<BTreeSet<_>>().len() == ids.len());
    drop(socket);

    // The inventory does not list what it holds itself, and lets go of it.
    drop((inventory, descriptor));
    wait_until("they are gone", || {
        let inventory = NetNs::all().unwrap();
        let left = |id: NetNsId| inventory.namespaces.iter().any(|found| found.netns.id() == id);
        ![named, of_process, of_descriptor, of_mount, of_socket].into_iter().any(left)
    });
}

/// A mount that is gone between the look at the mount table and the look at the mount is none that cannot be looked at.
#[test]
fn a_mount_that_goes_meanwhile_is_not_listed_as_unseen() {
    let _alone = alone();
    let scratch = Scratch::new();
    // Held by a process, which is looked at after the mounts of this one.
    let ns = NetNs::new().unwrap();
    let mut child = ns.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    drop(ns);
    let points: Vec<_> = (0..20).map(|number| scratch.path().join(number.to_string())).collect();
    let source = format!("/proc/{}/ns/net", child.id());
    let ended = AtomicBool::new(false);
    let (me, ours) = (std::process::id(), scratch.path().display().to_string());
    let unseen = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for point in &points {
                    fs::write(point, "").unwrap();
                    mount(Some(source.as_str()), point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
                }
                for point in &points {
                    umount2(point, MntFlags::MNT_DETACH).unwrap();
                }
            }
        });
        // A named namespace of the host is covered where the tests have a directory of names of their own.
        let is_ours = |unseen: &Unseen| unseen.process == me && unseen.error.to_string().contains(&ours);
        let found = (0..100).flat_map(|_| NetNs::all().unwrap().unseen).find(is_ours);
        ended.store(true, Ordering::Relaxed);
        found
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(unseen.is_none(), "{unseen:?}");
}

/// A mount that another one covers, or whose directory one covers, is still there. Each is listed: a process may have
/// others, such as the names of the host where the tests have a directory of names of their own.
#[test]
fn mounts_that_are_covered_are_listed_as_unseen() {
    let _alone = alone();
    for directory in [false, true] {
        let scratch = Scratch::new();
        let parent = scratch.path().join("parent");
        fs::create_dir(&parent).unwrap();
        let points = [parent.join("one"), parent.join("other")];
        let ns = NetNs::new().unwrap();
        let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
        for point in &points {
            fs::write(point, "").unwrap();
            mount(Some(source.as_str()), point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        }
        drop(ns);
        if directory {
            mount_at(parent.to_str().unwrap());
        } else {
            for point in &points {
                mount(Some("/etc/hosts"), point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            }
        }
        let inventory = NetNs::all().unwrap();
        let covers = if directory { &[parent.clone()][..] } else { &points };
        for point in covers.iter().chain(&points) {
            umount2(point, MntFlags::MNT_DETACH).unwrap();
        }
        let unseen = inventory.unseen.iter().filter(|unseen| unseen.process == std::process::id());
        let messages: Vec<_> = unseen.map(|unseen| unseen.error.to_string()).collect();
        for point in &points {
            let is_of_point = |message: &&String| message.contains(point.to_str().unwrap());
            let message = messages.iter().find(is_of_point).unwrap_or_else(|| panic!("{messages:?}"));
            assert!(message.contains("another mount covers it"), "{message}");
        }
    }
}

/// As in a process that has entered a mount namespace with a `/run/netns` of its own, which covers that of the host.
#[test]
fn the_time_of_a_list_does_not_multiply_the_covered_mounts_with_the_mounts() {
    const MOUNTS: u64 = 100;
    let _alone = alone();
    let scratch = Scratch::new();
    let parent = scratch.path().join("parent");
    fs::create_dir(&parent).unwrap();
    let points: Vec<_> = (0..MOUNTS).map(|number| parent.join(number.to_string())).collect();
    for point in &points {
        fs::write(point, "").unwrap();
        let ns = NetNs::new().unwrap();
        let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
        mount(Some(source.as_str()), point, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
    let read_by_a_list = || {
        let before = bytes_read();
        let _ = NetNs::all().unwrap();
        bytes_read() - before
    };
    let shown = read_by_a_list();
    let table = fs::read("/proc/thread-self/mountinfo").unwrap().len() as u64;
    mount_at(parent.to_str().unwrap());
    let covered = read_by_a_list();
    umount2(&parent, MntFlags::MNT_DETACH).unwrap();
    for point in &points {
        umount2(point, MntFlags::MNT_DETACH).unwrap();
    }
    assert!(covered < shown + MOUNTS / 2 * table, "{covered} bytes, {shown} without the cover, a table has {table}");
}

/// What the calling thread has read.
fn bytes_read() -> u64 {
    let counters = fs::read_to_string("/proc/thread-self/io").unwrap();
    let read = counters.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

/// Without room for all, there is an error and no part of a list.
#[test]
fn more_namespaces_than_descriptors_are_an_error() {
    let _alone = alone();
    let held: Vec<_> = (0..40).map(|_| NetNs::new().unwrap()).collect();
    let open = descriptors().len();
    let error = {
        let room = u64::try_from(open + 16).unwrap();
        let _limited = limited(nix::sys::resource::Resource::RLIMIT_NOFILE, room);
        NetNs::all().unwrap_err()
    };
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(NetNs::all().unwrap().namespaces.len() > held.len());
}

/// The changes of names that begin with `prefix`, from what is there to `until`.
fn changes_until(watch: &mut in_netns::Watch, prefix: &str, until: &str) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    loop {
        let event = watch.next_within(BOUND).unwrap().unwrap_or_else(|| panic!("{until} was not told of: {events:?}"));
        match &event {
            WatchEvent::Created { name, .. } if name == until => return events,
            WatchEvent::Created { name, .. } | WatchEvent::Deleted { name, .. } if name.starts_with(prefix) => {
                events.push(event);
            }
            _ => {}
        }
    }
}

#[test]
fn names_are_told_when_their_namespace_can_be_opened() {
    let _alone = alone();
    let prefix = format!("in-netns-watch-{}-", std::process::id());
    let [first, second, file, last] = ["first", "second", "file", "last"].map(|what| format!("{prefix}{what}"));
    let before = NetNs::create_named(&first).unwrap();
    let (names, mut watch) = NetNs::watch().unwrap();
    assert!(names.contains(&(first.clone(), before.clone())));
    assert!(!matches!(watch.try_next(), Ok(Some(WatchEvent::Created { name, .. })) if name == first));

    // An empty file is no name, though it is what `inotify` tells of.
    fs::write(format!("/run/netns/{file}"), "").unwrap();
    let created = NetNs::create_named(&second).unwrap();
    let mut watched = changes_until(&mut watch, &second, &second);
    assert_eq!(watched, []);
    // Another namespace under the same name.
    NetNs::delete_named(&first).unwrap();
    let again = NetNs::create_named(&first).unwrap();
    NetNs::delete_named(&second).unwrap();
    let end = NetNs::create_named(&last).unwrap();
    watched.extend(changes_until(&mut watch, &prefix, &last));
    let told: Vec<(String, Option<NetNs>)> = watched
        .into_iter()
        .map(|event| match event {
            WatchEvent::Created { name, netns, .. } => (name, Some(netns)),
            WatchEvent::Deleted { name, .. } => (name, None),
            other => panic!("{other:?}"),
        })
        .collect();
    let of =
        |which: &str| told.iter().filter(|(name, _)| name == which).map(|(_, netns)| netns.clone()).collect::<Vec<_>>();
    assert_eq!(of(&first), [None, Some(again)]);
    assert_eq!(of(&second), [None]);
    assert_eq!(of(&file), []);
    assert_ne!(before, created);

    // Under another name.
    end.persist(&second).unwrap();
    NetNs::delete_named(&last).unwrap();
    let renamed = loop {
        match watch.next_within(BOUND).unwrap().expect("it is told of") {
            WatchEvent::Renamed { from, to, netns, .. } if from == last => break (to, netns),
            other => assert!(!format!("{other:?}").contains(&prefix), "{other:?}"),
        }
    };
    assert_eq!(renamed, (second.clone(), end));
    for name in [&first, &second, &file] {
        NetNs::delete_named(name).unwrap();
    }
}

/// Three threads add and delete, and the watch begins in the middle: the list and the events lead to what there is.
#[test]
fn nothing_is_missed_between_the_list_and_the_watch() {
    let _alone = alone();
    let prefix = format!("in-netns-busy-{}-", std::process::id());
    let last = format!("{prefix}last");
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let prefix = &prefix;
                scope.spawn(move || {
                    for number in 0..100 {
                        let name = format!("{prefix}{worker}-{}", number % 5);
                        if number % 10 < 5 {
                            NetNs::create_named(&name).unwrap();
                        } else {
                            NetNs::delete_named(&name).unwrap();
                        }
                    }
                    // One of each is left.
                    NetNs::create_named(&format!("{prefix}{worker}-left")).unwrap();
                })
            })
            .collect();
        let (names, mut watch) = NetNs::watch().unwrap();
        let mut known: BTreeMap<String, NetNs> =
            names.into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
        for worker in workers {
            worker.join().unwrap();
        }
        NetNs::create_named(&last).unwrap();
        for event in changes_until(&mut watch, &prefix, &last) {
            match event {
                WatchEvent::Created { name, netns, .. } => {
                    assert!(netns.run(|| netns.is_current()).unwrap().unwrap());
                    assert!(known.insert(name, netns).is_none());
                }
                WatchEvent::Deleted { name, .. } => assert!(known.remove(&name).is_some(), "{name}"),
                other => panic!("{other:?}"),
            }
        }
        let there: BTreeMap<String, NetNs> = NetNs::list_named()
            .unwrap()
            .into_iter()
            .filter(|name| name.starts_with(&prefix) && *name != last)
            .map(|name| (name.clone(), NetNs::from_name(&name).unwrap()))
            .collect();
        assert_eq!(known, there);
        assert_eq!(there.len(), 3);
        there.keys().chain([&last]).for_each(|name| NetNs::delete_named(name).unwrap());
    });
}

/// The next change of names that begin with `prefix`, as text and with the namespace.
fn change(watch: &mut in_netns::Watch, prefix: &str) -> (String, Option<NetNs>) {
    loop {
        let event = watch.next_within(BOUND).unwrap().unwrap_or_else(|| panic!("nothing is told of {prefix}"));
        let (name, text, netns) = match event {
            WatchEvent::Created { name, netns, .. } => (name.clone(), format!("created {name}"), Some(netns)),
            WatchEvent::Deleted { name, .. } => (name.clone(), format!("deleted {name}"), None),
            WatchEvent::Renamed { from, to, netns, .. } => (from.clone(), format!("renamed {from} {to}"), Some(netns)),
            other => panic!("{other:?}"),
        };
        if name.starts_with(prefix) {
            return (text, netns);
        }
    }
}

/// The next change of names that begin with `prefix`. `make` is called while it is waited for: a change before that is
/// found without a report of the kernel.
fn change_while_waiting(
    watch: &mut in_netns::Watch,
    prefix: &str,
    make: impl FnOnce() + Send,
) -> (String, Option<NetNs>) {
    std::thread::scope(|scope| {
        let waiting = nix::unistd::gettid();
        scope.spawn(move || {
            wait_until_it_sleeps(waiting);
            make();
        });
        change(watch, prefix)
    })
}

/// Until a thread of this process has slept for a while, as it does while it waits for a change.
fn wait_until_it_sleeps(thread: Pid) {
    let state = || fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let mut before = String::new();
    wait_until("it waits", || {
        std::thread::sleep(Duration::from_millis(20));
        let now = state();
        // The line has the time that the thread has run, in clock ticks.
        let sleeps = now.contains(") S ") && now == before;
        before = now;
        sleeps
    });
}

/// Leaves a few descriptors to the process, until the result is dropped.
fn few_descriptors() -> impl Drop {
    let taken: Vec<fs::File> = (0..12).map(|_| fs::File::open("/").unwrap()).collect();
    let highest = taken.iter().map(|file| file.as_raw_fd().unsigned_abs()).max().unwrap();
    limited(Resource::RLIMIT_NOFILE, u64::from(highest) + 1)
}

/// A watch needs a few descriptors, whatever the number of names: those of events that the caller has not dropped, too.
#[test]
fn a_watch_reports_more_names_than_there_are_descriptors() {
    const NAMES: usize = 60;
    let _alone = alone();
    let prefix = format!("in-netns-many-{}-", std::process::id());
    let names: Vec<String> = (0..NAMES).map(|number| format!("{prefix}{number:02}")).collect();
    let _deleted = scopeguard::guard(names.clone(), |names| {
        for name in names {
            let _ = NetNs::delete_named(&name);
        }
    });
    let ns = NetNs::new().unwrap();
    ns.persist(&names[0]).unwrap();
    let (listed, mut watch) = NetNs::watch().unwrap();
    drop(listed);
    for name in &names[1..] {
        ns.persist(name).unwrap();
    }
    let limit = few_descriptors();
    let created: Vec<String> = (1..NAMES).map(|_| change(&mut watch, &prefix).0).collect();
    assert_eq!(created, names[1..].iter().map(|name| format!("created {name}")).collect::<Vec<_>>());
    // With all names known.
    NetNs::delete_named(&names[7]).unwrap();
    assert_eq!(change(&mut watch, &prefix).0, format!("deleted {}", names[7]));
    for name in &names {
        let _ = NetNs::delete_named(name);
    }
    while watch.try_next().unwrap().is_some() {}
    // Events that are kept take a descriptor each. While none is left, the next one is an error, and it is not lost.
    drop(limit);
    for name in &names {
        ns.persist(name).unwrap();
    }
    let limit = few_descriptors();
    let mut kept = Vec::new();
    let error = loop {
        match watch.try_next() {
            Ok(event) => kept.push(event.unwrap_or_else(|| panic!("{} events", kept.len()))),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    drop(limit);
    kept.extend(std::iter::from_fn(|| watch.try_next().unwrap()));
    let created = |event: WatchEvent| match event {
        WatchEvent::Created { name, .. } => Some(name).filter(|name| name.starts_with(&prefix)),
        _ => None,
    };
    assert_eq!(kept.into_iter().filter_map(created).collect::<Vec<_>>(), names);
}

/// `ln -s /proc/PID/ns/net /run/netns/NAME`: no mount comes or goes.
#[test]
fn names_that_are_links_are_told() {
    let _alone = alone();
    let prefix = format!("in-netns-link-{}-", std::process::id());
    let [kept, link, moved] = ["kept", "link", "moved"].map(|what| format!("{prefix}{what}"));
    let path = |name: &str| format!("/run/netns/{name}");
    let ns = NetNs::new().unwrap();
    let mut child = ns.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    // So that the directory is there.
    NetNs::create_named(&kept).unwrap();
    let (_, mut watch) = NetNs::watch().unwrap();
    let id = child.id();
    let make = || std::os::unix::fs::symlink(format!("/proc/{id}/ns/net"), path(&link)).unwrap();
    // A link that stays would lead nowhere, for all that look at names.
    let _removed = scopeguard::guard([path(&link), path(&moved)], |links| {
        for link in links {
            let _ = fs::remove_file(link);
        }
        let _ = NetNs::delete_named(&kept);
    });

    let created = change_while_waiting(&mut watch, &prefix, make);
    assert_eq!(created, (format!("created {link}"), Some(ns.clone())));
    let renamed = change_while_waiting(&mut watch, &prefix, || fs::rename(path(&link), path(&moved)).unwrap());
    assert_eq!(renamed, (format!("renamed {link} {moved}"), Some(ns.clone())));
    let deleted = change_while_waiting(&mut watch, &prefix, || fs::remove_file(path(&moved)).unwrap());
    assert_eq!(deleted, (format!("deleted {moved}"), None));

    make();
    assert_eq!(change(&mut watch, &prefix).0, format!("created {link}"));
    // What was reported is reported once: a wait without changes sleeps.
    let used = || getrusage(UsageWho::RUSAGE_THREAD).map(|usage| usage.user_time() + usage.system_time()).unwrap();
    let before = used();
    while watch.next_within(Duration::from_millis(200)).unwrap().is_some() {}
    assert!((used() - before).num_milliseconds() < 100, "a wait is awake");

    // In async code.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let told = async {
            loop {
                match watch.next_async().await.unwrap() {
                    WatchEvent::Deleted { name, .. } if name == link => return,
                    _ => {}
                }
            }
        };
        let waiting = nix::unistd::gettid();
        let link = path(&link);
        let removed = tokio::task::spawn_blocking(move || {
            wait_until_it_sleeps(waiting);
            fs::remove_file(link).unwrap();
        });
        tokio::time::timeout(BOUND, async { tokio::join!(told, removed).1.unwrap() }).await.expect("it is told of");
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Has the calling thread see a `/run` that is empty, in a mount namespace of its own.
fn take_empty_run() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount_at("/run");
}

/// Mounts an empty directory.
fn mount_at(point: &str) {
    mount(Some("none"), point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

/// Runs a test on a thread with an empty `/run`, with a namespace and the path of the one that a process is in.
fn with_empty_run(test: impl FnOnce(&NetNs, &str) + Send) {
    let ns = NetNs::new().unwrap();
    let mut child = ns.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    let target = format!("/proc/{}/ns/net", child.id());
    let run = || {
        take_empty_run();
        test(&ns, &target);
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn links_that_lead_nowhere_are_no_names() {
    use std::os::unix::fs::symlink;
    let _alone = alone();
    with_empty_run(|ns, target| {
        fs::create_dir("/run/netns").unwrap();
        let links = ["loop".to_owned(), "missing".to_owned(), "/etc/passwd/below".to_owned(), "x".repeat(300)];
        for (number, link) in links.iter().enumerate() {
            let name = if link == "loop" { "loop".to_owned() } else { format!("link-{number}") };
            symlink(link, format!("/run/netns/{name}")).unwrap();
            assert_eq!(NetNs::from_name(&name).unwrap_err().kind(), ErrorKind::NotFound);
        }
        let (names, mut watch) = NetNs::watch().unwrap();
        assert_eq!(names, []);
        symlink("again", "/run/netns/again").unwrap();
        symlink(target, "/run/netns/name").unwrap();
        assert_eq!(change(&mut watch, ""), ("created name".into(), Some(ns.clone())));
    });
}

/// Names that take the place of others, between two looks.
#[test]
fn the_events_in_order_give_the_names_that_exist() {
    use std::os::unix::fs::symlink;
    let _alone = alone();
    let namespaces: Vec<_> = (0..3).map(|_| NetNs::new().unwrap()).collect();
    let targets: Vec<_> =
        namespaces.iter().map(|ns| format!("/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd())).collect();
    // The namespaces of the names `a`, `b`, `c` and `d`, before and after.
    let changes = [
        ([Some(0), Some(1), None, None], [Some(1), Some(0), None, None]),
        ([Some(0), Some(1), None, None], [None, Some(0), Some(1), None]),
        ([None, Some(0), Some(1), None], [Some(0), Some(1), None, None]),
        ([Some(0), Some(1), Some(2), None], [Some(1), Some(2), Some(0), None]),
        ([Some(0), Some(1), Some(2), None], [Some(2), Some(0), None, Some(1)]),
        ([Some(0), Some(0), Some(1), None], [Some(1), None, Some(0), Some(0)]),
        ([Some(0), Some(1), None, None], [None, Some(0), None, None]),
        ([Some(0), None, None, None], [None, None, None, Some(0)]),
    ];
    with_empty_run(|_, _| {
        fs::create_dir("/run/netns").unwrap();
        for (before, after) in changes {
            let link = |names: [Option<usize>; 4]| {
                for (name, at) in ["a", "b", "c", "d"].into_iter().zip(names) {
                    let path = format!("/run/netns/{name}");
                    let _ = fs::remove_file(&path);
                    if let Some(at) = at {
                        symlink(&targets[at], &path).unwrap();
                    }
                }
            };
            link(before);
            let (names, mut watch) = NetNs::watch().unwrap();
            link(after);
            let mut known: BTreeMap<String, NetNs> = names.into_iter().collect();
            let mut events = Vec::new();
            while let Some(event) = watch.try_next().unwrap() {
                events.push(event.clone());
                match event {
                    WatchEvent::Created { name, netns, .. } => {
                        assert_eq!(known.insert(name, netns), None, "{events:?}");
                    }
                    WatchEvent::Deleted { name, .. } => assert!(known.remove(&name).is_some(), "{events:?}"),
                    WatchEvent::Renamed { from, to, netns, .. } => {
                        assert_eq!(known.remove(&from), Some(netns.clone()), "{events:?}");
                        assert_eq!(known.insert(to, netns), None, "{events:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            let there: BTreeMap<String, NetNs> = NetNs::watch().unwrap().0.into_iter().collect();
            assert_eq!(known, there, "{events:?}");
        }
    });
}

#[test]
fn a_directory_of_names_that_is_mounted_later_and_goes_again_is_watched() {
    let _alone = alone();
    with_empty_run(|ns, target| {
        let (names, mut watch) = NetNs::watch().unwrap();
        assert_eq!(names, []);
        fs::create_dir("/run/netns").unwrap();
        mount_at("/run/netns");
        assert_eq!(watch.try_next().unwrap(), None);
        let make = || std::os::unix::fs::symlink(target, "/run/netns/link").unwrap();
        assert_eq!(change_while_waiting(&mut watch, "link", make), ("created link".into(), Some(ns.clone())));
        // What is mounted over it hides the name.
        mount_at("/run/netns");
        assert_eq!(change(&mut watch, "link"), ("deleted link".into(), None));
        assert_eq!(change_while_waiting(&mut watch, "link", make), ("created link".into(), Some(ns.clone())));
        umount2("/run/netns", MntFlags::MNT_DETACH).unwrap();
        umount2("/run/netns", MntFlags::MNT_DETACH).unwrap();
        assert_eq!(change(&mut watch, "link"), ("deleted link".into(), None));
        fs::remove_dir("/run/netns").unwrap();
        assert_eq!(watch.try_next().unwrap(), None);
    });
}

/// A descriptor to wait on, with other things.
#[test]
fn a_watch_can_be_waited_for_with_poll() {
    use nix::poll::{PollFd, PollFlags, poll};
    let _alone = alone();
    let name = format!("in-netns-polled-{}", std::process::id());
    let (_, mut watch) = NetNs::watch().unwrap();
    while watch.next_within(Duration::ZERO).unwrap().is_some() {}
    NetNs::create_named(&name).unwrap();
    let mut told = false;
    while !told {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLPRI)];
        assert_eq!(poll(&mut fds, u16::try_from(BOUND.as_millis()).unwrap()).unwrap(), 1);
        while let Some(event) = watch.try_next().unwrap() {
            told |= matches!(event, WatchEvent::Created { name: its, .. } if its == name);
        }
    }
    NetNs::delete_named(&name).unwrap();
}

/// Waits in the reactor of tokio, on another thread's changes; and goes on in another runtime.
#[test]
fn a_watch_is_a_stream() {
    use futures::{Stream, StreamExt};
    fn is_stream<S: Stream<Item = Result<WatchEvent, in_netns::Error>> + Unpin + Send>(_: &S) {}
    let _alone = alone();
    let (_, mut watch) = NetNs::watch().unwrap();
    is_stream(&watch);
    for round in 0..3 {
        let name = format!("in-netns-stream-{}-{round}", std::process::id());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let told = async {
                loop {
                    let event = match round {
                        0 => watch.next_async().await,
                        _ => StreamExt::next(&mut watch).await.unwrap(),
                    };
                    match event.unwrap() {
                        WatchEvent::Created { name: its, netns, .. } if its == name => break netns,
                        other => drop(other),
                    }
                }
            };
            let created = async {
                // The other branch waits by then.
                tokio::task::yield_now().await;
                tokio::task::spawn_blocking({
                    let name = name.clone();
                    move || NetNs::create_named(&name).unwrap()
                })
                .await
                .unwrap()
            };
            let (told, created) =
                tokio::time::timeout(BOUND, async { tokio::join!(told, created) }).await.expect("it is told of");
            assert_eq!(told, created);
        });
        NetNs::delete_named(&name).unwrap();
    }
    let error = futures::executor::block_on(async {
        loop {
            match watch.next_async().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    });
    // The registration with the last runtime is of no use any more.
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_watch_on_a_runtime_that_was_shut_down_is_an_error_that_says_so() {
    let _alone = alone();
    let (_, mut watch) = NetNs::watch().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let error = loop {
        // The names of other programs may change.
        if let Err(error) = handle.block_on(watch.next_async()) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("shutdown"), "{error}");
}

/// The executor does not return to the task, which so gets no new budget.
#[test]
fn a_watch_reports_in_an_executor_inside_a_task_whose_budget_is_used_up() {
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    let _alone = alone();
    let name = format!("in-netns-budget-{}", std::process::id());
    let told = name.clone();
    in_time("the name is reported", move || {
        let (_, mut watch) = NetNs::watch().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The worker drives the runtime meanwhile.
        runtime.block_on(poll_fn(|cx| {
            while has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            let waiting = nix::unistd::gettid();
            let maker = std::thread::spawn({
                let name = name.clone();
                move || {
                    wait_until_it_sleeps(waiting);
                    NetNs::create_named(&name).unwrap()
                }
            });
            loop {
                match futures::executor::block_on(watch.next_async()).unwrap() {
                    WatchEvent::Created { name: its, .. } if its == name => break,
                    other => drop(other),
                }
            }
            maker.join().unwrap();
            Poll::Ready(())
        }));
    });
    NetNs::delete_named(&told).unwrap();
}

/// A runtime that nothing drives reports nothing.
#[test]
fn a_watch_goes_on_in_another_runtime_while_the_first_one_is_there() {
    const MOMENT: Duration = Duration::from_millis(100);
    let _alone = alone();
    let (_, mut watch) = NetNs::watch().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nothing happens, and nothing is left to be reported.
    let quiet = |runtime: &tokio::runtime::Runtime, watch: &mut in_netns::Watch| {
        runtime.block_on(async { while tokio::time::timeout(MOMENT, watch.next_async()).await.is_ok() {} });
    };
    let (first, second) = (runtime(), runtime());
    quiet(&first, &mut watch);
    quiet(&second, &mut watch);
    let name = format!("in-netns-runtimes-{}", std::process::id());
    for runtime in [&first, &second] {
        let maker = std::thread::spawn({
            let name = name.clone();
            move || {
                std::thread::sleep(MOMENT);
                NetNs::create_named(&name).unwrap()
            }
        });
        let told = async {
            loop {
                match watch.next_async().await.unwrap() {
                    WatchEvent::Created { name: its, .. } if its == name => break,
                    other => drop(other),
                }
            }
        };
        // The watch is not polled when the time is over.
        let in_time = runtime.block_on(async {
            tokio::select! {
                biased;
                () = tokio::time::sleep(20 * MOMENT) => false,
                () = told => true,
            }
        });
        maker.join().unwrap();
        NetNs::delete_named(&name).unwrap();
        assert!(in_time);
    }
}

/// Whether `ip` is here. The README promises that the tests do without it. `.ci/run` installs it.
fn has_ip() -> bool {
    match Command::new("ip").arg("-V").output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => false,
        output => output.unwrap().status.success(),
    }
}

/// Watches the directory, as watchers of other libraries do (nlink's `NamespaceWatcher`, pyroute2's `NetNS` manager).
fn inotify() -> Inotify {
    fs::create_dir_all("/run/netns").unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    inotify.add_watch("/run/netns", AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE).unwrap();
    inotify
}

/// The directory reports a name before its namespace is mounted. The watch reports it when the namespace can be opened.
#[test]
fn what_three_processes_add_and_delete_opens_when_it_is_told() {
    const EACH: usize = 334;
    let _alone = alone();
    if !has_ip() {
        return;
    }
    let prefix = format!("in-netns-three-{}-", std::process::id());
    let last = format!("{prefix}last");
    let inotify = inotify();
    let (names, mut watch) = NetNs::watch().unwrap();
    assert!(names.iter().all(|(name, _)| !name.starts_with(&prefix)));
    // A name is deleted two turns later, and used again after ten.
    let script = "n=0; while [ $n -lt $2 ]; do ip netns add $1$((n % 10)) || exit 1
        [ $n -lt 2 ] || ip netns del $1$(((n - 2) % 10)) || exit 1; n=$((n + 1)); done";
    let mut workers: Vec<_> = (0..3)
        .map(|worker| {
            let arguments = ["-c", script, "sh", &format!("{prefix}{worker}-"), &EACH.to_string()];
            Command::new("sh").args(arguments).spawn().unwrap()
        })
        .collect();

    let (mut told, mut known, mut too_early, mut in_time) = (0, BTreeMap::new(), 0, 0);
    let mut take = |event: WatchEvent, known: &mut BTreeMap<String, NetNs>| match event {
        WatchEvent::Created { name, netns, .. } if name.starts_with(&prefix) => {
            assert!(netns.run(|| netns.is_current()).unwrap().unwrap());
            // The removal of the previous one was reported.
            assert!(known.insert(name.clone(), netns).is_none(), "{name}");
            told += 1;
        }
        WatchEvent::Deleted { name, .. } if name.starts_with(&prefix) => {
            assert!(known.remove(&name).is_some(), "{name}");
        }
        WatchEvent::Renamed { .. } => panic!("{event:?}"),
        _ => {}
    };
    while workers.iter_mut().any(|worker| worker.try_wait().unwrap().is_none()) {
        match inotify.read_events() {
            Ok(events) => {
                let created = events.into_iter().filter(|event| event.mask.contains(AddWatchFlags::IN_CREATE));
                for name in created.filter_map(|event| event.name?.into_string().ok()) {
                    match NetNs::from_name(&name) {
                        Ok(_) => in_time += 1,
                        Err(error) if error.kind() == ErrorKind::NotANetNs => too_early += 1,
                        // Deleted again.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                    }
                }
            }
            Err(errno) => assert_eq!(errno, Errno::EAGAIN),
        }
        if let Some(event) = watch.next_within(Duration::from_millis(1)).unwrap() {
            take(event, &mut known);
        }
    }
    assert!(workers.iter_mut().all(|worker| worker.wait().unwrap().success()));
    NetNs::create_named(&last).unwrap();
    while !known.contains_key(&last) {
        take(watch.next_within(BOUND).unwrap().expect("the last one is told of"), &mut known);
    }
    let there = |name: &String| name.starts_with(&prefix);
    let there: BTreeMap<String, NetNs> = NetNs::list_named()
        .unwrap()
        .into_iter()
        .filter(there)
        .map(|name| (name.clone(), NetNs::from_name(&name).unwrap()))
        .collect();
    assert_eq!(known, there);
    assert_eq!(there.len(), 3 * 2 + 1);
    for name in there.keys() {
        NetNs::delete_named(name).unwrap();
    }
    assert!(told > EACH, "{told} of {}", 3 * EACH);
    // The counterexample.
    assert!(too_early > 0, "the directory told of {in_time} names when they could be opened");
}

/// A queue of events would be full. There is none: the names are compared.
#[test]
fn more_changes_than_a_queue_holds_are_told_as_what_there_is() {
    let _alone = alone();
    let prefix = format!("in-netns-many-{}-", std::process::id());
    let [old, new] = ["old", "new"].map(|what| format!("{prefix}{what}"));
    NetNs::create_named(&old).unwrap();
    let inotify = inotify();
    let (_, mut watch) = NetNs::watch().unwrap();

    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let file = format!("/run/netns/{prefix}file");
    for _ in 0..=limit / 2 {
        fs::write(&file, "").unwrap();
        fs::remove_file(&file).unwrap();
    }
    // And as many changes of the mount table as fit in a moment.
    for _ in 0..100 {
        NetNs::current().unwrap().persist(&new).unwrap();
        NetNs::delete_named(&new).unwrap();
    }
    NetNs::delete_named(&old).unwrap();
    let created = NetNs::create_named(&new).unwrap();

    // The counterexample has lost events. (Its queue is read to the end.)
    let mut is_overflow = false;
    while let Ok(events) = inotify.read_events() {
        is_overflow |= events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
    }
    assert!(is_overflow);
    let mut told = Vec::new();
    while let Some(event) = watch.try_next().unwrap() {
        match event {
            WatchEvent::Created { name, netns, .. } if name.starts_with(&prefix) => told.push((name, Some(netns))),
            WatchEvent::Deleted { name, .. } if name.starts_with(&prefix) => told.push((name, None)),
            _ => {}
        }
    }
    NetNs::delete_named(&new).unwrap();
    assert_eq!(told, [(old, None), (new, Some(created))]);
}
