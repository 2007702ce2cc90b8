//! Two namespaces, joined by a veth pair, with synchronous calls only. See `router.rs` for a router between them.
//!
//! ```text
//! left eth0 10.0.0.1/24 ── 10.0.0.2/24 eth0 right
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use in_netns::NetNs;
use in_netns_examples::netlink::Netlink;

in_netns::rootless!();

/// The result of a step of this example.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// One end of a veth pair: a namespace, the name of the interface there, and its address in a `/24`.
pub(crate) type End<'a> = (&'a NetNs, &'a str, Ipv4Addr);

/// Joins two namespaces with a veth pair.
pub(crate) fn link(one: End<'_>, other: End<'_>) -> Result<()> {
    one.0.run(|| Netlink::connect()?.add_veth(one.1, (other.0, other.1)))??;
    for (ns, interface, address) in [one, other] {
        ns.run(|| Netlink::connect()?.set_up(interface, address, 24))??;
    }
    Ok(())
}

/// Sends a text over TCP from the namespace `client` to `address` in the namespace `server`. Returns what the server
/// received, and the address that it came from.
pub(crate) fn talk_over_tcp(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<(String, SocketAddr)> {
    let listener = server.run(|| TcpListener::bind((address, 80)))??;
    // A socket keeps its namespace, so the thread that serves it can run outside.
    let serve = thread::spawn(move || {
        let (mut connection, from) = listener.accept()?;
        let mut heard = String::new();
        connection.read_to_string(&mut heard).map(|_| (heard, from))
    });
    client.run(|| TcpStream::connect((address, 80))?.write_all(b"over TCP"))??;
    Ok(serve.join().expect("the server does not panic")?)
}

/// Does the same over UDP.
pub(crate) fn talk_over_udp(client: &NetNs, server: &NetNs, address: Ipv4Addr) -> Result<(String, SocketAddr)> {
    let socket = server.run(|| UdpSocket::bind((address, 53)))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?; // A lost datagram is not sent again.
    client.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"over UDP", (address, 53)))??;
    let mut heard = [0; 64];
    let (length, from) = socket.recv_from(&mut heard)?;
    Ok((String::from_utf8_lossy(&heard[..length]).into_owned(), from))
}

/// Creates two namespaces on one veth pair.
pub(crate) fn two() -> Result<[NetNs; 2]> {
    let (left, right) = (NetNs::new()?, NetNs::new()?);
    link((&left, "eth0", Ipv4Addr::new(10, 0, 0, 1)), (&right, "eth0", Ipv4Addr::new(10, 0, 0, 2)))?;
    Ok([left, right])
}

fn main() -> Result<()> {
    let [left, right] = two()?;
    let address = Ipv4Addr::new(10, 0, 0, 2);
    println!("{:?}", talk_over_tcp(&left, &right, address)?);
    println!("{:?}", talk_over_udp(&left, &right, address)?);
    Ok(())
}
