//! The errors of sockets that are made in a namespace.
//!
//! **Promised:** the message names the operation, the address, the namespace and the cause. The kind is the one that
//! `std` has for the errno.
//!
//! **Why:** a program has sockets in many namespaces, with the same addresses. "Connection refused" does not tell
//! where.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::socket::Transport;

/// An address that could not be used, and why.
pub(crate) type Failure = (SocketAddr, io::Error);

/// A socket that `socket(2)` did not create.
pub(crate) fn not_created(ns: &NetNs, source: io::Error) -> io::Error {
    explained(format!("create a socket in {ns}"), source, |errno| cause_of_creation(errno).map(str::to_owned))
}

/// None of some addresses could be connected to. The error is that of the last failure.
pub(crate) fn not_connected(ns: &NetNs, failures: Vec<Failure>) -> io::Error {
    last_of(failures, |address| format!("connect to {address} from {ns}"), cause_of_connection)
}

/// None of some addresses could be bound. The error is that of the last failure.
pub(crate) fn not_bound(ns: &NetNs, transport: Transport, failures: Vec<Failure>) -> io::Error {
    let operation = |address| match transport {
        Transport::Tcp => format!("listen on {address} in {ns}"),
        Transport::Udp => format!("bind a UDP socket to {address} in {ns}"),
    };
    last_of(failures, operation, |errno, address| match (errno, transport) {
        (Errno::EINVAL, Transport::Tcp) if is_for_many(address) => Some("TCP does not listen on multicast addresses"),
        _ => cause_of_binding(errno, address),
    })
}

/// A name that could not be looked up. What is no name is an error of the argument, which stays as it is.
pub(crate) fn not_found(ns: &NetNs, name: &str, source: io::Error) -> io::Error {
    if source.kind() == io::ErrorKind::InvalidInput {
        return source;
    }
    let operation = format!("look up {name} in {ns}");
    if source.raw_os_error().is_some() {
        return Error::from_std(operation, source).into();
    }
    let mut text = source.to_string();
    // Of glibc and of musl.
    if text.ends_with("Temporary failure in name resolution") || text.ends_with("Try again") {
        text +=
            ", where the name servers of /etc/resolv.conf are asked from inside the namespace: see `ip route` there";
    } else if name.contains('%') {
        text += ", where an interface after the percent sign is one of the namespace: see `ip link` there";
    }
    Error::from_io(ErrorKind::Other, operation, source).explained(text).into()
}

/// No address is given, or a name has none.
pub(crate) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
}

fn last_of(
    mut failures: Vec<Failure>,
    operation: impl Fn(SocketAddr) -> String,
    cause: impl Fn(Errno, SocketAddr) -> Option<&'static str>,
) -> io::Error {
    let Some((address, source)) = failures.pop() else { return no_address() };
    explained(operation(address), source, |errno| {
        let cause = cause(errno, address).map(str::to_owned);
        if failures.is_empty() {
            return cause;
        }
        let others = failures.iter().map(|(address, error)| format!("{address}: {error}"));
        let others = others.collect::<Vec<_>>().join(", ");
        Some(format!("{}; the other addresses failed as well ({others})", cause.unwrap_or_else(|| errno.desc().into())))
    })
}

fn explained(operation: String, source: io::Error, cause: impl FnOnce(Errno) -> Option<String>) -> io::Error {
    // An error without an errno is one of tokio, whose runtime has been shut down.
    let errno = source.raw_os_error().map(Errno::from_raw);
    Error::from_std(operation, source).explain(|_| errno.and_then(cause)).into()
}

fn cause_of_creation(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EAFNOSUPPORT => NO_FAMILY,
        Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT | Errno::EPROTOTYPE => {
            "this family of sockets has no such kind or protocol in this kernel; its module may not be loaded"
        }
        Errno::EINVAL => "the family, kind, flags or protocol of the socket is not valid",
        Errno::EPERM | Errno::EACCES => {
            "raw and packet sockets take CAP_NET_RAW in the user namespace that owns the network namespace, and ICMP \
             sockets (SOCK_DGRAM) a group of `sysctl net.ipv4.ping_group_range` of the namespace; a seccomp filter or \
             a security module may refuse others"
        }
        _ => return None,
    })
}

