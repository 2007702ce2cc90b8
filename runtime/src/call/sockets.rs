//! Sockets that are created in a namespace and used by the caller.
//!
//! **Promised:** the socket belongs to the namespace, whichever thread uses it; only `socket(2)` and name look-ups run
//! on a pinned thread, so the caller's own thread binds, connects and waits.
//!
//! **Why this is enough:** the kernel takes the namespace of a socket from the thread that creates it, once. Binding,
//! routing and accepted connections follow the socket.

use std::any::TypeId;
use std::ffi::c_int;
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, ToSocketAddrs,
    UdpSocket,
};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::call::run_own;
use crate::call::socket_errors::{Failure, no_address, not_bound, not_connected, not_created, not_found};
use crate::error::Error;
use crate::netns::NetNs;
use crate::sys::process_local::in_one_process;
use crate::sys::socket::{self, Blocking, Transport};

/// The time after which the next address is tried beside the ones that have not answered: the *Connection Attempt
/// Delay* of RFC 8305, section 5.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

impl NetNs {
    /// Creates a socket in this namespace, for protocols that have no method of their own: netlink, packet, abstract
    /// Unix sockets.
    ///
    /// The arguments are those of `socket(2)`. The socket is close-on-exec.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and what `socket(2)` reports: see [`NetNs::tcp_connect`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    /// use nix::libc::{AF_NETLINK, NETLINK_ROUTE, SOCK_RAW};
    ///
    /// let ns = NetNs::new()?;
    /// let netlink = ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)?;
    /// assert_eq!(NetNs::of_socket(&netlink)?, ns);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `socket(2)`.
    pub fn socket(&self, domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
        self.create_socket(|| socket::create(domain, kind, protocol))?.map_err(|source| not_created(self, source))
    }

