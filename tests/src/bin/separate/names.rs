//! Shows where DNS queries of a body go: a listener inside receives them, and a listener at home receives none,
//! whichever function sends them.
//!
//! The process has a home of its own, with a name server and a web server on its loopback, and a namespace with the
//! same. The server that receives a query shows where the query was sent.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use in_netns::{NetNs, in_netns, pool_stats, with_netns, with_netns_async};
use in_netns_examples::dns;
use in_netns_examples::netlink::Netlink;
use in_netns_tests::{become_root_of_a_user_namespace, threads_in, wait_until};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task;

const NAME: &str = "pod.in-netns.test";

/// The header in which a web server names its place.
const PLACE: &str = "x-place";

pub(crate) fn main() {
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
    ask_loopback();
    bring_loopback_up();
    let ns = NetNs::new().expect("the user namespace may make network namespaces");
    let servers = Servers {
        inside: Server::start("inside", ns.run(sockets).expect("inside")),
        home: Server::start("home", sockets()),
    };
    // One blocking thread, started here, so that none is started from inside.
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).max_blocking_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(inside(&ns, &servers));
    outside(&ns, &servers, &runtime);
}

/// All of these queries stay inside.
async fn inside(ns: &NetNs, servers: &Servers) {
    let case = |name| Case { name, ns, servers, questions: [1, 0], requests: [0, 0] };
    case("lookup_host").check(with_netns_async(ns, || async { look_up().await }).await);
    case("getaddrinfo in spawn_blocking").check(with_netns_async(ns, || async { get_address_blocking().await }).await);
    case("getaddrinfo on the body's own thread").check(with_netns_async(ns, || async { get_address() }).await);
    case("lookup_host in a task").check(ns.run_async(|| async { task::spawn(look_up()).await? }).await);
    case("the attribute").check(Ok(attribute(ns).await));
    case("the attribute, owned").check(Ok(owned(ns.clone()).await));
    case("spawn_async").check(Ok(ns.spawn_async(|| async { look_up().await }).await.expect("it ran")));
    case("a synchronous body").check(with_netns(ns, get_address));
    case("a runtime in a synchronous body")
        .check(with_netns(ns, || Builder::new_current_thread().enable_all().build()?.block_on(look_up())));
    let service = ns.tokio_builder().build().expect("a runtime inside");
    let found = service.spawn(look_up()).await.expect("it ran");
    service.shutdown_background();
    wait_until("the service's threads are gone", || threads_in(ns).is_empty());
    case("a task of a service").check(Ok(found));
    case("NetNs::lookup_host").check(Ok(ns.lookup_host(NAME, 80).map(|found| is_loopback(&found))));
    case("NetNs::lookup_host_async").check(Ok(ns.lookup_host_async(NAME, 80).await.map(|found| is_loopback(&found))));
    case("NetNs::udp_bind").check(Ok(ns.udp_bind((NAME, 0)).map(drop)));
    case("NetNs::udp_bind_async").check(Ok(ns.udp_bind_async((NAME, 0)).await.map(drop)));
    Case { requests: [1, 0], ..case("NetNs::tcp_connect") }.check(Ok(ns.tcp_connect((NAME, 80)).and_then(ask)));
    let connected = ns.tcp_connect_async((NAME, 80)).await.and_then(|stream| {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        ask(stream)
    });
    Case { requests: [1, 0], ..case("NetNs::tcp_connect_async") }.check(Ok(connected));
    case("NetNs::command").check(Ok(ns.command("getent").args(["hosts", NAME]).status().map(|status| {
        assert!(status.success());
    })));
    Case { requests: [1, 0], ..case("a client that looks up and spawns") }
        .check(with_netns_async(ns, || async { fetch().await.map(|place| assert_eq!(place, "inside")) }).await);
}

/// These queries do not. They show that the listener at home works; otherwise the cases above would prove nothing.
fn outside(ns: &NetNs, servers: &Servers, runtime: &Runtime) {
    let case = |name| Case { name, ns, servers, questions: [0, 1], requests: [0, 0] };
    runtime.block_on(async {
        case("at home").check(Ok(look_up().await));
        // The body is polled inside, but the look-up runs on the blocking pool of the current runtime, which is the
        // caller's.
        case("the caller's runtime").check(with_netns(ns, || Handle::current().block_on(look_up())));
        Case { requests: [0, 1], ..case("a client at home") }
            .check(Ok(fetch().await.map(|place| assert_eq!(place, "home"))));
    });
}

