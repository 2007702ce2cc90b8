//! A TCP port forwarder from home into a namespace, like `kubectl port-forward` and `systemd-socket-proxyd`.
//!
//! ```sh
//! cargo run --example forward -- 127.0.0.1:8080 blue 127.0.0.1:80
//! ```

use std::io;
use std::net::SocketAddr;

use in_netns::NetNs;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

async fn serve(mut client: TcpStream, ns: NetNs, to: SocketAddr) -> io::Result<()> {
    // The socket is created inside, and stays in the namespace. This runtime connects and serves it.
    let mut server = ns.tcp_connect_async(to).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Forwards until `stop`. After that it accepts no more connections, and serves the open ones to their end.
///
/// # Errors
///
/// If the listener fails. An error in one connection ends only that one, and is printed to stderr.
pub async fn forward(
    listener: TcpListener,
    ns: NetNs,
    to: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> io::Result<usize> {
    let mut connections = JoinSet::new();
    let mut count = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, from) = accepted?;
                let ns = ns.clone();
                count += 1;
                connections.spawn(async move {
                    if let Err(error) = serve(client, ns, to).await {
                        eprintln!("{from}: {error}");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(listener);
    connections.join_all().await;
    Ok(count)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, ns, to] = arguments.as_slice() else {
        return Err("usage: forward ADDRESS:PORT NAMESPACE ADDRESS:PORT".into());
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        let _ = stop.send(true);
    });
    let listener = TcpListener::bind(from).await?;
    let count = forward(listener, NetNs::from_name(ns)?, to.parse()?, stopped).await?;
    println!("forwarded {count} connections");
    Ok(())
}
