//! Sockets of a namespace on the caller's own tokio runtime.
//!
//! **Promised:** the same as by [`call::sockets`](crate::call::sockets). The caller's runtime polls the socket;
//! dropping a future of this module closes every socket that it created.
//!
//! A name is looked up on a blocking thread of the caller's runtime, which makes a call into the namespace and waits.
//! Creating a socket is one short call, which the executor's thread makes itself.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::budget::{take_unit, with_budget};
use super::service::no_thread_or_resume;
use crate::call::socket_errors::{Failure, not_bound, not_connected, not_found};
use crate::call::sockets::{ATTEMPT_DELAY, interleave, resolve, without_brackets};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::socket::{self, Blocking, Transport};
use crate::unwind::catch;

/// The types that the asynchronous socket methods take for an address: those of [`std::net::ToSocketAddrs`], as values
/// that can be looked up later.
///
/// They are socket addresses, pairs of an IP address or a name and a port, text such as `"localhost:80"`, and
/// references to these. This trait is sealed.
pub trait IntoSocketAddrs: sealed::Sealed {}

mod sealed {
    use std::net::SocketAddr;

    /// Addresses, or a name to look up.
    #[derive(Clone, Debug)]
    pub enum Unresolved {
        Addresses(Vec<SocketAddr>),
        Host(String, u16),
        Text(String),
    }

    pub trait Sealed {
        fn unresolved(&self) -> Unresolved;
    }
}

use sealed::{Sealed, Unresolved};

macro_rules! into_socket_addrs {
    ($($type:ty, $address:pat => $unresolved:expr;)*) => {$(
        impl IntoSocketAddrs for $type {}
        impl Sealed for $type {
            fn unresolved(&self) -> Unresolved {
                let $address = self;
                $unresolved
            }
        }
    )*};
}

impl<A: IntoSocketAddrs + ?Sized> IntoSocketAddrs for &A {}
impl<A: Sealed + ?Sized> Sealed for &A {
    fn unresolved(&self) -> Unresolved {
        (**self).unresolved()
    }
}

fn numeric(address: impl Into<SocketAddr>) -> Unresolved {
    Unresolved::Addresses(vec![address.into()])
}

fn host(name: &str, port: u16) -> Unresolved {
    name.parse::<IpAddr>().map_or_else(|_| Unresolved::Host(name.to_owned(), port), |ip| numeric((ip, port)))
}

fn text(address: &str) -> Unresolved {
    address.parse::<SocketAddr>().map_or_else(|_| Unresolved::Text(address.to_owned()), numeric)
}

into_socket_addrs! {
    SocketAddr, address => numeric(*address);
    SocketAddrV4, address => numeric(*address);
    SocketAddrV6, address => numeric(*address);
    (IpAddr, u16), address => numeric(*address);
    (Ipv4Addr, u16), address => numeric(*address);
    (Ipv6Addr, u16), address => numeric(*address);
    [SocketAddr], addresses => Unresolved::Addresses(addresses.to_vec());
    Vec<SocketAddr>, addresses => Unresolved::Addresses(addresses.clone());
    (&str, u16), (name, port) => host(name, *port);
    (String, u16), (name, port) => host(name, *port);
    (&String, u16), (name, port) => host(name, *port);
    str, address => text(address);
    String, address => text(address);
}

