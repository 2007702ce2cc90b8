//! Looks up one name in ten namespaces at the same time, as `dig` in ten programs would: each namespace has a name
//! server and a `resolv.conf` of its own.
//!
//! The resolver of the C library reads `/etc/resolv.conf` on the thread that asks. In a view that file is the view's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use in_netns::{NetNs, View};
use in_netns_examples::dns;

/// A name that every server has, each with another address.
pub const NAME: &str = "pod.in-netns.test";

/// A namespace with a name server, and the view that knows it.
pub struct Site {
    view: View,
    /// The address that its server answers with.
    pub address: Ipv4Addr,
    /// How many queries its server heard.
    heard: Arc<AtomicUsize>,
}

impl Site {
    /// Starts a name server on a loopback address that is another one in each namespace.
    ///
    /// # Errors
    ///
    /// If there can be no namespace or view.
    pub fn start(number: u8) -> io::Result<Site> {
        let ns = NetNs::new()?;
        let server = Ipv4Addr::new(127, 0, 53, number);
        let address = Ipv4Addr::new(10, 0, 0, number);
        let heard = Arc::new(AtomicUsize::new(0));
        let socket: UdpSocket = ns.udp_bind((server, 53))?;
        let counter = Arc::clone(&heard);
        thread::spawn(move || dns::answer(&socket, address, &counter));
        let view = View::builder(&ns).resolv_conf(format!("nameserver {server}\n")).build()?;
        Ok(Site { view, address, heard })
    }

    /// The addresses of a name, as a program in this namespace finds them.
    ///
    /// # Errors
    ///
    /// If the name is not found.
    pub fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.view.try_run(|| Ok((name, 80).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// How many queries the server of this namespace heard.
    #[must_use]
    pub fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// Looks up the name at every site at the same time.
///
/// # Errors
///
/// If it is not found at one.
pub fn look_up_everywhere(sites: &[Site]) -> io::Result<Vec<Vec<IpAddr>>> {
    thread::scope(|scope| {
        let look_ups: Vec<_> = sites.iter().map(|site| scope.spawn(|| site.look_up(NAME))).collect();
        look_ups.into_iter().map(|look_up| look_up.join().unwrap_or_else(|_| Err(io::Error::other("panic")))).collect()
    })
}

fn main() -> io::Result<()> {
    in_netns::rootless::enter()?;
    let sites = (1..=10).map(Site::start).collect::<io::Result<Vec<_>>>()?;
    for (site, found) in sites.iter().zip(look_up_everywhere(&sites)?) {
        println!("{NAME} is {found:?} in {:?}, whose server heard {} queries", site.view, site.heard());
    }
    Ok(())
}
