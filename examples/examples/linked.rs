//! Linked namespaces: two of them on one cable, and then two with a router in between.
//!
//! ```text
//! left 10.0.1.1 ── 10.0.1.254 router 10.0.2.254 ── 10.0.2.1 right
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use in_netns::NetNs;
use in_netns_examples::netlink::Netlink;

in_netns::rootless!();

/// Of anything that can go wrong here.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// One end of a cable: a namespace, the name that the interface is to have there, and its address in a `/24`.
pub(crate) type End<'a> = (&'a NetNs, &'a str, Ipv4Addr);

/// Joins two namespaces with a veth pair.
pub(crate) fn link(one: End<'_>, other: End<'_>) -> Result<()> {
    one.0.run(|| Netlink::connect()?.add_veth(one.1, (other.0, other.1)))??;
    for (ns, interface, address) in [one, other] {
        ns.run(|| Netlink::connect()?.set_up(interface, address, 24))??;
    }
    Ok(())
}

/// Has `client` say something over TCP to a server at `address` in the namespace `server`, and returns what the server got
/// and from whom.
pub(crate) fn talk_over_tcp(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<(String, SocketAddr)> {
    let listener = server.run(|| TcpListener::bind((address, 80)))??;
    // A socket keeps its namespace: the server's thread may stand anywhere.
    let serve = thread::spawn(move || {
        let (mut connection, from) = listener.accept()?;
        let mut heard = String::new();
        connection.read_to_string(&mut heard).map(|_| (heard, from))
    });
    client.run(|| TcpStream::connect((address, 80))?.write_all(b"over TCP"))??;
    Ok(serve.join().expect("the server does not panic")?)
}

/// The same over UDP.
pub(crate) fn talk_over_udp(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<(String, SocketAddr)> {
    let socket = server.run(|| UdpSocket::bind((address, 53)))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?; // Nobody sends a lost datagram again.
    client.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"over UDP", (address, 53)))??;
    let mut heard = [0; 64];
    let (length, from) = socket.recv_from(&mut heard)?;
    Ok((String::from_utf8_lossy(&heard[..length]).into_owned(), from))
}

/// Two namespaces on one cable.
pub(crate) fn two() -> Result<[NetNs; 2]> {
    let (left, right) = (NetNs::new()?, NetNs::new()?);
    link((&left, "eth0", Ipv4Addr::new(10, 0, 0, 1)), (&right, "eth0", Ipv4Addr::new(10, 0, 0, 2)))?;
    Ok([left, right])
}

/// Two namespaces on two cables, with a third between them that passes on what is not for itself.
pub(crate) fn two_and_a_router() -> Result<[NetNs; 3]> {
    let (left, router, right) = (NetNs::new()?, NetNs::new()?, NetNs::new()?);
    for (ns, net, interface) in [(&left, 1, "left"), (&right, 2, "right")] {
        let at_router = Ipv4Addr::new(10, 0, net, 254);
        link((ns, "eth0", Ipv4Addr::new(10, 0, net, 1)), (&router, interface, at_router))?;
        ns.run(|| Netlink::connect()?.add_default_route(at_router))??;
    }
    // `/proc/sys/net` is that of the thread's namespace.
    router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    Ok([left, router, right])
}

fn main() -> Result<()> {
    let [left, right] = two()?;
    let address = Ipv4Addr::new(10, 0, 0, 2);
    println!("on one cable:     {:?}", talk_over_tcp(&left, &right, address)?);
    println!("on one cable:     {:?}", talk_over_udp(&left, &right, address)?);

    let [left, _router, right] = two_and_a_router()?;
    let address = Ipv4Addr::new(10, 0, 2, 1);
    println!("through a router: {:?}", talk_over_tcp(&left, &right, address)?);
    println!("through a router: {:?}", talk_over_udp(&left, &right, address)?);
    Ok(())
}
