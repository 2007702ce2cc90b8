//! A blocking client of rtnetlink (`rtnetlink(7)`), for the network namespace in which it is created.
//!
//! The crate `rtnetlink` is asynchronous. This client runs it on a tokio runtime of its own, so that a synchronous body
//! under `#[in_netns]` can use it. An asynchronous body uses `rtnetlink` directly: see `examples/router.rs`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use futures_util::{TryStream, TryStreamExt as _};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::{Builder, Runtime};

/// A connection to the kernel, for the network namespace in which it was created.
pub struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

/// An interface, with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses, with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Netlink {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The errors of `socket(2)`, `bind(2)` and `epoll_create(2)`.
    pub fn connect() -> io::Result<Netlink> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = runtime.block_on(async {
            let (connection, handle, _messages) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            Ok::<_, io::Error>(handle)
        })?;
        Ok(Netlink { runtime, handle })
    }

    /// Creates a veth pair: one end here, the other in the namespace `there` (`veth(4)`).
    ///
    /// # Errors
    ///
    /// The error of the kernel, such as `EEXIST` if a name is taken.
    pub fn add_veth(&self, here: &str, there: (impl AsFd, &str)) -> io::Result<()> {
        let (namespace, name) = there;
        let peer = LinkUnspec::new_with_name(name);
        let peer = peer.setns_by_fd(namespace.as_fd().as_raw_fd()).build();
        let pair = LinkVeth::new(here, name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        self.wait(self.handle.link().add(pair.build()).execute())
    }

    /// Adds an address to an interface, and brings the interface up.
    ///
    /// # Errors
    ///
    /// The error of the kernel; `ENODEV` if there is no such interface.
    pub fn set_up(&self, interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let index = self.index_of(interface)?;
        self.wait(self.handle.address().add(index, address.into(), prefix).execute())?;
        let up = LinkUnspec::new_with_index(index).up();
        self.wait(self.handle.link().set(up.build()).execute())
    }

    /// Adds a default route through a router.
    ///
    /// # Errors
    ///
    /// The error of the kernel; `ENETUNREACH` if no interface leads to the router.
    pub fn add_default_route(&self, router: Ipv4Addr) -> io::Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(router);
        self.wait(self.handle.route().add(route.build()).execute())
    }

    /// Lists the interfaces, with their addresses.
    ///
    /// # Errors
    ///
    /// The error of the kernel.
    pub fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let addresses = self.collect(self.handle.address().get().execute())?;
        let addresses_of = |index| {
            let of_this = addresses.iter().filter(move |message| message.header.index == index);
            of_this.flat_map(|message| {
                message.attributes.iter().filter_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some((*address, message.header.prefix_len)),
                    _ => None,
                })
            })
        };
        let links = self.collect(self.handle.link().get().execute())?;
        let interfaces = links.into_iter().map(|link| Interface {
            up: link.header.flags.contains(LinkFlags::Up),
            addresses: addresses_of(link.header.index).collect(),
            name: link
                .attributes
                .into_iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name),
                    _ => None,
                })
                .unwrap_or_default(),
        });
        Ok(interfaces.collect())
    }

    fn index_of(&self, interface: &str) -> io::Result<u32> {
        let links = self.collect(self.handle.link().get().match_name(interface.to_owned()).execute())?;
        links.first().map(|link| link.header.index).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn wait<T>(&self, request: impl Future<Output = Result<T, rtnetlink::Error>>) -> io::Result<T> {
        self.runtime.block_on(request).map_err(into_io_error)
    }

    fn collect<T>(&self, answers: impl TryStream<Ok = T, Error = rtnetlink::Error>) -> io::Result<Vec<T>> {
        self.wait(answers.try_collect())
    }
}

/// The kernel's own error code, if the error is an answer of the kernel.
fn into_io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
