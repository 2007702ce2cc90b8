//! Everything created inside stays inside: sockets, threads, processes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use in_netns::{NetNs, with_netns};
use in_netns_tests::{here, home, key, threads_in, wait_until};

#[test]
fn case_20_one_port_binds_at_home_and_in_two_namespaces_and_each_client_reaches_its_own() {
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let at_home = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = at_home.local_addr().unwrap();
    let bind = || TcpListener::bind(address).unwrap();
    let listeners = [("home", at_home), ("a", with_netns(&a, bind).unwrap()), ("b", with_netns(&b, bind).unwrap())];
    thread::scope(|scope| {
        for (greeting, listener) in &listeners {
            scope.spawn(move || listener.accept().unwrap().0.write_all(greeting.as_bytes()).unwrap());
        }
        let ask = || {
            let mut heard = String::new();
            TcpStream::connect(address).unwrap().read_to_string(&mut heard).unwrap();
            heard
        };
        assert_eq!(with_netns(&b, ask).unwrap(), "b");
        assert_eq!(with_netns(&a, ask).unwrap(), "a");
        assert_eq!(ask(), "home");
    });
}

#[test]
fn case_21_a_socket_made_inside_belongs_to_the_target_and_works_from_the_caller() {
    let ns = NetNs::new().unwrap();
    let (server, client) = with_netns(&ns, || {
        let server = UdpSocket::bind("127.0.0.1:53").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        (server, client)
    })
    .unwrap();
    assert_eq!(NetNs::of_socket(&server).unwrap(), ns);
    assert_eq!(NetNs::of_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap(), NetNs::current().unwrap());
    client.send(b"from home's thread").unwrap();
    let mut heard = [0; 64];
    let (length, _) = server.recv_from(&mut heard).unwrap();
    assert_eq!(&heard[..length], b"from home's thread");
}

#[test]
fn case_22_a_thread_started_inside_is_inside_and_stays_there() {
    let ns = NetNs::new().unwrap();
    let (go_on, wait) = mpsc::channel::<()>();
    let (at, child) = with_netns(&ns, || {
        let (tell, told) = mpsc::channel();
        let child = thread::spawn(move || {
            tell.send(here()).unwrap();
            wait.recv().unwrap();
            here()
        });
        (told.recv().unwrap(), child)
    })
    .unwrap();
    assert_eq!(at, key(ns.id()));
    assert_eq!(threads_in(&ns).len(), 1, "the child outlives the call, and can be seen");
    go_on.send(()).unwrap();
    assert_eq!(child.join().unwrap(), key(ns.id()));
    wait_until("it is gone", || threads_in(&ns).is_empty());
}

#[test]
fn case_22_a_process_started_inside_is_inside_and_inherits_no_descriptor() {
    let ns = NetNs::new().unwrap();
    let output = with_netns(&ns, || {
        Command::new("sh").args(["-c", "readlink /proc/self/ns/net; ls -l /proc/self/fd"]).output().unwrap()
    })
    .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let (at, open) = printed.split_once('\n').unwrap();
    assert_eq!(at, ns.to_string());
    assert!(!open.contains("net:[") && !open.contains("pidfd"), "{open}");
}

#[test]
fn two_servers_listen_on_port_80() {
    let spaces: Vec<_> = (0..4).map(|_| NetNs::new().unwrap()).collect();
    let listeners: Vec<_> =
        spaces.iter().map(|ns| ns.run(|| TcpListener::bind("0.0.0.0:80").unwrap()).unwrap()).collect();
    for (ns, listener) in spaces.iter().zip(&listeners) {
        assert_eq!(&NetNs::of_socket(listener).unwrap(), ns);
    }
    assert_ne!(home(), key(spaces[0].id()));
}
