//! Which path shows which thread's network, as the page `in_netns::escapes` states it, and what crates report that read
//! these paths.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::Command;

use futures::TryStreamExt as _;
use in_netns::{NetNs, in_netns, with_netns};
use in_netns_tests::{home, key, tid};
use procfs::net::{InterfaceDeviceStatus, TcpNetEntries, TcpNetEntry};
use procfs::process::Process;
use procfs::{FromRead as _, FromReadSI as _, current_system_info};
use rtnetlink::LinkVeth;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use tokio::runtime::Runtime;

/// The names in a table of `net/dev`.
fn interfaces(table: &str) -> BTreeSet<String> {
    table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn name_of(link: &LinkMessage) -> String {
    let name = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    };
    link.attributes.iter().find_map(name).unwrap()
}

/// A namespace with an interface that home does not have.
fn with_interface(name: &str) -> NetNs {
    let ns = NetNs::new().unwrap();
    Runtime::new().unwrap().block_on(async {
        let (connection, handle, _) = ns.run(rtnetlink::new_connection).unwrap().unwrap();
        tokio::spawn(connection);
        handle.link().add(LinkVeth::new(name, "peer").build()).execute().await.unwrap();
    });
    ns
}

fn has_port(table: &[TcpNetEntry], port: u16) -> bool {
    table.iter().any(|socket| socket.local_address.port() == port)
}

#[test]
fn proc_thread_self_net_shows_the_threads_network_and_proc_net_that_of_the_main_thread() {
    let ns = with_interface("files0");
    let read = |path: &str| interfaces(&fs::read_to_string(path).unwrap());
    let of_home = read("/proc/self/net/dev");
    let (id, here) = (std::process::id(), |path| with_netns(&ns, || read(path)).unwrap());

    assert_eq!(here("/proc/thread-self/net/dev"), set(&["files0", "lo", "peer"]));
    let of_task = || read(&format!("/proc/self/task/{}/net/dev", tid()));
    assert_eq!(with_netns(&ns, of_task).unwrap(), set(&["files0", "lo", "peer"]));

    assert_eq!(here("/proc/net/dev"), of_home);
    assert_eq!(here("/proc/self/net/dev"), of_home);
    assert_eq!(here(&format!("/proc/{id}/net/dev")), of_home);
    assert!(!of_home.contains("files0"));
}

#[test]
fn proc_thread_self_ns_net_is_the_threads_namespace_and_proc_self_ns_net_that_of_the_main_thread() {
    let ns = NetNs::new().unwrap();
    let of = |path: &str| key(NetNs::from_path(path).unwrap().id());
    let (of_thread, of_process) = ns.run(|| (of("/proc/thread-self/ns/net"), of("/proc/self/ns/net"))).unwrap();
    assert_eq!(of_thread, key(ns.id()));
    assert_eq!(of_process, home());
}

#[test]
fn proc_sys_net_is_the_threads() {
    const TTL: &str = "/proc/sys/net/ipv4/ip_default_ttl";
    let ns = NetNs::new().unwrap();
    let before = fs::read_to_string(TTL).unwrap();
    ns.run(|| fs::write(TTL, "77")).unwrap().unwrap();
    assert_eq!(ns.run(|| fs::read_to_string(TTL)).unwrap().unwrap(), "77\n");
    assert_eq!(fs::read_to_string(TTL).unwrap(), before);
    assert_ne!(before, "77\n");
}

#[test]
fn sys_class_net_shows_the_namespace_in_which_sysfs_was_mounted() {
    let ns = with_interface("files1");
    let list = || -> BTreeSet<_> {
        let names = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    };
    let inside = ns.run(list).unwrap();
    assert_eq!(inside, list());
    assert!(!inside.contains("files1"), "{inside:?}");
    let exists = |path: &str| fs::exists(path).unwrap();
    assert!(!ns.run(|| exists("/sys/devices/virtual/net/files1")).unwrap());
}

#[test]
fn a_child_process_has_proc_net_of_its_own() {
    let ns = with_interface("files2");
    let table = ns.run(|| Command::new("cat").arg("/proc/net/dev").output()).unwrap().unwrap().stdout;
    assert_eq!(interfaces(&String::from_utf8(table).unwrap()), set(&["files2", "lo", "peer"]));
}

#[test]
fn tokios_file_system_reads_on_a_thread_of_the_call() {
    #[in_netns(ns)]
    async fn table(ns: &NetNs) -> std::io::Result<String> {
        tokio::fs::read_to_string("/proc/thread-self/net/dev").await
    }
    let ns = with_interface("files3");
    let table = Runtime::new().unwrap().block_on(table(&ns)).unwrap();
    assert_eq!(interfaces(&table), set(&["files3", "lo", "peer"]));
}

#[test]
fn a_netlink_socket_stays_in_the_namespace_that_it_was_made_in() {
    let ns = with_interface("files4");
    Runtime::new().unwrap().block_on(async {
        // The socket is made inside, and used here by the caller's runtime.
        let (connection, handle, _) = ns.run(rtnetlink::new_connection).unwrap().unwrap();
        tokio::spawn(connection);
        let links: Vec<_> = handle.link().get().execute().try_collect().await.unwrap();
        assert_eq!(links.iter().map(name_of).collect::<BTreeSet<_>>(), set(&["files4", "lo", "peer"]));

        // The socket is made here and used inside: it shows home.
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let links = ns.run_async(async || handle.link().get().execute().try_collect::<Vec<_>>().await);
        assert!(!links.await.unwrap().unwrap().iter().map(name_of).any(|name| name == "files4"));
    });
}

#[test]
fn the_functions_of_procfs_show_home_and_its_types_read_the_path_that_they_are_given() {
    let ns = with_interface("files5");
    let listener = ns.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let port = listener.local_addr().unwrap().port();
    ns.run(|| {
        assert!(!procfs::net::dev_status().unwrap().contains_key("files5"));
        assert!(!has_port(&procfs::net::tcp().unwrap(), port));
        assert!(!Process::myself().unwrap().dev_status().unwrap().contains_key("files5"));

        let InterfaceDeviceStatus(devices) = InterfaceDeviceStatus::from_file("/proc/thread-self/net/dev").unwrap();
        assert!(devices.contains_key("files5"));
        let TcpNetEntries(sockets) =
            TcpNetEntries::from_file("/proc/thread-self/net/tcp", current_system_info()).unwrap();
        assert!(has_port(&sockets, port));
        let thread = Process::new_with_root(format!("/proc/self/task/{}", tid()).into()).unwrap();
        assert!(thread.dev_status().unwrap().contains_key("files5"));
        assert!(has_port(&thread.tcp().unwrap(), port));
    })
    .unwrap();
}
