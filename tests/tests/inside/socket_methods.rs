//! Sockets that the methods of `NetNs` create inside, and that are used from outside.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{Holder, NetNs};
use in_netns_tests::{BOUND, here, home, threads_in, wait_until};
use nix::libc;

const SERVER: &str = "127.0.0.1:4242";

/// A TCP server that sends its own name to each client, on a thread at home.
fn serve(ns: &NetNs, name: usize) {
    let listener = ns.tcp_listen(SERVER).unwrap();
    assert_eq!(NetNs::of_socket(&listener).unwrap(), *ns);
    thread::spawn(move || {
        for stream in listener.incoming() {
            write!(stream.unwrap(), "{name}").unwrap();
        }
    });
}

fn read_name(mut stream: TcpStream) -> usize {
    let mut name = String::new();
    stream.read_to_string(&mut name).unwrap();
    name.parse().unwrap()
}

#[test]
fn each_namespace_has_its_own_server_on_the_same_address_and_the_caller_stays_at_home() {
    let spaces: Vec<NetNs> = (0..16).map(|_| NetNs::new().unwrap()).collect();
    for (name, ns) in spaces.iter().enumerate() {
        serve(ns, name);
    }
    for (name, ns) in spaces.iter().enumerate() {
        assert_eq!(read_name(ns.tcp_connect(SERVER).unwrap()), name);
        assert_eq!(here(), home());
    }
    for ns in &spaces {
        assert_eq!(threads_in(ns), [] as [u32; 0]);
    }
}

