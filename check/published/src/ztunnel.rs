//! ztunnel, `inpod`: a closure is run in the pod's namespace on a worker of the runtime. Sockets are made in it. What
//! goes wrong is any work in the closure that the runtime does elsewhere.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

struct InpodNetns {
    current: Arc<OwnedFd>,
    netns: OwnedFd,
}

impl InpodNetns {
    fn run<F: FnOnce() -> T, T>(&self, f: F) -> io::Result<T> {
        setns(&self.netns, CloneFlags::CLONE_NEWNET)?;
        let result = f();
        setns(&*self.current, CloneFlags::CLONE_NEWNET)?;
        Ok(result)
    }
}

/// As it is in ztunnel: a socket, and nothing else.
fn socket(netns: &InpodNetns) -> io::Result<UdpSocket> {
    netns.run(|| UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)))?
}

/// The name is looked up by the runtime's blocking threads, which are elsewhere.
fn resolve(netns: &InpodNetns) -> io::Result<bool> {
    netns.run(|| {
        let lookup = tokio::net::lookup_host("upstream:80");
        tokio::runtime::Handle::current().block_on(lookup).is_ok()
    })
}

/// The connection is driven by a task of the runtime's, which is elsewhere.
fn serve(netns: &InpodNetns) -> io::Result<()> {
    netns.run(|| drop(tokio::spawn(async { tokio::net::TcpListener::bind("127.0.0.1:0").await })))
}

/// The cure: an async call has a runtime of its own, inside.
async fn resolve_inside() -> Result<bool, in_netns::Error> {
    in_netns::with_netns_async("pod", async || tokio::net::lookup_host("upstream:80").await.is_ok()).await
}

pub fn main() {
    let open = |path: &str| File::open(path).unwrap();
    let netns = InpodNetns {
        current: Arc::new(open("/proc/thread-self/ns/net").into()),
        netns: open("/run/netns/pod").into(),
    };
    println!("{:?} {:?} {:?}", socket(&netns), resolve(&netns), serve(&netns));
    println!("{:?}", tokio::runtime::Runtime::new().unwrap().block_on(resolve_inside()));
}
