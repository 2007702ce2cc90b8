//! What a namespace is known by, and remembered by: its cookie, its file handle, its names, and its end.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use in_netns::{ErrorKind, NetNs, WeakNetNs, with_netns};
use in_netns_tests::{Scratch, alone, as_ordinary_user, descriptors, output_of, separate, wait_until};

/// `SO_NETNS_COOKIE` of a socket that is made where the calling thread is.
#[allow(unsafe_code)]
fn socket_cookie() -> u64 {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut cookie, mut length) = (0_u64, libc::socklen_t::try_from(size_of::<u64>()).unwrap());
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the local.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    cookie
}

#[test]
fn the_cookie_is_the_one_of_sockets() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert_eq!(ns.cookie(), Some(ns.run(socket_cookie).unwrap()));
    assert_eq!(NetNs::current().unwrap().cookie(), Some(socket_cookie()));
    assert_ne!(ns.cookie(), NetNs::new().unwrap().cookie());
}

/// The kernel gives an inode number to another namespace soon; a cookie and a weak handle are of the first one for
/// ever.
#[test]
fn an_inode_number_that_is_used_again_is_not_taken_for_the_first_namespace() {
    let _alone = alone();
    let mut seen: HashMap<u64, (u64, WeakNetNs)> = HashMap::new();
    let mut repeated = 0;
    let start = Instant::now();
    while repeated < 3 {
        let ns = NetNs::new().unwrap();
        let (inode, cookie, weak) = (ns.id().inode(), ns.cookie().unwrap(), ns.downgrade().unwrap());
        if let Some((other_cookie, other)) = seen.insert(inode, (cookie, weak)) {
            assert_ne!(cookie, other_cookie);
            assert_ne!(weak, other);
            assert_eq!(other.upgrade().unwrap(), None);
            assert_eq!(weak.upgrade().unwrap(), Some(ns.clone()));
            repeated += 1;
        }
        assert!(ns.wait_until_gone(Duration::from_secs(20)).unwrap());
        assert!(start.elapsed() < Duration::from_secs(60), "no inode number was used again");
    }
}

/// The last bytes tell the user namespace of the maker.
#[test]
fn weak_handles_are_equal_wherever_they_were_made() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let here = ns.downgrade().unwrap();
    let mut bytes = here.to_bytes();
    bytes[32..].fill(7);
    let elsewhere = WeakNetNs::from_bytes(bytes);
    assert_eq!(elsewhere.upgrade().unwrap(), Some(ns));
    assert_eq!(here, elsewhere);
    assert_eq!(HashSet::from([here, elsewhere]).len(), 1);
}

#[test]
fn a_weak_handle_holds_neither_a_descriptor_nor_the_namespace() {
    let _alone = alone();
    let spaces: Vec<_> = (0..20).map(|_| NetNs::new().unwrap()).collect();
    let open = descriptors().len();
    let weak: Vec<WeakNetNs> = spaces.iter().cycle().take(10_000).map(|ns| ns.downgrade().unwrap()).collect();
    // Other tests open some meanwhile.
    assert!(descriptors().len() < open + 1_000);
    let distinct: HashSet<WeakNetNs> = weak.iter().copied().collect();
    assert_eq!(distinct.len(), 20);
    for (ns, weak) in spaces.iter().cycle().zip(&weak) {
        assert_eq!(weak.upgrade().unwrap().as_ref(), Some(ns));
        assert_eq!(Some(weak.cookie()), ns.cookie());
    }
    for ns in spaces {
        assert!(ns.wait_until_gone(Duration::from_secs(20)).unwrap());
    }
    assert!(weak.iter().all(|weak| weak.upgrade().unwrap().is_none()));
}

#[test]
fn a_weak_handle_can_be_stored_and_what_is_no_handle_leads_nowhere() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let bytes = ns.downgrade().unwrap().to_bytes();
    assert_eq!(WeakNetNs::from_bytes(bytes).upgrade().unwrap(), Some(ns.clone()));
    assert_eq!(WeakNetNs::from_bytes(bytes).to_bytes(), bytes);
    // Of another start of the machine, of another namespace, of nothing.
    for at in [0, 7, 12, 31] {
        let mut other = bytes;
        other[at] ^= 0x40;
        assert_eq!(WeakNetNs::from_bytes(other).upgrade().unwrap(), None, "{at}");
    }
    assert_eq!(WeakNetNs::from_bytes([0; WeakNetNs::BYTES]).upgrade().unwrap(), None);
    assert_eq!(WeakNetNs::from_bytes([0xff; WeakNetNs::BYTES]).upgrade().unwrap(), None);
    // A namespace of another kind is no network namespace: here, the type in the handle says mount namespace.
    let mut mount = bytes;
    mount[8..12].copy_from_slice(&libc::CLONE_NEWNS.to_ne_bytes());
    assert!(!matches!(WeakNetNs::from_bytes(mount).upgrade(), Ok(Some(_))));
}

