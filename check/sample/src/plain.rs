//! Bodies that stay where they are: nothing to report.

use std::collections::{BTreeMap, HashMap};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;

use in_netns::{Call, NetNs, in_netns, with_netns, with_netns_async};

pub fn udp_socket() {
    let sent = with_netns("sample", || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(b"hello", socket.local_addr()?)
    });
    println!("{sent:?}");
}

pub fn command_output() {
    let links = with_netns("sample", || Command::new("ip").arg("link").output());
    println!("{links:?}");
}

pub fn tcp_connect_by_name() {
    let stream = with_netns("sample", || TcpStream::connect("localhost:1"));
    println!("{stream:?}");
}

pub fn maps_and_sorting() {
    let words = with_netns("sample", || {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for word in "to be or not to be".split(' ') {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        let ordered: BTreeMap<_, _> = counts.iter().collect();
        let mut words: Vec<_> = ordered
            .into_iter()
            .map(|(word, n)| format!("{n} {word}"))
            .collect();
        words.sort_by(|a, b| b.cmp(a));
        words
    });
    println!("{words:?}");
}

pub fn current_thread_runtime() {
    let read = with_netns("sample", || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let socket =
                tokio::net::UdpSocket::bind("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap())
                    .await?;
            let address = socket.local_addr()?;
            socket.send_to(b"hello", address).await?;
            let mut buffer = [0; 16];
            socket.recv(&mut buffer).await
        })
    });
    println!("{read:?}");
}

trait Shape {
    fn area(&self) -> u32;
}

struct Square(u32);
struct Strip(u32);

impl Shape for Square {
    fn area(&self) -> u32 {
        self.0 * self.0
    }
}

impl Shape for Strip {
    fn area(&self) -> u32 {
        self.0
    }
}

pub fn clean_trait_object() {
    let area = with_netns("sample", || {
        let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(2)), Box::new(Strip(3))];
        shapes.iter().map(|shape| shape.area()).sum::<u32>()
    });
    println!("{area:?}");
}

pub fn numbers_over_channel() {
    let (sender, receiver) = mpsc::channel::<u32>();
    let sent = with_netns("sample", move || sender.send(1));
    println!("{sent:?} {:?}", receiver.recv());
}

#[in_netns("sample")]
fn hostname() -> std::io::Result<String> {
    std::fs::read_to_string("/etc/hostname")
}

/// The library's own threads are not the body's.
pub fn nested_calls() {
    let done = with_netns("sample", || {
        let inner = with_netns("sample", || UdpSocket::bind("127.0.0.1:0"))??;
        let anew = NetNs::new()?;
        let worker = anew.worker();
        println!("{:?} {:?}", worker.run(|| 1), Call::new(&anew).fresh().run(|| 2));
        println!("{inner:?} {}", hostname()?);
        Ok::<_, std::io::Error>(())
    });
    println!("{done:?}");
}

#[in_netns("sample")]
async fn file() -> std::io::Result<Vec<u8>> {
    tokio::fs::read("/etc/hostname").await
}

pub fn nested_async_calls() {
    let call = with_netns_async("sample", || async {
        let inner = with_netns_async("sample", || async { 1 }).await;
        let spawned = NetNs::current().map(|namespace| namespace.spawn_async(|| async { 2 }));
        println!("{inner:?} {} {:?}", spawned.is_ok(), file().await);
    });
    println!("{:?}", smol::block_on(call));
}

/// Each call's body is judged by itself, wherever it is.
pub fn calls_a_spawner() {
    println!("{:?}", with_netns("sample", || with_netns("sample", crate::threads::stray)));
}
