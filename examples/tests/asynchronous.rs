//! Tests of the async examples.
#![allow(missing_docs, dead_code, unreachable_pub)]

#[path = "../examples/forward.rs"]
mod forward;
#[path = "../examples/kata.rs"]
mod kata;
#[path = "../examples/resolve.rs"]
mod resolve;

use in_netns::NetNs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

in_netns::rootless!();

/// A call has four descriptors, and a forwarded connection four sockets. The usual limit of 1,024 is not enough.
fn raise_limit_of_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn every_step_of_every_task_is_in_its_pod() {
    raise_limit_of_descriptors();
    assert_eq!(kata::ours(100).unwrap(), kata::Tally { inside: 2_000, elsewhere: 0 });
}

#[test]
fn the_broken_guard_is_broken() {
    let tally = kata::broken(100).unwrap();
    assert!(tally.elsewhere > 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_are_forwarded_and_the_end_is_clean() {
    const CONNECTIONS: usize = 200;
    raise_limit_of_descriptors();
    let ns = NetNs::new().unwrap();
    let server = ns.run(|| std::net::TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    server.set_nonblocking(true).unwrap();
    let server = TcpListener::from_std(server).unwrap();
    let to = server.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entrance = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let forwarder = tokio::spawn(forward::forward(listener, ns.clone(), to, stopped));
    let ask = |number: usize| async move {
        let mut stream = TcpStream::connect(entrance).await.unwrap();
        let sent = number.to_be_bytes();
        stream.write_all(&sent).await.unwrap();
        let mut heard = [0; size_of::<usize>()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, sent);
        stream
    };
    let clients: Vec<_> = (0..CONNECTIONS).map(|number| tokio::spawn(ask(number))).collect();
    let mut open = Vec::new();
    for client in clients {
        open.push(client.await.unwrap());
    }
    stop.send(true).unwrap();
    let mut last = open.pop().unwrap();
    drop(open);
    // Open connections are served to their end.
    last.write_all(b"on").await.unwrap();
    let mut heard = [0; 2];
    last.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"on");
    drop(last);
    assert_eq!(forwarder.await.unwrap().unwrap(), CONNECTIONS);
    echo.abort();
    assert!(TcpStream::connect(entrance).await.is_err());
}

#[tokio::test]
async fn a_look_up_stays_inside() {
    let (found, heard, leaked) = resolve::resolve_inside().await.unwrap();
    assert_eq!(found, [std::net::IpAddr::from(resolve::ADDRESS)]);
    assert!(heard > 0);
    assert_eq!(leaked, 0);
}
