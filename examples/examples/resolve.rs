//! Looks up a name from inside a namespace: the packets go to a small DNS server on the loopback there, and not home.
//!
//! tokio looks up names on its blocking pool. The pool of the caller's runtime is at home, wherever the task's own
//! thread is: this is the usual DNS leak. In an async call, the pool belongs to the call and is inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use in_netns::{NetNs, in_netns};
use in_netns_examples::dns;
use in_netns_examples::netlink::Netlink;

/// A name that no other server knows.
pub const NAME: &str = "pod.in-netns.test";
/// The answer of the server in the namespace.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);

#[in_netns(ns)]
async fn look_up(ns: &NetNs, name: &str) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 80)).await?.map(|address| address.ip()).collect())
}

/// The server that `/etc/resolv.conf` names. The file is the same inside, but the address leads to another server.
fn nameserver() -> io::Result<Ipv4Addr> {
    let conf = std::fs::read_to_string("/etc/resolv.conf")?;
    let servers = conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    // Without an entry, the resolver queries this address.
    Ok(servers.into_iter().next().unwrap_or(Ipv4Addr::LOCALHOST))
}

/// The address of the name inside, the number of queries at the server there, and the number at the same port at home.
///
/// # Errors
///
/// If no namespace can be created, or the name is not found.
pub async fn resolve_inside() -> io::Result<(Vec<IpAddr>, usize, usize)> {
    let ns = NetNs::new()?;
    let server = nameserver()?;
    let listener = ns.run(|| {
        if !server.is_loopback() {
            Netlink::connect()?.set_up("lo", server, 32)?;
        }
        UdpSocket::bind((server, 53))
    })??;
    // At home another program may have the port already; then this program cannot count there.
    let at_home = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 53)));
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    std::thread::spawn(move || dns::answer(&listener, ADDRESS, &counter));

    let found = look_up(&ns, NAME).await?;

    let mut leaked = 0;
    if let Ok(at_home) = at_home {
        at_home.set_read_timeout(Some(Duration::from_millis(10)))?;
        while at_home.recv(&mut [0; 512]).is_ok() {
            leaked += 1;
        }
    }
    Ok((found, heard.load(Ordering::Relaxed), leaked))
}

fn main() -> io::Result<()> {
    in_netns::rootless::enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (found, heard, leaked) = runtime.block_on(resolve_inside())?;
    println!("{NAME} is {found:?} inside; {heard} questions were heard there, {leaked} at home");
    Ok(())
}
