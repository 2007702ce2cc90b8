//! kata-containers, runtime-rs: a guard for the pod's namespace, in `async` code.
//!
//! #13885: `remove` holds the guard while it awaits each endpoint. The task may be resumed on another worker, where the
//! guard is then dropped: that worker is moved, and the first one stays in the pod's namespace.
//!
//! #5728: `setup` held the guard over awaits in the same way.

use std::fs::File;
use std::io;
use std::pin::Pin;

use nix::sched::{CloneFlags, setns};

struct NetnsGuard {
    old: File,
}

impl NetnsGuard {
    fn new(path: &str) -> io::Result<Self> {
        let old = File::open("/proc/thread-self/ns/net")?;
        let new = File::open(path)?;
        setns(new, CloneFlags::CLONE_NEWNET)?;
        Ok(Self { old })
    }
}

impl Drop for NetnsGuard {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.old, CloneFlags::CLONE_NEWNET) {
            eprintln!("cannot go back: {error}");
        }
    }
}

struct Endpoint {
    index: u32,
}

impl Endpoint {
    async fn attach(&self) {
        tokio::task::yield_now().await;
    }

    async fn detach(&self) {
        tokio::task::yield_now().await;
    }

    fn is_up(&self) -> bool {
        self.index > 0 && std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).is_ok()
    }
}

trait Network {
    fn setup<'a>(&'a self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;
    fn remove<'a>(&'a self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;
}

struct NetworkWithNetns {
    netns_path: String,
    endpoints: Vec<Endpoint>,
}

/// As reported.
impl Network for NetworkWithNetns {
    fn setup<'a>(&'a self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let _netns_guard = NetnsGuard::new(&self.netns_path)?;
            for endpoint in &self.endpoints {
                endpoint.attach().await;
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let _netns_guard = NetnsGuard::new(&self.netns_path)?;
            for endpoint in &self.endpoints {
                endpoint.detach().await;
            }
            Ok(())
        })
    }
}

/// A worker of the runtime is started while the thread is in the pod's namespace.
fn setup_in_runtime(path: &str) -> io::Result<()> {
    let _netns_guard = NetnsGuard::new(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(tokio::task::yield_now());
    Ok(())
}

/// The cure without a library: enter, work without an await, and leave.
async fn remove_in_steps(path: &str, endpoints: &[Endpoint]) -> io::Result<()> {
    for endpoint in endpoints {
        endpoint.detach().await;
        let up = is_up_inside(path, endpoint)?;
        println!("{up}");
    }
    Ok(())
}

fn is_up_inside(path: &str, endpoint: &Endpoint) -> io::Result<bool> {
    let _netns_guard = NetnsGuard::new(path)?;
    Ok(endpoint.is_up())
}

/// The cure with `in-netns`: the whole future runs in the namespace, on a thread of its own.
async fn remove_inside(path: &str, endpoints: &[Endpoint]) -> Result<(), in_netns::Error> {
    in_netns::with_netns_async(std::path::Path::new(path), async || {
        for endpoint in endpoints {
            endpoint.detach().await;
            println!("{}", endpoint.is_up());
        }
    })
    .await
}

pub fn main() {
    let network = NetworkWithNetns {
        netns_path: "/run/netns/pod".to_owned(),
        endpoints: vec![Endpoint { index: 1 }],
    };
    let network: &dyn Network = &network;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("{:?}", runtime.block_on(network.setup()));
    println!("{:?}", runtime.block_on(network.remove()));
    println!("{:?}", setup_in_runtime("/run/netns/pod"));
    let endpoints = [Endpoint { index: 1 }];
    println!("{:?}", runtime.block_on(remove_in_steps("/run/netns/pod", &endpoints)));
    println!("{:?}", runtime.block_on(remove_inside("/run/netns/pod", &endpoints)));
}
