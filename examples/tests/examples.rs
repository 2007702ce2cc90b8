//! Tests of the examples.
#![allow(missing_docs, dead_code, unreachable_pub)]

#[path = "../examples/interfaces.rs"]
mod interfaces;
#[path = "../examples/linked.rs"]
mod linked;
#[path = "../examples/lookup_views.rs"]
mod lookup_views;
#[path = "../examples/router.rs"]
mod router;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use in_netns::NetNs;
use in_netns_examples::netlink::Interface;
use lookup_views::Site;
use router::Topology;

#[test]
fn two_namespaces_talk_over_a_cable() {
    let [left, right] = linked::two().unwrap();
    let at = Ipv4Addr::new(10, 0, 0, 2);
    for (heard, from) in
        [linked::talk_over_tcp(&left, &right, at).unwrap(), linked::talk_over_udp(&left, &right, at).unwrap()]
    {
        assert!(heard.starts_with("over "), "{heard}");
        assert_eq!(from.ip(), Ipv4Addr::new(10, 0, 0, 1));
    }
}

#[tokio::test]
async fn a_router_passes_on_between_two_networks() {
    let topology = Topology::new().await.unwrap();
    let Topology { left, right, .. } = &topology;
    for (client, from, server, at) in
        [(left, Topology::LEFT, right, Topology::RIGHT), (right, Topology::RIGHT, left, Topology::LEFT)]
    {
        let server = router::serve_peer_addresses(server, at).unwrap();
        assert_eq!(router::ask(client, server).await.unwrap(), from.to_string());
    }
    // The packets pass through the router: without forwarding, the refusal of a closed port does not return.
    let knock = || {
        let closed_port = (Topology::RIGHT, 80).into();
        left.run(|| TcpStream::connect_timeout(&closed_port, Duration::from_millis(200))).unwrap().unwrap_err().kind()
    };
    assert_eq!(knock(), ErrorKind::ConnectionRefused);
    topology.set_forwarding(false).unwrap();
    assert_ne!(knock(), ErrorKind::ConnectionRefused);
}

#[test]
fn interfaces_are_those_of_the_namespace() {
    let [left, _right] = linked::two().unwrap();
    let loopback = Interface {
        name: "lo".to_owned(),
        up: true,
        addresses: vec![("127.0.0.1".parse().unwrap(), 8), ("::1".parse().unwrap(), 128)],
    };
    assert_eq!(interfaces::interfaces_of(&NetNs::new().unwrap()).unwrap(), std::slice::from_ref(&loopback));
    let listed = interfaces::interfaces_of(&left).unwrap();
    assert_eq!((listed.len(), &listed[0]), (2, &loopback));
    assert_eq!((listed[1].name.as_str(), listed[1].up), ("eth0", true));
    assert_eq!(listed[1].addresses[0], ("10.0.0.1".parse().unwrap(), 24));
}

#[test]
fn ten_views_look_up_a_name_at_ten_servers_at_the_same_time() {
    let sites: Vec<_> = (1..=10).map(|number| Site::start(number).unwrap()).collect();
    for round in 1..=20 {
        let found = lookup_views::look_up_everywhere(&sites).unwrap();
        for (site, found) in sites.iter().zip(found) {
            assert_eq!(found.first(), Some(&IpAddr::V4(site.address)), "{found:?}");
            assert!(found.iter().all(|address| *address == site.address), "{found:?}");
            assert!(site.heard() >= round);
        }
    }
}