async fn look_up() -> io::Result<()> {
    let found: Vec<_> = tokio::net::lookup_host((NAME, 80)).await?.collect();
    assert_eq!(found, [(Ipv4Addr::LOCALHOST, 80).into()]);
    Ok(())
}

fn is_loopback(found: &[SocketAddr]) {
    assert_eq!(found, [(Ipv4Addr::LOCALHOST, 80).into()]);
}

/// Asks the web server at the other end for its place.
fn ask(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.contains("x-place: inside"), "{answer}");
    Ok(())
}

fn get_address() -> io::Result<()> {
    let found: Vec<_> = (NAME, 80).to_socket_addrs()?.collect();
    assert_eq!(found, [(Ipv4Addr::LOCALHOST, 80).into()]);
    Ok(())
}

async fn get_address_blocking() -> io::Result<()> {
    task::spawn_blocking(get_address).await?
}

#[in_netns(ns)]
async fn attribute(ns: &NetNs) -> io::Result<()> {
    look_up().await?;
    task::spawn_blocking(get_address).await?
}

#[in_netns(ns, owned)]
async fn owned(ns: NetNs) -> io::Result<()> {
    look_up().await
}

/// Returns the name of the web server that answers.
async fn fetch() -> io::Result<String> {
    let client: Client<_, String> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(format!("http://{NAME}/").parse().expect("an address")).await.map_err(io::Error::other)?;
    Ok(answer.headers()[PLACE].to_str().expect("a word").to_owned())
}

struct Case<'c> {
    name: &'c str,
    ns: &'c NetNs,
    servers: &'c Servers,
    /// The expected queries at the server inside and at the one at home: 0 means none, 1 means at least one.
    questions: [usize; 2],
    requests: [usize; 2],
}

impl Case<'_> {
    #[track_caller]
    fn check(&self, outcome: Result<io::Result<()>, in_netns::Error>) {
        let Case { name, ns, servers, questions, requests } = self;
        outcome.expect("it can be entered").unwrap_or_else(|error| panic!("{name}: {error}"));
        let heard = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst).min(1);
        let Servers { inside, home } = servers;
        assert_eq!([heard(&inside.questions), heard(&home.questions)], *questions, "{name}: questions");
        assert_eq!([heard(&inside.requests), heard(&home.requests)], *requests, "{name}: requests");
        assert_eq!(threads_in(ns), [] as [u32; 0], "{name}");
        assert_eq!(pool_stats().leased, 0, "{name}");
    }
}

struct Servers {
    inside: Server,
    home: Server,
}

/// A name server and a web server.
struct Server {
    questions: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// The sockets stay in the namespace in which they were created.
    fn start(place: &'static str, (names, pages): (UdpSocket, TcpListener)) -> Server {
        let server = Server { questions: Arc::default(), requests: Arc::default() };
        let (questions, requests) = (Arc::clone(&server.questions), Arc::clone(&server.requests));
        thread::spawn(move || dns::answer(&names, Ipv4Addr::LOCALHOST, &questions));
        thread::spawn(move || {
            for stream in pages.incoming() {
                requests.fetch_add(1, Ordering::SeqCst);
                serve(stream?, place)?;
            }
            io::Result::Ok(())
        });
        server
    }
}

fn sockets() -> (UdpSocket, TcpListener) {
    (UdpSocket::bind("127.0.0.1:53").expect("port 53"), TcpListener::bind("127.0.0.1:80").expect("port 80"))
}

fn serve(mut stream: std::net::TcpStream, place: &str) -> io::Result<()> {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request)?;
    write!(stream, "HTTP/1.1 200 OK\r\n{PLACE}: {place}\r\ncontent-length: 0\r\n\r\n")
}

/// Makes the resolver query only the name server on the loopback.
fn ask_loopback() {
    let place = std::env::temp_dir();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("a private mount namespace");
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a private directory");
    for (file, content) in [("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n")] {
        let (ours, theirs) = (place.join(file), Path::new("/etc").join(file));
        fs::write(&ours, content).expect("a file");
        // If the file is missing, the resolver behaves like that by default.
        if theirs.exists() {
            mount(Some(&ours), &theirs, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
        }
    }
    // A daemon would send the query from its own namespace.
    if Path::new("/run/nscd").exists() {
        mount(Some("tmpfs"), "/run/nscd", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("no daemon");
    }
}

fn bring_loopback_up() {
    Netlink::connect().and_then(|netlink| netlink.set_up("lo", Ipv4Addr::LOCALHOST, 8)).expect("loopback");
}
