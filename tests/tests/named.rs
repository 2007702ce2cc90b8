//! Named namespaces, and `ip netns` as the measure where it is installed.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use in_netns::{ErrorKind, NetNs, with_netns};
use in_netns_tests::{alone, here, key};

in_netns::rootless!();

fn name(what: &str) -> String {
    format!("in-netns-{what}-{}", std::process::id())
}

fn file(name: &str) -> String {
    format!("/run/netns/{name}")
}

/// `None` where `ip` is not installed: the README promises that the tests do without it. `.ci/run` installs it.
fn ip(arguments: &[&str]) -> Option<Output> {
    match Command::new("ip").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("`ip` is not installed: its side of this test is not checked");
            None
        }
        Err(error) => panic!("ip: {error}"),
    }
}

fn ip_lists(name: &str) -> Option<bool> {
    let output = ip(&["netns", "list"])?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().lines().any(|line| line.split(' ').next() == Some(name)))
}

#[test]
fn case_24_what_we_create_is_there_for_ip_and_gone_when_deleted() {
    let _alone = alone();
    let name = name("ours");
    let ns = NetNs::create_named(&name).unwrap();
    assert_eq!(NetNs::from_name(&name).unwrap(), ns);
    assert!(NetNs::list_named().unwrap().contains(&name));
    assert_ne!(ip_lists(&name), Some(false));
    if let Some(output) = ip(&["netns", "exec", &name, "readlink", "/proc/self/ns/net"]) {
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            ns.to_string(),
            "{:?}",
            String::from_utf8(output.stderr)
        );
    }
    NetNs::delete_named(&name).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
    assert!(!NetNs::list_named().unwrap().contains(&name));
    assert_ne!(ip_lists(&name), Some(true));
}

#[test]
fn case_24_what_ip_creates_is_there_for_us_and_the_other_way_round() {
    let _alone = alone();
    let name = name("theirs");
    let Some(output) = ip(&["netns", "add", &name]) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(NetNs::list_named().unwrap().contains(&name));
    let ns = NetNs::from_name(&name).unwrap();
    assert_eq!(with_netns(name.as_str(), here).unwrap(), key(ns.id()));
    NetNs::delete_named(&name).unwrap();
    assert_eq!(ip_lists(&name), Some(false));

    NetNs::create_named(&name).unwrap();
    let output = ip(&["netns", "del", &name]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(NetNs::from_name(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn case_24_a_duplicate_changes_nothing() {
    let _alone = alone();
    let name = name("twice");
    let ns = NetNs::create_named(&name).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let names = NetNs::list_named().unwrap();
    let error = NetNs::create_named(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(NetNs::list_named().unwrap(), names);
    assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
    assert_eq!(NetNs::from_name(&name).unwrap(), ns);
    NetNs::delete_named(&name).unwrap();
}

/// The kernel makes no more namespaces: the name is given back. In a user namespace of its own, whose limit it is.
#[test]
fn a_half_made_namespace_is_rolled_back() {
    let output = Command::new(env!("CARGO_BIN_EXE_half_made")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn case_24_a_stale_file_can_be_deleted_and_deleting_twice_is_not_found() {
    let _alone = alone();
    let name = name("stale");
    NetNs::delete_named(&{
        let other = format!("{name}-other");
        NetNs::create_named(&other).unwrap();
        other
    })
    .unwrap();
    fs::write(file(&name), "").unwrap();
    NetNs::delete_named(&name).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
    let error = NetNs::delete_named(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&file(&name)), "{error}");
}

#[test]
fn case_24_one_in_use_is_detached_and_goes_on() {
    let _alone = alone();
    let name = name("used");
    let ns = NetNs::create_named(&name).unwrap();
    with_netns(&ns, || {
        NetNs::delete_named(&name).unwrap();
        assert_eq!(here(), key(ns.id()));
        std::net::TcpListener::bind("127.0.0.1:80").unwrap();
    })
    .unwrap();
    with_netns(&ns, || ()).unwrap();
    assert!(!fs::exists(file(&name)).unwrap());
}

#[test]
fn the_directory_is_a_shared_mount() {
    let _alone = alone();
    let name = name("shared");
    NetNs::create_named(&name).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // The topmost, where one mount covers another.
    let netns = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/run/netns")).expect("a mount of its own");
    assert!(netns.contains(" shared:"), "{netns}");
    NetNs::delete_named(&name).unwrap();
}

/// A link in the directory is removed; what it points to is not unmounted.
#[test]
fn deleting_a_link_leaves_its_target() {
    let _alone = alone();
    let (name, link) = (name("target"), name("link"));
    let ns = NetNs::create_named(&name).unwrap();
    std::os::unix::fs::symlink(file(&name), file(&link)).unwrap();
    NetNs::delete_named(&link).unwrap();
    assert!(!Path::new(&file(&link)).is_symlink());
    assert_eq!(NetNs::from_name(&name).unwrap(), ns);
    NetNs::delete_named(&name).unwrap();
}

#[test]
fn loopback_is_up() {
    let _alone = alone();
    let name = name("up");
    let ns = NetNs::create_named(&name).unwrap();
    ns.run(|| std::net::UdpSocket::bind("[::1]:53")).unwrap().unwrap();
    NetNs::delete_named(&name).unwrap();
}