    /// Listens for TCP connections in this namespace, as [`TcpListener::bind`] does in the caller's.
    ///
    /// Names are looked up inside. Of several addresses, the first that can be bound is used; one whose family the
    /// process cannot use is passed over.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and as [`TcpListener::bind`]: see [`NetNs::tcp_connect`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// let listener = ns.tcp_listen("127.0.0.1:80")?;
    /// let stream = ns.tcp_connect(listener.local_addr()?)?;
    /// assert_eq!(listener.accept()?.1, stream.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tcp_listen(&self, address: impl ToSocketAddrs + Send) -> io::Result<TcpListener> {
        self.bind_first(address, Transport::Tcp, socket::bind_and_listen).map(TcpListener::from)
    }

    /// Opens a TCP connection from this namespace, as [`TcpStream::connect`] does from the caller's.
    ///
    /// Names, and interfaces in addresses such as `("fe80::1%eth0", 80)`, are looked up inside. Several addresses are
    /// tried as RFC 8305 says: the families take turns, the next address follows after 250 ms or as soon as one fails,
    /// and the first connection wins. The calling thread waits, and does not move.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and as [`TcpStream::connect`]: the error of the address that failed last.
    ///
    /// The message names the addresses, the namespace and the cause, and the kind is that of `std`. A name that cannot
    /// be looked up is in the message of [`NetNs::lookup_host`] and of the async methods, and not in that of this
    /// method: [`ToSocketAddrs`] does not show it. What is no address at all is an error of `std`, as it is
    /// ([`InvalidInput`](io::ErrorKind::InvalidInput)).
    ///
    /// The errno is that of the [`Error`](crate::Error) inside the `io::Error`, which itself has none
    /// ([`raw_os_error`](io::Error::raw_os_error)):
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// let refused = ns.tcp_connect("127.0.0.1:80").unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    /// assert!(refused.to_string().starts_with(&format!("cannot connect to 127.0.0.1:80 from {ns}: ")));
    /// let error = refused.get_ref().unwrap().downcast_ref::<in_netns::Error>().unwrap();
    /// assert_eq!(error.raw_os_error(), Some(nix::libc::ECONNREFUSED));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Examples
    ///
    /// See [`NetNs::tcp_listen`].
    ///
    /// # References
    ///
    /// RFC 8305.
    pub fn tcp_connect(&self, address: impl ToSocketAddrs + Send) -> io::Result<TcpStream> {
        let (addresses, first) = self.resolve_and_create(address, Transport::Tcp, |all| interleave(&all))?;
        match *addresses {
            [address] => {
                let connected = first.and_then(|socket| socket::connect(&socket, address).map(|()| socket.into()));
                connected.map_err(|source| not_connected(self, vec![(address, source)]))
            }
            _ => self.connect_to_one_of(&addresses, first),
        }
    }

    /// Binds a UDP socket in this namespace, as [`UdpSocket::bind`] does in the caller's.
    ///
    /// Names are looked up inside. Of several addresses, the first that can be bound is used; one whose family the
    /// process cannot use is passed over.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and as [`UdpSocket::bind`]: see [`NetNs::tcp_connect`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// let dns = ns.udp_bind("127.0.0.1:53")?;
    /// let client = ns.udp_bind("127.0.0.1:0")?;
    /// client.send_to(b"question", dns.local_addr()?)?;
    /// assert_eq!(dns.recv_from(&mut [0; 16])?, (8, client.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn udp_bind(&self, address: impl ToSocketAddrs + Send) -> io::Result<UdpSocket> {
        self.bind_first(address, Transport::Udp, socket::bind).map(UdpSocket::from)
    }

    /// Looks a name up in this namespace, with `getaddrinfo(3)`.
    ///
    /// The name servers of `/etc/resolv.conf` are asked from inside. The file itself is the one of the process.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and what the resolver reports, with the name and the namespace.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// let ns = in_netns::NetNs::new()?;
    /// assert!(ns.lookup_host("localhost", 80)?.iter().all(|address| address.ip().is_loopback()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `getaddrinfo(3)`, `resolv.conf(5)`.
    pub fn lookup_host(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = without_brackets(host);
        self.run(|| resolve((host, port)))?.map_err(|source| not_found(self, &format!("`{host}`"), source))
    }

    /// A socket for an address, created in this namespace. The inner error concerns that address, such as a family that
    /// the process may not use; the next address may have another family.
    pub(crate) fn socket_for(
        &self,
        address: SocketAddr,
        transport: Transport,
        mode: Blocking,
    ) -> Result<io::Result<OwnedFd>, Error> {
        self.create_socket(|| socket::create_for(address, transport, mode))
    }

    /// Creates a socket on a pinned thread.
    fn create_socket(&self, create: impl FnOnce() -> io::Result<OwnedFd> + Send) -> Result<io::Result<OwnedFd>, Error> {
        run_own(self, |thread| {
            thread.user_code_took(Some(Duration::ZERO));
            create()
        })
    }

    /// Looks the addresses up, puts them into order, and creates a socket for the first of them, all in one call. The
    /// inner error concerns that address.
    fn resolve_and_create<A, O>(
        &self,
        address: A,
        transport: Transport,
        order: O,
    ) -> io::Result<(Vec<SocketAddr>, io::Result<OwnedFd>)>
    where
        A: ToSocketAddrs + Send,
        O: FnOnce(Vec<SocketAddr>) -> Vec<SocketAddr> + Send,
    {
        run_own(self, |thread| {
            let start = Instant::now();
            // It may be the user's.
            let addresses = in_one_process(|| resolve(address));
            let took = start.elapsed();
            let is_look_up_or_user_code = took >= SHORTEST_LOOK_UP || !is_converted_by_std::<A>();
            thread.user_code_took(Some(if is_look_up_or_user_code { took } else { Duration::ZERO }));
            // The user's own conversion has errors of its own.
            let explain =
                |source| if is_converted_by_std::<A>() { not_found(self, "the address", source) } else { source };
            let addresses = order(addresses.map_err(explain)?);
            let first = socket::create_for(addresses[0], transport, Blocking::Yes);
            Ok((addresses, first))
        })?
    }

    /// Prepares a socket for one address after another, until that succeeds.
    fn bind_first<A>(
        &self,
        address: A,
        transport: Transport,
        prepare: impl Fn(&OwnedFd, SocketAddr) -> io::Result<()>,
    ) -> io::Result<OwnedFd>
    where
        A: ToSocketAddrs + Send,
    {
        let (addresses, first) = self.resolve_and_create(address, transport, |all| all)?;
        let mut first = Some(first);
        let mut failures: Vec<Failure> = Vec::new();
        for address in addresses {
            let created = match first.take() {
                Some(first) => first,
                None => self.socket_for(address, transport, Blocking::Yes)?,
            };
            match created.and_then(|socket| prepare(&socket, address).map(|()| socket)) {
                Ok(socket) => return Ok(socket),
                Err(error) => failures.push((address, error)),
            }
        }
        Err(not_bound(self, transport, failures))
    }

    /// Connects to the address that answers first. The sockets of the others are closed.
    fn connect_to_one_of(&self, addresses: &[SocketAddr], first: io::Result<OwnedFd>) -> io::Result<TcpStream> {
        let mut created = Some(first);
        let mut waiting = addresses.iter();
        let mut attempts: Vec<(SocketAddr, OwnedFd)> = Vec::with_capacity(addresses.len());
        let mut next_start = Instant::now();
        let mut failures: Vec<Failure> = Vec::new();
        loop {
            while attempts.is_empty() || Instant::now() >= next_start {
                let Some(address) = waiting.next() else { break };
                let attempt = match created.take() {
                    Some(first) => first,
                    None => self.socket_for(*address, Transport::Tcp, Blocking::Yes)?,
                };
                let attempt = attempt.and_then(|socket| {
                    socket::set_blocking(&socket, Blocking::No)?;
                    Ok((socket::begin_connect(&socket, *address)?, socket))
                });
                match attempt {
                    Ok((socket::Connection::Established, socket)) => return finish(socket),
                    Ok((socket::Connection::InProgress, socket)) => {
                        attempts.push((*address, socket));
                        next_start = Instant::now() + ATTEMPT_DELAY;
                    }
                    Err(error) => failures.push((*address, error)),
                }
            }
            if attempts.is_empty() {
                return Err(not_connected(self, failures));
            }
            let until = (waiting.len() > 0).then_some(next_start);
            let sockets: Vec<_> = attempts.iter().map(|(_, socket)| socket).collect();
            for at in socket::wait_writable(&sockets, until)?.into_iter().rev() {
                let (address, socket) = attempts.remove(at);
                match socket::take_error(&socket) {
                    Ok(()) => return finish(socket),
                    Err(error) => {
                        failures.push((address, error));
                        next_start = Instant::now();
                    }
                }
            }
        }
    }
}

