//! Bodies that stay where they are: nothing to report.

use std::collections::{BTreeMap, HashMap};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;

use in_netns::with_netns;

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
