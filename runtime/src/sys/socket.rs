//! The calls of `socket(7)`, by addresses as `std` has them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{self, c_int};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{self, Backlog, SockaddrIn, SockaddrIn6, sockopt};

use super::raw::{SOCKET_FAMILIES, bring_loopback_up, create_socket};
use super::timeout_until;

/// The protocols with methods of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Whether calls on a socket wait (`O_NONBLOCK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocking {
    Yes,
    No,
}

/// Creates a close-on-exec socket in the calling thread's namespace.
pub(crate) fn create(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    Ok(create_socket(domain, kind | libc::SOCK_CLOEXEC, protocol)?)
}

/// Brings up the loopback in the calling thread's namespace, and returns the socket that was used for it.
pub(crate) fn loopback_up() -> nix::Result<OwnedFd> {
    let socket = |family| create_socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
    let carrier = SOCKET_FAMILIES.into_iter().flat_map(socket).next().ok_or_else(Errno::last)?;
    bring_loopback_up(&carrier)?;
    Ok(carrier)
}

/// Creates a socket for an address.
pub(crate) fn create_for(address: SocketAddr, transport: Transport, mode: Blocking) -> io::Result<OwnedFd> {
    let domain = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = match transport {
        Transport::Tcp => libc::SOCK_STREAM,
        Transport::Udp => libc::SOCK_DGRAM,
    };
    let flags = if mode == Blocking::No { libc::SOCK_NONBLOCK } else { 0 };
    create(domain, kind | flags, 0)
}

pub(crate) fn bind(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    Ok(match address {
        SocketAddr::V4(address) => socket::bind(fd, &SockaddrIn::from(address)),
        SocketAddr::V6(address) => socket::bind(fd, &SockaddrIn6::from(address)),
    }?)
}

/// Listens at an address. As with `std`, a listener can bind while connections of an earlier one linger
/// (`SO_REUSEADDR`). The backlog is `SOMAXCONN` of the C library: `nix` accepts no longer one.
pub(crate) fn bind_and_listen(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    socket::setsockopt(socket, sockopt::ReuseAddr, &true)?;
    bind(socket, address)?;
    Ok(socket::listen(socket, Backlog::MAXCONN)?)
}

/// Connects, and waits for that.
pub(crate) fn connect(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    match begin_connect(socket, address)? {
        Connection::Established => Ok(()),
        Connection::InProgress => {
            wait_writable(std::slice::from_ref(socket), None)?;
            take_error(socket)
        }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Established,
    /// The socket becomes writable when it is decided; [`take_error`] tells how.
    InProgress,
}

/// Begins to connect. A blocking socket waits, unless a signal interrupts it.
pub(crate) fn begin_connect(socket: &impl AsFd, address: SocketAddr) -> io::Result<Connection> {
    let fd = socket.as_fd().as_raw_fd();
    let connected = match address {
        SocketAddr::V4(address) => socket::connect(fd, &SockaddrIn::from(address)),
        SocketAddr::V6(address) => socket::connect(fd, &SockaddrIn6::from(address)),
    };
    match connected {
        Ok(()) => Ok(Connection::Established),
        // After a signal, the kernel goes on connecting: see connect(2).
        Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(Connection::InProgress),
        Err(errno) => Err(errno.into()),
    }
}

/// The error that is pending on a socket (`SO_ERROR`).
pub(crate) fn take_error(socket: &impl AsFd) -> io::Result<()> {
    match socket::getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

pub(crate) fn set_blocking(socket: impl AsFd, mode: Blocking) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(socket.as_fd(), FcntlArg::F_GETFL)?);
    let mut wanted = flags;
    wanted.set(OFlag::O_NONBLOCK, mode == Blocking::No);
    if wanted != flags {
        fcntl(socket.as_fd(), FcntlArg::F_SETFL(wanted))?;
    }
    Ok(())
}

/// Waits until some of the sockets are writable, or until a deadline. Returns their places, in order.
pub(crate) fn wait_writable(sockets: &[impl AsFd], until: Option<Instant>) -> io::Result<Vec<usize>> {
    let mut polled: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLOUT)).collect();
    loop {
        match poll(&mut polled, timeout_until(until)) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => break,
        }
    }
    let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
    Ok(polled.iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(at, _)| at).collect())
}
