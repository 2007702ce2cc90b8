//! A topology for tests, to copy: two hosts on two networks, joined by veth pairs to a router.
//!
//! ```text
//! left  eth0 10.0.1.1/24 ── 10.0.1.254/24 left  router  right 10.0.2.254/24 ── 10.0.2.1/24 eth0  right
//! ```
//!
//! Everything is in this file. It needs four dependencies:
//!
//! ```toml
//! in-netns = { version = "0.1", features = ["tokio"] }
//! nix = { version = "0.31", features = ["net"] }
//! rtnetlink = "0.24"
//! tokio = { version = "1", features = ["io-util", "macros", "net", "rt"] }
//! ```
//!
//! `in_netns::rootless!()` lets the program, or a test binary, run without root. The namespaces are anonymous: they and
//! their interfaces are gone when the last `NetNs` is dropped, so that parallel tests do not disturb each other.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use in_netns::{NetNs, in_netns};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

in_netns::rootless!();

/// Any error of this program.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The prefix length of both networks.
const PREFIX: u8 = 24;

/// Two hosts and the router between them.
pub(crate) struct Topology {
    pub(crate) left: NetNs,
    pub(crate) router: NetNs,
    pub(crate) right: NetNs,
}

impl Topology {
    /// The address of the left host.
    pub(crate) const LEFT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    /// The address of the right host.
    pub(crate) const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

    /// Creates the namespaces, the links, the addresses and the routes, and turns forwarding on.
    pub(crate) async fn new() -> Result<Topology, BoxError> {
        let (left, router, right) = (NetNs::new()?, NetNs::new()?, NetNs::new()?);
        for (host, address, port) in [(&left, Topology::LEFT, "left"), (&right, Topology::RIGHT, "right")] {
            let [a, b, c, _] = address.octets();
            let gateway = Ipv4Addr::new(a, b, c, 254);
            add_veth(host, "eth0", &router, port).await?;
            set_up(&router, port, gateway).await?;
            set_up(host, "eth0", address).await?;
            add_default_route(host, gateway).await?;
        }
        let topology = Topology { left, router, right };
        topology.set_forwarding(true)?;
        Ok(topology)
    }

    /// Turns forwarding in the router on or off. `/proc/sys/net` shows the namespace of the thread that opens it.
    pub(crate) fn set_forwarding(&self, on: bool) -> Result<(), BoxError> {
        self.router.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", if on { "1" } else { "0" }))??;
        Ok(())
    }
}

/// Connects to rtnetlink in the namespace of the calling thread. The task that serves the connection ends with the
/// call.
fn netlink() -> io::Result<Handle> {
    let (connection, handle, _messages) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Creates a veth pair: one end in `ns`, the other in `peer_ns`.
#[in_netns(ns)]
async fn add_veth(ns: &NetNs, name: &str, peer_ns: &NetNs, peer_name: &str) -> Result<(), BoxError> {
    let peer = LinkUnspec::new_with_name(peer_name).setns_by_fd(peer_ns.as_fd().as_raw_fd()).build();
    let pair = LinkVeth::new(name, peer_name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    Ok(netlink()?.link().add(pair.build()).execute().await?)
}

/// Adds an address to an interface, and brings the interface up.
#[in_netns(ns)]
async fn set_up(ns: &NetNs, name: &str, address: Ipv4Addr) -> Result<(), BoxError> {
    let netlink = netlink()?;
    let index = nix::net::if_::if_nametoindex(name)?;
    netlink.address().add(index, address.into(), PREFIX).execute().await?;
    Ok(netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?)
}

/// Adds a default route through `gateway`.
#[in_netns(ns)]
async fn add_default_route(ns: &NetNs, gateway: Ipv4Addr) -> Result<(), BoxError> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway);
    Ok(netlink()?.route().add(route.build()).execute().await?)
}

/// Listens in `ns` on a port that the kernel chooses. Answers each connection with the address that it came from.
pub(crate) fn serve_peer_addresses(ns: &NetNs, address: Ipv4Addr) -> Result<SocketAddr, BoxError> {
    let listener = ns.run(|| TcpListener::bind((address, 0)))??;
    let local = listener.local_addr()?;
    // The listener stays in its namespace, so the thread that serves it can run outside.
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let peer = connection.peer_addr()?;
            io::Write::write_all(&mut connection, peer.ip().to_string().as_bytes())?;
        }
        io::Result::Ok(())
    });
    Ok(local)
}

/// Connects to a server from inside `ns`, and returns what the server sends.
#[in_netns(ns)]
pub(crate) async fn ask(ns: &NetNs, server: SocketAddr) -> io::Result<String> {
    let mut answer = String::new();
    TcpStream::connect(server).await?.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let topology = Topology::new().await?;
    let Topology { left, right, .. } = &topology;
    for (client, server, address) in [(left, right, Topology::RIGHT), (right, left, Topology::LEFT)] {
        let server = serve_peer_addresses(server, address)?;
        println!("{server} was reached through the router, from {}", ask(client, server).await?);
    }
    Ok(())
}