/// A handle is no way round the permission that it takes to open a namespace.
#[test]
fn a_weak_handle_of_anothers_namespace_is_denied() {
    let _alone = alone();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if !nix::unistd::geteuid().is_root() || !map.split_whitespace().eq(["0", "0", "4294967295"]) {
        eprintln!("left out: it takes a second user, and so root of the initial user namespace");
        return;
    }
    let scratch = Scratch::new();
    let ns = NetNs::new().unwrap();
    let hex = ns.downgrade().unwrap().to_bytes().map(|byte| format!("{byte:02x}")).concat();
    let output = output_of(as_ordinary_user(separate!("upgrades", scratch).arg(hex)));
    assert!(output.starts_with("PermissionDenied ") && output.contains("CAP_SYS_ADMIN"), "{output}");
}

#[test]
fn the_id_in_another_namespace_is_the_kernels() {
    let _alone = alone();
    let (one, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    assert_eq!(other.nsid().unwrap(), None);
    let set = |id: &str| {
        let fd = format!("/proc/{}/fd/{}", std::process::id(), other.as_fd().as_raw_fd());
        // `ip netns set` takes names alone; a link into the other namespace has the kernel give an id.
        Command::new("ip").args(["link", "add", id, "type", "veth", "peer", "name", "peer", "netns", &fd]).output()
    };
    match with_netns(&one, || set("veth0")).unwrap() {
        Ok(output) if output.status.success() => {}
        // The README promises that the tests do without it. `.ci/run` installs it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => return,
        other => panic!("{other:?}"),
    }
    assert_eq!(one.run(|| other.nsid()).unwrap().unwrap(), Some(0));
    assert_eq!(one.run(|| one.nsid()).unwrap().unwrap(), None);
}

#[test]
fn the_names_of_a_namespace() {
    let _alone = alone();
    let scratch = Scratch::new();
    let name = format!("in-netns-names-{}", std::process::id());
    let ns = NetNs::new().unwrap();
    assert_eq!(ns.names().unwrap(), [""; 0].map(std::path::PathBuf::from));
    ns.persist(&name).unwrap();
    assert_eq!(ns.persist(&name).unwrap_err().kind(), ErrorKind::AlreadyExists);
    ns.persist(&format!("{name}-2")).unwrap();
    let elsewhere = scratch.path().join("with space");
    fs::write(&elsewhere, "").unwrap();
    let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(source.as_str()), &elsewhere, None::<&str>, bind, None::<&str>).unwrap();
    let names = ns.names().unwrap();
    nix::mount::umount2(&elsewhere, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let in_run = [format!("/run/netns/{name}"), format!("/run/netns/{name}-2")].map(std::path::PathBuf::from);
    assert!(in_run.iter().all(|path| names.contains(path)) && names.contains(&elsewhere), "{names:?}");
    assert_eq!(names.len(), 3, "{names:?}");

    // The namespace stays while it has a name.
    let weak = ns.downgrade().unwrap();
    drop(ns);
    assert_eq!(weak.upgrade().unwrap(), Some(NetNs::from_name(&name).unwrap()));
    NetNs::delete_named(&name).unwrap();
    NetNs::delete_named(&format!("{name}-2")).unwrap();
    wait_until("it is gone", || weak.upgrade().unwrap().is_none());
}

#[test]
fn names_in_a_directory_of_ones_own() {
    let _alone = alone();
    let scratch = Scratch::new();
    let directory = scratch.path().join("sandboxes");
    let names = in_netns::Names::at(&directory);
    assert_eq!(names.list().unwrap(), [""; 0]);
    assert_eq!(names.open("blue").unwrap_err().kind(), ErrorKind::NotFound);
    let blue = names.create("blue").unwrap();
    let red = names.create("red").unwrap();
    assert_eq!(names.list().unwrap(), ["blue", "red"]);
    assert_eq!((names.open("blue").unwrap(), names.open("red").unwrap()), (blue.clone(), red));
    assert_eq!(names.create("blue").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(with_netns(directory.join("blue"), || blue.is_current()).unwrap().unwrap());
    for bad in ["", ".", "..", "a/b", "nul\0"] {
        assert_eq!(names.create(bad).unwrap_err().kind(), ErrorKind::InvalidName);
        assert_eq!(names.delete(bad).unwrap_err().kind(), ErrorKind::InvalidName);
        assert_eq!(names.open(bad).unwrap_err().kind(), ErrorKind::InvalidName);
    }
    assert!(!NetNs::list_named().unwrap().contains(&"blue".to_owned()));
    names.delete("blue").unwrap();
    names.delete("red").unwrap();
    assert_eq!(names.delete("red").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names.list().unwrap(), [""; 0]);
    nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let missing = in_netns::Names::at(scratch.path().join("no/such"));
    assert_eq!(missing.create("x").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_missing_in_a_directory_of_ones_own_is_named() {
    let scratch = Scratch::new();
    let names = in_netns::Names::at(scratch.path());
    for error in [names.open("blue").unwrap_err(), names.delete("blue").unwrap_err()] {
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::NotFound && text.contains("no such name: `Names::list` shows"), "{text}");
    }
    let error = NetNs::delete_named("no-such-name").unwrap_err().to_string();
    assert!(error.contains("no such name: `ip netns list`"), "{error}");

    let parent = scratch.path().join("no/such");
    let error = in_netns::Names::at(parent.join("names")).create("blue").unwrap_err().to_string();
    assert!(error.contains(&format!("the directory {} does not exist", parent.display())), "{error}");
}

/// The name alone would be a path in the working directory.
#[test]
fn an_empty_path_of_a_directory_has_no_names() {
    let names = in_netns::Names::at("");
    assert_eq!(names.list().unwrap(), [""; 0]);
    // Both are in the working directory of the tests.
    for name in ["Cargo.toml", "src"] {
        for error in [names.open(name).unwrap_err(), names.delete(name).unwrap_err(), names.create(name).unwrap_err()] {
            let text = error.to_string();
            assert!(
                error.kind() == ErrorKind::NotFound && text.contains("the path of the directory is empty"),
                "{text}"
            );
        }
    }
}

/// After that, a link of the same name can be made at once.
#[test]
fn waiting_for_the_end_frees_the_names_of_links() {
    let _alone = alone();
    let home = NetNs::new().unwrap();
    for round in 0..5 {
        let ns = NetNs::new().unwrap();
        let fd = format!("/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd());
        let arguments = ["link", "add", "same", "type", "veth", "peer", "name", "peer", "netns", &fd];
        match home.run(|| Command::new("ip").args(arguments).output()).unwrap() {
            Ok(output) => assert!(output.status.success(), "{round}: {output:?}"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => return,
            Err(error) => panic!("{error}"),
        }
        let weak = ns.downgrade().unwrap();
        assert!(ns.wait_until_gone(Duration::from_secs(20)).unwrap());
        assert_eq!(weak.upgrade().unwrap(), None);
    }
}

#[test]
fn waiting_for_the_end_of_a_namespace_that_is_held_gives_up() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let socket = ns.run(|| std::net::UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
    let weak = ns.downgrade().unwrap();
    let start = Instant::now();
    assert!(!ns.wait_until_gone(Duration::from_millis(20)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(20));
    let again = weak.upgrade().unwrap().expect("the socket holds it");
    drop(socket);
    assert!(again.wait_until_gone(Duration::from_secs(20)).unwrap());
    assert!(!NetNs::current().unwrap().wait_until_gone(Duration::ZERO).unwrap());
}

/// What is missing is a descriptor, and nothing else is said or remembered.
#[test]
fn where_descriptors_are_short_a_namespace_is_neither_remembered_nor_judged() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let Ok(whole) = ns.downgrade() else { return };
    let gone = {
        let other = NetNs::new().unwrap();
        let weak = other.downgrade().unwrap();
        assert!(other.wait_until_gone(in_netns_tests::BOUND).unwrap());
        weak
    };
    for free in 0..8 {
        let open = descriptors();
        let limit = (0..).filter(|number| !open.contains_key(number)).nth(free).unwrap();
        let limited = in_netns_tests::limited(nix::sys::resource::Resource::RLIMIT_NOFILE, limit.into());
        let (remembered, found) = (ns.downgrade(), gone.upgrade());
        drop(limited);
        match remembered {
            Ok(weak) => assert_eq!(weak.to_bytes(), whole.to_bytes(), "{free} free"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::LimitReached, "{free} free: {error}"),
        }
        match found {
            Ok(found) => assert_eq!(found, None),
            Err(error) => assert_eq!(error.kind(), ErrorKind::LimitReached, "{free} free: {error}"),
        }
    }
}
