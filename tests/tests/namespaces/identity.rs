//! Handles are equal if and only if they hold the same namespace, however they were found.

use std::collections::HashSet;
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use in_netns::{IntoNetNs, NetNs, NetNsId};
use in_netns_tests::alone;

fn assert_send_sync_static<T: Send + Sync + Clone + 'static>() {}

#[test]
fn a_handle_goes_anywhere() {
    let _alone = alone();
    assert_send_sync_static::<NetNs>();
    assert_send_sync_static::<NetNsId>();
    assert_send_sync_static::<in_netns::Error>();
}

#[test]
fn case_25_every_way_to_the_same_namespace_gives_an_equal_handle() {
    let _alone = alone();
    let pid = std::process::id();
    let home = NetNs::from_pid(pid).unwrap();
    let file = File::open("/proc/self/ns/net").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ways = [
        NetNs::current().unwrap(),
        NetNs::from_path("/proc/self/ns/net").unwrap(),
        NetNs::of_socket(&socket).unwrap(),
        "/proc/self/ns/net".into_netns().unwrap(),
        String::from("/proc/self/ns/net").into_netns().unwrap(),
        (&String::from("/proc/self/ns/net")).into_netns().unwrap(),
        Path::new("/proc/self/ns/net").into_netns().unwrap(),
        PathBuf::from("/proc/self/ns/net").into_netns().unwrap(),
        file.as_fd().into_netns().unwrap(),
        OwnedFd::from(file).into_netns().unwrap(),
        (&home).into_netns().unwrap(),
        home.clone().into_netns().unwrap(),
    ];
    for way in &ways {
        assert_eq!(way, &home);
        assert_eq!(way.id(), home.id());
        assert_eq!(way.to_string(), std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string());
    }
    let set: HashSet<_> = ways.into_iter().collect();
    assert_eq!(set.len(), 1);
}

#[test]
fn case_25_handles_on_different_namespaces_differ() {
    let _alone = alone();
    let spaces: HashSet<_> = (0..16).map(|_| NetNs::new().unwrap()).collect();
    assert_eq!(spaces.len(), 16);
    let ids: HashSet<_> = spaces.iter().map(NetNs::id).collect();
    assert_eq!(ids.len(), 16);
}

/// A borrowed descriptor is duplicated, so a later reuse of its number has no effect.
#[test]
fn case_25_a_closed_descriptors_number_is_never_taken_for_the_namespace() {
    let _alone = alone();
    let other = NetNs::new().unwrap();
    let mut number = OwnedFd::from(File::open("/proc/self/ns/net").unwrap());
    let ns = number.as_fd().into_netns().unwrap();
    // `dup2` closes the number and reuses it atomically. Otherwise another test could take the number in between.
    nix::unistd::dup2(&other, &mut number).unwrap();
    assert_eq!(number.as_fd().into_netns().unwrap(), other);
    assert_ne!(ns, other);
    assert!(ns.is_current().unwrap());
    assert!(ns.run(|| ns.is_current()).unwrap().unwrap());
}

/// An id does not keep the namespace alive, but a handle does: the inode number is not reused meanwhile.
#[test]
fn a_handle_keeps_the_namespace() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let listener = ns.run(|| std::net::TcpListener::bind("127.0.0.1:80")).unwrap().unwrap();
    drop(listener);
    for _ in 0..50 {
        assert_ne!(NetNs::new().unwrap().id(), ns.id());
    }
    assert!(ns.run(|| ns.is_current()).unwrap().unwrap());
}