fn finish(socket: OwnedFd) -> io::Result<TcpStream> {
    socket::set_blocking(socket.as_fd(), Blocking::Yes)?;
    Ok(socket.into())
}

/// A lower bound of the time of a look-up, which reads `/etc/hosts` and `/etc/resolv.conf`.
const SHORTEST_LOOK_UP: Duration = Duration::from_micros(1);

/// Whether the standard library converts the addresses: it makes no system call unless it looks a name up.
fn is_converted_by_std<A>() -> bool {
    [
        TypeId::of::<&str>(),
        TypeId::of::<String>(),
        TypeId::of::<&String>(),
        TypeId::of::<(&str, u16)>(),
        TypeId::of::<(String, u16)>(),
        TypeId::of::<SocketAddr>(),
        TypeId::of::<&SocketAddr>(),
        TypeId::of::<SocketAddrV4>(),
        TypeId::of::<SocketAddrV6>(),
        TypeId::of::<(IpAddr, u16)>(),
        TypeId::of::<(Ipv4Addr, u16)>(),
        TypeId::of::<(Ipv6Addr, u16)>(),
        TypeId::of::<&[SocketAddr]>(),
    ]
    .contains(&typeid::of::<A>())
}

/// An address of IPv6 may be written as in a URL.
pub(crate) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Looks addresses up, at least one. To be called on a thread in the namespace.
pub(crate) fn resolve(address: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    if addresses.is_empty() { Err(no_address()) } else { Ok(addresses) }
}

/// Takes addresses of the two families in turn, beginning with that of the first (RFC 8305, section 4).
pub(crate) fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let same_family = |address: &&SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let mut preferred = addresses.iter().filter(same_family);
    let mut others = addresses.iter().filter(|address| !same_family(address));
    let mut ordered = Vec::with_capacity(addresses.len());
    loop {
        let pair = [preferred.next(), others.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [six, six2, four, four2] = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "1.1.1.2:1"].map(parse);
        assert_eq!(interleave(&[six, six2, four, four2]), [six, four, six2, four2]);
        assert_eq!(interleave(&[four, six, six2]), [four, six, six2]);
        assert_eq!(interleave(&[four, four2]), [four, four2]);
        assert_eq!(interleave(&[]), []);
    }
}
