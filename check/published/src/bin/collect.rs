//! Collects the state of containers: it enters the namespace of each.

use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;

use nix::sched::{CloneFlags, setns};

/// Enters a namespace, and goes back when it is dropped.
struct Inside {
    home: File,
}

impl Inside {
    fn enter(name: &str) -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        setns(File::open(format!("/run/netns/{name}"))?, CloneFlags::CLONE_NEWNET)?;
        Ok(Self { home })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("setns to the earlier namespace");
    }
}

/// Reads the routes of the main thread's namespace.
fn routes(name: &str) -> io::Result<String> {
    let _inside = Inside::enter(name)?;
    fs::read_to_string("/proc/net/route")
}

/// Computes a sum on the threads of rayon's pool.
fn checksum(name: &str, packets: &[Vec<u8>]) -> io::Result<u64> {
    use rayon::prelude::*;
    let _inside = Inside::enter(name)?;
    Ok(packets.par_iter().map(|packet| packet.len() as u64).sum())
}

/// Sends a request. Any worker of the runtime may run the part after the first await.
async fn ask(name: &str) -> io::Result<usize> {
    let _inside = Inside::enter(name)?;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    socket.send(b"ping").await
}

/// Makes a socket, and nothing else.
fn socket(name: &str) -> io::Result<UdpSocket> {
    let _inside = Inside::enter(name)?;
    UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
}

#[tokio::main]
async fn main() {
    println!("{:?} {:?}", routes("web"), checksum("web", &[vec![1, 2], vec![3]]));
    println!("{:?} {:?}", ask("web").await, socket("web"));
}
