//! A few requests of rtnetlink (`rtnetlink(7)`), for the namespace in which the socket was made.
//!
//! Made to be copied: it is all that tests with linked namespaces need. It blocks, which suits a body under `#[in_netns]`.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, link::LinkHeader};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A connection to the kernel, about the namespace that the calling thread was in when it was made.
pub struct Netlink(Socket);

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
    /// Those of `socket(2)` and `bind(2)`.
    pub fn connect() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink(socket))
    }

    /// Makes a veth pair: one end here, the other in the namespace `there` (`veth(4)`).
    ///
    /// # Errors
    ///
    /// What the kernel says, such as `EEXIST` for a name that is taken.
    pub fn add_veth(&self, here: &str, there: (impl AsFd, &str)) -> io::Result<()> {
        let (namespace, name) = there;
        let mut peer = LinkMessage::default();
        let namespace = LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd());
        peer.attributes = vec![LinkAttribute::IfName(name.to_owned()), namespace];
        let kind = [LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))];
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(here.to_owned()), LinkAttribute::LinkInfo(kind.to_vec())];
        self.request(Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Gives an interface an address, and brings it up.
    ///
    /// # Errors
    ///
    /// What the kernel says; `ENODEV` where there is no such interface.
    pub fn set_up(&self, interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let index = index_of(interface)?;
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
        self.request(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?;

        let mut link = LinkMessage::default();
        link.header = LinkHeader { index, flags: LinkFlags::Up, change_mask: LinkFlags::Up, ..LinkHeader::default() };
        self.request(Message::SetLink(link), 0).map(drop)
    }

    /// Sends everything that has no other way through a router.
    ///
    /// # Errors
    ///
    /// What the kernel says; `ENETUNREACH` where no interface leads to the router.
    pub fn add_default_route(&self, router: Ipv4Addr) -> io::Result<()> {
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        route.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(router))];
        self.request(Message::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Lists the interfaces, with their addresses.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let mut addresses = Vec::new();
        for answer in self.request(Message::GetAddress(AddressMessage::default()), NLM_F_DUMP)? {
            let Message::NewAddress(AddressMessage { header, attributes, .. }) = answer else { continue };
            let address = attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            addresses.extend(address.map(|address| (header.index, (address, header.prefix_len))));
        }
        let mut interfaces = Vec::new();
        for answer in self.request(Message::GetLink(LinkMessage::default()), NLM_F_DUMP)? {
            let Message::NewLink(LinkMessage { header, attributes, .. }) = answer else { continue };
            let name = attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            interfaces.push(Interface {
                name: name.unwrap_or_default(),
                up: header.flags.contains(LinkFlags::Up),
                addresses: addresses
                    .iter()
                    .filter(|(index, _)| *index == header.index)
                    .map(|(_, address)| *address)
                    .collect(),
            });
        }
        Ok(interfaces)
    }

    /// Sends a request, and takes all that comes back, up to the end of the list or the acknowledgement.
    fn request(&self, message: Message, flags: u16) -> io::Result<Vec<Message>> {
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        self.0.send(&buffer, 0)?;

        let mut answers = Vec::new();
        loop {
            let (packet, _) = self.0.recv_from_full()?;
            let mut rest = &packet[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<Message>::deserialize(rest).map_err(io::Error::other)?;
                // Messages begin at multiples of four bytes.
                let length = (answer.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

/// The number of an interface of the calling thread's namespace (`if_nametoindex(3)`).
fn index_of(interface: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(CString::new(interface)?.as_c_str())?)
}