impl NetNs {
    /// [`NetNs::tcp_listen`] on the caller's tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`NetNs::tcp_listen`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ns = in_netns::NetNs::new()?;
    /// let listener = ns.tcp_listen_async("127.0.0.1:80").await?;
    /// let (stream, accepted) = tokio::join!(ns.tcp_connect_async(listener.local_addr()?), listener.accept());
    /// assert_eq!(stream?.local_addr()?, accepted?.1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tcp_listen_async(&self, address: impl IntoSocketAddrs) -> io::Result<TcpListener> {
        let socket = self.bind_first_async(address, Transport::Tcp, socket::bind_and_listen);
        TcpListener::from_std(socket.await?.into())
    }

    /// [`NetNs::tcp_connect`] on the caller's tokio runtime. Dropping the future closes all its sockets.
    ///
    /// # Errors
    ///
    /// As [`NetNs::tcp_connect`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled; where there are several addresses, with its time driver
    /// as well.
    ///
    /// # Examples
    ///
    /// See [`NetNs::tcp_listen_async`].
    pub async fn tcp_connect_async(&self, address: impl IntoSocketAddrs) -> io::Result<TcpStream> {
        let addresses = interleave(&self.resolve_async(address).await?);
        let mut waiting = addresses.into_iter();
        let mut attempts: Vec<(SocketAddr, Attempt<'_>)> = Vec::new();
        let mut failures: Vec<Failure> = Vec::new();
        loop {
            let mut starts = false;
            if let Some(address) = waiting.next() {
                attempts.push((address, Box::pin(self.connect_async(address))));
                starts = true;
            } else if attempts.is_empty() {
                return Err(not_connected(self, failures));
            }
            // The next attempt begins when one fails, or after the delay if an address is left.
            // The timer is made when it is polled: a single address needs none.
            let mut delay = pin!(with_budget(async { tokio::time::sleep(ATTEMPT_DELAY).await }));
            let more = starts && waiting.len() > 0;
            let decided = poll_fn(|cx| {
                for at in (0..attempts.len()).rev() {
                    let (address, attempt) = &mut attempts[at];
                    let address = *address;
                    if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                        drop(attempts.remove(at));
                        return Poll::Ready(Some(result.map(|connected| connected.map_err(|error| (address, error)))));
                    }
                }
                if more { delay.as_mut().poll(cx).map(|()| None) } else { Poll::Pending }
            });
            match decided.await.transpose()? {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(failure)) => failures.push(failure),
                None => {}
            }
        }
    }

    /// [`NetNs::udp_bind`] on the caller's tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`NetNs::udp_bind`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ns = in_netns::NetNs::new()?;
    /// let dns = ns.udp_bind_async(("127.0.0.1", 53)).await?;
    /// assert_eq!(in_netns::NetNs::of_socket(&dns)?, ns);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn udp_bind_async(&self, address: impl IntoSocketAddrs) -> io::Result<UdpSocket> {
        let socket = self.bind_first_async(address, Transport::Udp, socket::bind);
        UdpSocket::from_std(socket.await?.into())
    }

    /// [`NetNs::lookup_host`] on a blocking thread of the caller's tokio runtime.
    ///
    /// Dropping the future does not end a look-up that runs: it keeps its threads and the namespace until it ends, and
    /// the drop of the runtime waits for it, as for [`tokio::net::lookup_host`]. So do the look-ups of the other
    /// methods, where an address has a name.
    ///
    /// # Errors
    ///
    /// As [`NetNs::lookup_host`], and where the runtime is shut down meanwhile.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn lookup_host_async(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.resolve_async((without_brackets(host), port)).await
    }

    async fn resolve_async(&self, address: impl IntoSocketAddrs) -> io::Result<Vec<SocketAddr>> {
        // Without this, the caller's task would not yield where there is no name to look up.
        take_unit().await;
        let unresolved = match address.unresolved() {
            Unresolved::Addresses(addresses) => return resolve(&*addresses),
            unresolved => unresolved,
        };
        let ns = self.clone();
        let look_up = move || {
            ns.run(|| {
                let (found, what) = match unresolved {
                    Unresolved::Host(name, port) => (resolve((&*name, port)), name),
                    Unresolved::Text(text) => (resolve(&*text), text),
                    Unresolved::Addresses(addresses) => return resolve(&*addresses),
                };
                found.map_err(|source| not_found(&ns, &format!("`{what}`"), source))
            })
        };
        // tokio panics where it can start no thread at all.
        let started = catch(|| tokio::task::spawn_blocking(look_up)).map_err(|payload| {
            Error::spawn_failed("a blocking thread of the caller's runtime", no_thread_or_resume(payload))
        });
        with_budget(started?).await.unwrap_or_else(|ended| {
            let why = format!("the runtime was shut down, or has dropped the look-up: {ended}");
            let operation = "look up a name on a blocking thread of the caller's tokio runtime";
            Err(Error::from_io(ErrorKind::Unsupported, operation, ended.into()).explained(why))
        })?
    }

    async fn bind_first_async(
        &self,
        address: impl IntoSocketAddrs,
        transport: Transport,
        prepare: impl Fn(&OwnedFd, SocketAddr) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        let mut failures: Vec<Failure> = Vec::new();
        for address in self.resolve_async(address).await? {
            let created = self.socket_for(address, transport, Blocking::No)?;
            match created.and_then(|socket| prepare(&socket, address).map(|()| socket)) {
                Ok(socket) => return Ok(socket),
                Err(error) => failures.push((address, error)),
            }
        }
        Err(not_bound(self, transport, failures))
    }

    /// Connects to one address. The outer error also ends the attempts at other addresses.
    async fn connect_async(&self, address: SocketAddr) -> Result<io::Result<TcpStream>, Error> {
        Ok(match self.socket_for(address, Transport::Tcp, Blocking::No)? {
            Ok(socket) => with_budget(TcpSocket::from_std_stream(socket.into()).connect(address)).await,
            Err(error) => Err(error),
        })
    }
}

/// An attempt to connect.
type Attempt<'n> = Pin<Box<dyn Future<Output = Result<io::Result<TcpStream>, Error>> + Send + 'n>>;
