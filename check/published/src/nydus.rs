//! nydus, #2103: a pool of threads that starts with its first use, and that use is in a container's
//! namespace. All threads of the pool stay there, and serve every later caller from there.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::sync::OnceLock;

use nix::sched::{CloneFlags, setns};

static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();

fn runtime() -> &'static tokio::runtime::Runtime {
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// As reported: the first use starts the threads, inside.
fn mount_lazily(path: &str) -> io::Result<()> {
    let home = File::open("/proc/thread-self/ns/net")?;
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    runtime().block_on(tokio::task::yield_now());
    setns(home, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// The same with rayon's pool, which starts with its first use too.
fn verify_lazily(path: &str, chunks: &[u8]) -> io::Result<u32> {
    let home = File::open("/proc/thread-self/ns/net")?;
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    let (left, right) = rayon::join(|| sum(&chunks[..1]), || sum(&chunks[1..]));
    setns(home, CloneFlags::CLONE_NEWNET)?;
    Ok(left + right)
}

fn sum(chunk: &[u8]) -> u32 {
    chunk.iter().copied().map(u32::from).sum()
}

/// The cure: only the socket is made inside. The pool is used at home.
fn connect_inside(path: &str) -> Result<TcpStream, in_netns::Error> {
    let stream = in_netns::with_netns(std::path::Path::new(path), || {
        TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, 1))
    })?;
    Ok(stream.unwrap())
}

pub fn main() {
    println!("{:?}", mount_lazily("/run/netns/container"));
    println!("{:?}", verify_lazily("/run/netns/container", &[1, 2, 3]));
    let stream = connect_inside("/run/netns/container");
    runtime().block_on(async { println!("{stream:?}") });
}