fn cause_of_connection(errno: Errno, address: SocketAddr) -> Option<&'static str> {
    Some(match errno {
        Errno::ECONNREFUSED => "nothing listens at that address, or a firewall refuses the connection",
        Errno::ENETUNREACH if is_loopback(address) => {
            "the loopback of the namespace is down (`ip link set lo up` inside), or lacks that address (`ip address` \
             inside)"
        }
        // A loopback that was up before keeps its routes.
        Errno::ETIMEDOUT if is_loopback(address) => {
            "the loopback of the namespace is down (`ip link set lo up` inside), a firewall drops the packets, or the \
             listener does not accept connections (`ss -ltn` inside)"
        }
        Errno::ENETUNREACH if is_for_many(address) => "TCP does not connect to multicast or broadcast addresses",
        Errno::ENETUNREACH => "the namespace has no route to it, as where its links are down (`ip route` inside)",
        Errno::EHOSTUNREACH => {
            "no host of that address answers (`ip neigh` inside), or a route or a router refuses the connection"
        }
        Errno::ETIMEDOUT => "the host did not answer, or a firewall drops the packets",
        Errno::EADDRNOTAVAIL if address.ip() == Ipv6Addr::LOCALHOST => {
            "the loopback of the namespace is down (`ip link set lo up` inside), IPv6 is disabled there (`sysctl \
             net.ipv6.conf.lo.disable_ipv6` inside), or no local port is free (`sysctl net.ipv4.ip_local_port_range` \
             inside)"
        }
        Errno::EADDRNOTAVAIL => {
            "no local port is free (`sysctl net.ipv4.ip_local_port_range` inside), or the namespace has no address to \
             connect from (`ip address` inside)"
        }
        Errno::EINVAL if lacks_interface(address) => LACKS_INTERFACE,
        Errno::EINVAL => "a route of the namespace discards the packets (`blackhole`; see `ip route` inside)",
        Errno::EPERM | Errno::EACCES => {
            "a firewall or a route of the namespace refuses the connection (`ip route` inside), or a security module \
             or a seccomp filter does"
        }
        Errno::EAFNOSUPPORT => NO_FAMILY,
        _ => return None,
    })
}

fn cause_of_binding(errno: Errno, address: SocketAddr) -> Option<&'static str> {
    Some(match errno {
        Errno::EADDRINUSE if address.port() == 0 => "no port is free (`sysctl net.ipv4.ip_local_port_range` inside)",
        Errno::EADDRINUSE => "another socket of the namespace has that port (`ss -an` inside)",
        Errno::EADDRNOTAVAIL if is_loopback(address) => {
            "the loopback of the namespace lacks that address, as where it is down (`ip link set lo up` inside) or \
             IPv6 is disabled"
        }
        Errno::EADDRNOTAVAIL => {
            "no interface of the namespace has that address (`ip address` inside), or it is one of IPv6 that is still \
             checked for duplicates (`tentative`; add it with `nodad`)"
        }
        Errno::EINVAL if lacks_interface(address) => LACKS_INTERFACE,
        Errno::ENODEV => "the namespace has no interface of that number",
        Errno::EACCES if address.port() != 0 => {
            "a port below `sysctl net.ipv4.ip_unprivileged_port_start` of the namespace takes CAP_NET_BIND_SERVICE in \
             the user namespace that owns it"
        }
        Errno::EAFNOSUPPORT => NO_FAMILY,
        _ => return None,
    })
}

const NO_FAMILY: &str = "the kernel does not have this family of sockets (its module may not be loaded), or has it in \
                         the first network namespace of the machine alone, or a seccomp filter refuses it \
                         (`RestrictAddressFamilies=` of a systemd unit)";

const LACKS_INTERFACE: &str = "a link-local address takes the interface as well, as in `fe80::1%eth0`";

/// Also of an IPv4 address in one of IPv6.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The broadcast addresses of networks look like others.
fn is_for_many(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn lacks_interface(address: SocketAddr) -> bool {
    match (address, address.ip()) {
        (SocketAddr::V6(address), IpAddr::V6(ip)) => {
            // The last four bits are the scope.
            let is_multicast = ip.is_multicast() && ip.segments()[0] & 0xf == 2;
            address.scope_id() == 0 && (ip.is_unicast_link_local() || is_multicast)
        }
        _ => false,
    }
}