#[test]
fn a_socket_of_any_kind_belongs_to_the_namespace_and_is_close_on_exec() {
    let ns = NetNs::new().unwrap();
    let netlink = ns.socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap();
    let udp = ns.udp_bind(("localhost", 0)).unwrap();
    assert_eq!(NetNs::of_socket(&netlink).unwrap(), ns);
    assert_eq!(NetNs::of_socket(&udp).unwrap(), ns);
    for socket in [netlink.as_fd(), udp.as_fd()] {
        let flags = nix::fcntl::fcntl(socket, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    // An abstract Unix socket sees only its own namespace.
    let unix = ns.socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(NetNs::of_socket(&unix).unwrap(), ns);
}

#[test]
fn an_address_that_cannot_be_bound_is_followed_by_the_next_one() {
    let ns = NetNs::new().unwrap();
    let elsewhere: SocketAddr = "203.0.113.1:80".parse().unwrap();
    let here: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let listener = ns.tcp_listen(&[elsewhere, here][..]).unwrap();
    assert_eq!(listener.local_addr().unwrap(), here);
    assert_eq!(ns.udp_bind(&[elsewhere, here][..]).unwrap().local_addr().unwrap(), here);
    // The last error is returned, and an empty list of addresses is an error.
    assert_eq!(ns.tcp_listen(here).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(ns.udp_bind(elsewhere).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    assert_eq!(ns.tcp_connect(&[] as &[SocketAddr]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A listener whose queue is full: the kernel drops incoming connections without an answer.
fn black_hole(ns: &NetNs, address: &str) -> (TcpListener, Vec<TcpStream>) {
    let listener = ns.tcp_listen(address).unwrap();
    // A later listen() sets the length of the queue.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut connected = Vec::new();
    ns.run(|| {
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            connected.push(stream);
        }
    })
    .unwrap();
    (listener, connected)
}

#[test]
fn an_address_that_does_not_answer_is_overtaken_by_one_of_the_other_family() {
    let ns = NetNs::new().unwrap();
    let hole = black_hole(&ns, "[::1]:4242");
    serve(&ns, 7);
    let addresses: [SocketAddr; 2] = ["[::1]:4242".parse().unwrap(), SERVER.parse().unwrap()];
    let start = Instant::now();
    let stream = ns.tcp_connect(&addresses[..]).unwrap();
    // The kernel alone would try the first address for two minutes.
    assert!(start.elapsed() < BOUND);
    assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    assert_eq!(read_name(stream), 7);
    // The delay before the second address is 250 ms; a busy machine adds to it now and then.
    let connects_in_time = || {
        let start = Instant::now();
        read_name(ns.tcp_connect(&addresses[..]).unwrap());
        (Duration::from_millis(250)..Duration::from_millis(300)).contains(&start.elapsed())
    };
    wait_until("a connection within 300 ms", connects_in_time);
    drop(hole);
}

/// An address whose look-up changes what no restore undoes.
struct Meddler(SocketAddr);

impl std::net::ToSocketAddrs for Meddler {
    type Iter = std::option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> std::io::Result<Self::Iter> {
        nix::sys::prctl::set_no_new_privs()?;
        Ok(Some(self.0).into_iter())
    }
}

/// A subscriber that does so when a span is entered on another thread than the caller's.
struct MeddlingSubscriber {
    caller: u32,
    /// Of the only span.
    metadata: std::sync::OnceLock<&'static tracing::Metadata<'static>>,
}

impl tracing::Subscriber for MeddlingSubscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        self.metadata.set(span.metadata()).expect("one span");
        tracing::span::Id::from_u64(1)
    }

    fn current_span(&self) -> tracing_core::span::Current {
        let current = |metadata| tracing_core::span::Current::new(tracing::span::Id::from_u64(1), metadata);
        self.metadata.get().map_or_else(tracing_core::span::Current::none, |metadata| current(metadata))
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &tracing::span::Id) {
        if in_netns_tests::tid() != self.caller {
            nix::sys::prctl::set_no_new_privs().unwrap();
        }
    }

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn user_code_beside_a_socket_is_inspected() {
    let ns = NetNs::new().unwrap();
    let retires_a_thread = |meddle: &dyn Fn()| {
        let before = in_netns::pool_stats().retired_total;
        meddle();
        wait_until("the thread is retired", || in_netns::pool_stats().retired_total > before);
    };
    retires_a_thread(&|| drop(ns.udp_bind(Meddler("127.0.0.1:0".parse().unwrap())).unwrap()));
    let subscriber = MeddlingSubscriber { caller: in_netns_tests::tid(), metadata: std::sync::OnceLock::new() };
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("outer").in_scope(|| {
            retires_a_thread(&|| drop(ns.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap()));
        });
    });
    for _ in 0..3 {
        assert!(!ns.run(|| nix::sys::prctl::get_no_new_privs().unwrap()).unwrap());
    }
}

#[test]
fn an_interface_in_an_address_is_one_of_the_namespace() {
    let ns = NetNs::new().unwrap();
    for arguments in [
        &["link", "add", "scoped0", "type", "veth", "peer", "name", "scoped1"][..],
        &["address", "add", "fe80::1/64", "dev", "scoped0", "nodad"],
        &["link", "set", "scoped0", "up"],
        &["link", "set", "scoped1", "up"],
    ] {
        assert!(ns.command("ip").args(arguments).status().unwrap().success(), "{arguments:?}");
    }
    let host = "fe80::1%scoped0";
    std::net::ToSocketAddrs::to_socket_addrs(&(host, 0)).expect_err("there is no such interface at home");
    let index = ns.run(|| nix::net::if_::if_nametoindex("scoped0").unwrap()).unwrap();
    let [SocketAddr::V6(found)] = ns.lookup_host(host, 80).unwrap()[..] else { panic!("one address") };
    assert_eq!(found.scope_id(), index);

    let listener = ns.tcp_listen((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = ns.tcp_connect((host, port)).unwrap();
    assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
    ns.udp_bind((host, 0)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(ns.tcp_connect_async((host, port))).unwrap();
    assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
}

#[test]
fn an_address_that_refuses_is_followed_at_once_and_the_last_refusal_is_returned() {
    let ns = NetNs::new().unwrap();
    let refusing: [SocketAddr; 3] = ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"].map(|text| text.parse().unwrap());
    assert_eq!(ns.tcp_connect(&refusing[..]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ns.tcp_connect(refusing[0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    serve(&ns, 9);
    let addresses = [refusing[0], refusing[1], SERVER.parse().unwrap()];
    assert_eq!(read_name(ns.tcp_connect(&addresses[..]).unwrap()), 9);
}

#[test]
fn an_error_names_the_operation_the_address_the_namespace_and_the_cause() {
    let ns = NetNs::new().unwrap();
    let _held = ns.tcp_listen("127.0.0.1:80").unwrap();
    let _held_too = ns.udp_bind("127.0.0.1:80").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let expect = |error: std::io::Error, kind: ErrorKind, operation: &str, cause: &str, errno: i32| {
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot {operation} {ns}: ")) && text.contains(cause), "{text}");
        assert_eq!(error.kind(), kind, "{text}");
        let error = error.get_ref().unwrap().downcast_ref::<in_netns::Error>().unwrap();
        assert_eq!(error.raw_os_error(), Some(errno), "{text}");
    };
    let connect = |address: &str| {
        [
            ns.tcp_connect(address),
            runtime.block_on(ns.tcp_connect_async(address)).and_then(tokio::net::TcpStream::into_std),
        ]
        .map(Result::unwrap_err)
    };
    let listen = |address: &str| {
        [
            ns.tcp_listen(address),
            runtime.block_on(ns.tcp_listen_async(address)).and_then(tokio::net::TcpListener::into_std),
        ]
        .map(Result::unwrap_err)
    };
    let bind = |address: &str| {
        [ns.udp_bind(address), runtime.block_on(ns.udp_bind_async(address)).and_then(tokio::net::UdpSocket::into_std)]
            .map(Result::unwrap_err)
    };

    let connections = [
        ("127.0.0.1:1", ErrorKind::ConnectionRefused, "nothing listens", libc::ECONNREFUSED),
        ("192.0.2.1:1", ErrorKind::NetworkUnreachable, "`ip route`", libc::ENETUNREACH),
        ("[fe80::1]:1", ErrorKind::InvalidInput, "fe80::1%eth0", libc::EINVAL),
        ("198.51.100.1:1", ErrorKind::InvalidInput, "`blackhole`", libc::EINVAL),
        ("203.0.113.1:1", ErrorKind::PermissionDenied, "a route", libc::EACCES),
    ];
    for route in ["blackhole 198.51.100.0/24", "prohibit 203.0.113.0/24"] {
        let arguments = ["route", "add"].into_iter().chain(route.split(' '));
        assert!(ns.command("ip").args(arguments).status().unwrap().success(), "{route}");
    }
    for (address, kind, cause, errno) in connections {
        for error in connect(address) {
            expect(error, kind, &format!("connect to {address} from"), cause, errno);
        }
    }
    for error in listen("127.0.0.1:80") {
        expect(error, ErrorKind::AddrInUse, "listen on 127.0.0.1:80 in", "another socket", libc::EADDRINUSE);
    }
    for error in listen("192.0.2.1:80") {
        expect(error, ErrorKind::AddrNotAvailable, "listen on 192.0.2.1:80 in", "`ip address`", libc::EADDRNOTAVAIL);
    }
    for error in bind("127.0.0.1:80") {
        let operation = "bind a UDP socket to 127.0.0.1:80 in";
        expect(error, ErrorKind::AddrInUse, operation, "another socket", libc::EADDRINUSE);
    }
    // One local port, which a socket has.
    let range = "cd /proc/sys/net/ipv4 && echo 0 > ip_unprivileged_port_start && echo 80 80 > ip_local_port_range";
    assert!(ns.command("sh").args(["-c", range]).status().unwrap().success());
    for error in bind("127.0.0.1:0") {
        let operation = "bind a UDP socket to 127.0.0.1:0 in";
        expect(error, ErrorKind::AddrInUse, operation, "no port is free", libc::EADDRINUSE);
    }
    for error in connect("127.0.0.1:80") {
        let operation = "connect to 127.0.0.1:80 from";
        expect(error, ErrorKind::AddrNotAvailable, operation, "no local port is free", libc::EADDRNOTAVAIL);
    }
    let error = ns.socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_UDP).unwrap_err();
    let kind = std::io::Error::from_raw_os_error(libc::EPROTONOSUPPORT).kind();
    expect(error, kind, "create a socket in", "no such kind or protocol", libc::EPROTONOSUPPORT);
}

#[test]
fn the_error_where_the_loopback_is_down_says_so() {
    let unshared = thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        NetNs::from_path("/proc/thread-self/ns/net").unwrap()
    });
    let ns = unshared.join().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (address, kind) in [("127.0.0.1:80", ErrorKind::NetworkUnreachable), ("[::1]:80", ErrorKind::AddrNotAvailable)]
    {
        let connected_async = runtime.block_on(ns.tcp_connect_async(address)).map(drop);
        for error in [ns.tcp_connect(address).map(drop), connected_async].map(Result::unwrap_err) {
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("`ip link set lo up`"), "{error}");
        }
    }
    let error = ns.udp_bind("[::1]:80").unwrap_err();
    assert!(error.to_string().contains("`ip link set lo up`"), "{error}");
}

#[test]
fn the_error_does_not_say_that_links_are_down_which_are_up() {
    let ns = NetNs::new().unwrap();
    let text = |address: &str| ns.tcp_connect(address).unwrap_err().to_string();
    for address in ["224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1"] {
        let text = text(address);
        assert!(text.contains("multicast or broadcast") && !text.contains("down"), "{text}");
    }
    let listening = ns.tcp_listen("[ff02::1]:1").unwrap_err().to_string();
    assert!(listening.contains("multicast"), "{listening}");
    let bound = ns.udp_bind("[ff02::1]:1").unwrap_err().to_string();
    assert!(bound.contains("takes the interface"), "{bound}");
    // The loopback is up.
    assert!(ns.command("ip").args(["address", "del", "::1/128", "dev", "lo"]).status().unwrap().success());
    for text in [text("[::1]:1"), ns.udp_bind("[::1]:1").unwrap_err().to_string()] {
        assert!(text.contains("IPv6 is disabled"), "{text}");
    }
    assert!(ns.command("ip").args(["address", "del", "127.0.0.1/8", "dev", "lo"]).status().unwrap().success());
    for text in [text("127.0.0.1:1"), text("[::ffff:127.0.0.1]:1")] {
        assert!(text.contains("lacks that address"), "{text}");
    }
}

#[test]
fn the_error_of_several_addresses_names_all_of_them() {
    let ns = NetNs::new().unwrap();
    let addresses: [SocketAddr; 3] = ["192.0.2.1:1", "[::1]:1", "127.0.0.1:1"].map(|text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connected = ns.tcp_connect(&addresses[..]).map(drop);
    let connected_async = runtime.block_on(ns.tcp_connect_async(&addresses[..])).map(drop);
    let elsewhere = &addresses[..1].repeat(2)[..];
    for result in [connected, connected_async] {
        let error = result.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{text}");
        assert!(addresses.iter().all(|address| text.contains(&address.to_string())), "{text}");
    }
    let bound_async = runtime.block_on(ns.udp_bind_async(elsewhere)).map(drop);
    for result in [ns.tcp_listen(elsewhere).map(drop), ns.udp_bind(elsewhere).map(drop), bound_async] {
        assert_eq!(result.unwrap_err().to_string().matches("192.0.2.1:1").count(), 2);
    }
}

#[test]
fn the_error_of_a_name_names_it_and_the_namespace() {
    let ns = NetNs::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for name in ["no-such-name.invalid", "fe80::1%no-such-link"] {
        let looked_up = ns.lookup_host(name, 1).unwrap_err();
        let looked_up_async = runtime.block_on(ns.lookup_host_async(name, 1)).unwrap_err();
        let connected_async = runtime.block_on(ns.tcp_connect_async((name, 1))).unwrap_err();
        for error in [looked_up, looked_up_async, connected_async] {
            assert!(error.to_string().starts_with(&format!("cannot look up `{name}` in {ns}: ")), "{error}");
        }
        let error = ns.tcp_connect((name, 1)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot look up the address in {ns}: ")), "{error}");
    }
    // What is no address, and what the user's own conversion returns, stays as it is.
    assert!(ns.tcp_connect("no-port").unwrap_err().to_string().starts_with("invalid socket address"));
    let error = ns.tcp_connect(Unknown).unwrap_err();
    assert_eq!(error.to_string(), "an error of the user");
}

/// An address whose conversion fails.
struct Unknown;

impl std::net::ToSocketAddrs for Unknown {
    type Iter = std::option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> std::io::Result<Self::Iter> {
        Err(std::io::Error::other("an error of the user"))
    }
}

#[test]
fn connected_sockets_block_and_belong_to_the_namespace() {
    let ns = NetNs::new().unwrap();
    let listener = ns.tcp_listen("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [("localhost", port), ("::1", port)] {
        let stream = ns.tcp_connect(address).unwrap();
        let flags = nix::fcntl::fcntl(&stream, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        assert_eq!(NetNs::of_socket(&stream).unwrap(), ns);
        assert_eq!(NetNs::of_socket(listener.accept().unwrap().0).unwrap(), ns);
    }
}

#[test]
fn names_and_addresses_in_brackets_are_looked_up() {
    let ns = NetNs::new().unwrap();
    let found = ns.lookup_host("localhost", 80).unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
    assert_eq!(ns.lookup_host("[::1]", 80).unwrap(), ["[::1]:80".parse().unwrap()]);
    ns.lookup_host("no-such-name.invalid", 80).unwrap_err();
}

mod asynchronous {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_runtime_at_home_reaches_the_server_of_each_namespace() {
        let spaces: Vec<NetNs> = (0..16).map(|_| NetNs::new().unwrap()).collect();
        let mut tasks = Vec::new();
        for (name, ns) in spaces.into_iter().enumerate() {
            serve(&ns, name);
            tasks.push(tokio::spawn(async move {
                let stream = ns.tcp_connect_async(SERVER).await.unwrap();
                assert_eq!(NetNs::of_socket(&stream).unwrap(), ns);
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                (name, read_name(stream))
            }));
        }
        for task in tasks {
            let (name, read) = task.await.unwrap();
            assert_eq!(read, name);
        }
    }

    #[tokio::test]
    async fn every_form_of_an_address_is_taken() {
        let ns = NetNs::new().unwrap();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let name = "localhost".to_owned();
        ns.udp_bind_async(SocketAddr::from((ip, 0))).await.unwrap();
        ns.udp_bind_async((ip, 0)).await.unwrap();
        ns.udp_bind_async(("127.0.0.1", 0)).await.unwrap();
        ns.udp_bind_async((&name, 0)).await.unwrap();
        ns.udp_bind_async("localhost:0").await.unwrap();
        ns.udp_bind_async(&[SocketAddr::from((ip, 0))][..]).await.unwrap();
        ns.udp_bind_async(&vec![SocketAddr::from((ip, 0))]).await.unwrap();
        // References, as `ToSocketAddrs` takes them.
        ns.udp_bind_async(&(ip, 0)).await.unwrap();
        ns.udp_bind_async(&(&*name, 0)).await.unwrap();
        ns.udp_bind_async(&(name.clone(), 0)).await.unwrap();
        ns.udp_bind_async(&&"localhost:0").await.unwrap();
        ns.udp_bind_async(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        assert!(ns.lookup_host_async(&name, 1).await.unwrap().contains(&SocketAddr::from((ip, 1))));
        ns.lookup_host_async("no-such-name.invalid", 1).await.unwrap_err();
    }

    #[test]
    fn one_address_is_connected_to_without_a_clock() {
        let ns = NetNs::new().unwrap();
        serve(&ns, 3);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let stream = runtime.block_on(ns.tcp_connect_async(SERVER)).unwrap();
        assert_eq!(NetNs::of_socket(&stream).unwrap(), ns);
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_half_way_leaves_no_socket() {
        let ns = NetNs::new().unwrap();
        let (listener, held) = black_hole(&ns, "[::1]:4242");
        let sockets = |ns: &NetNs| {
            ns.holders().unwrap().into_iter().filter(|holder| matches!(holder, Holder::Socket { .. })).count()
        };
        let before = sockets(&ns);
        let addresses: [SocketAddr; 2] = [listener.local_addr().unwrap(), listener.local_addr().unwrap()];
        let connect = ns.tcp_connect_async(&addresses[..]);
        assert!(tokio::time::timeout(Duration::from_millis(400), connect).await.is_err());
        assert_eq!(sockets(&ns), before);
        drop((listener, held));
    }

    /// The recipe of the guide: the body runs with the caller's runtime current.
    #[tokio::test]
    async fn a_connection_of_rtnetlink_is_made_inside_and_served_by_the_callers_runtime() {
        use futures::TryStreamExt as _;
        let ns = NetNs::new().unwrap();
        let (connection, handle, _messages) = ns.try_run(rtnetlink::new_connection).unwrap();
        tokio::spawn(connection);
        assert_eq!(here(), home());
        let links: Vec<_> = handle.link().get().execute().try_collect().await.unwrap();
        assert_eq!(links.len(), 1, "loopback alone");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_overtaken() {
        let ns = NetNs::new().unwrap();
        let hole = black_hole(&ns, "[::1]:4242");
        serve(&ns, 7);
        let addresses: [SocketAddr; 2] = ["[::1]:4242".parse().unwrap(), SERVER.parse().unwrap()];
        let stream = tokio::time::timeout(BOUND, ns.tcp_connect_async(&addresses[..])).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        drop(hole);
    }

    #[tokio::test]
    async fn sockets_are_served_by_the_callers_runtime() {
        let ns = NetNs::new().unwrap();
        let dns = ns.udp_bind_async("127.0.0.1:53").await.unwrap();
        let client = ns.udp_bind_async("127.0.0.1:0").await.unwrap();
        client.send_to(b"question", "127.0.0.1:53").await.unwrap();
        let (length, from) = dns.recv_from(&mut [0; 16]).await.unwrap();
        assert_eq!((length, from), (8, client.local_addr().unwrap()));
        assert_eq!(here(), home());
        // No resource of the calls is left.
        drop((dns, client));
        wait_until("the namespace has no holder", || ns.holders().unwrap().is_empty());
        let at_home = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_ne!(NetNs::of_socket(&at_home).unwrap(), ns);
    }
}
