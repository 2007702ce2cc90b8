//! Bodies of code that does not use `in-netns`: closures given to other libraries, and regions.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns};

const NAMESPACE: &str = "/run/netns/sample";

fn start() {
    drop(thread::spawn(|| ()));
}

// ---- adapters

pub fn adapter_netns_rs() {
    let netns = netns_rs::NetNs::get("sample").unwrap();
    println!("{}", netns.run(|_netns| start()).is_ok());
}

pub fn adapter_nlink() {
    let done = nlink::netlink::namespace::execute_in("sample", || start());
    println!("{}", done.is_ok());
}

pub fn adapter_nlink_path() {
    let done = nlink::netlink::namespace::execute_in_path(NAMESPACE, || rayon::join(|| 1, || 2));
    println!("{}", done.is_ok());
}

fn pod() -> ztunnel::inpod::netns::InpodNetns {
    let open = |path: &str| File::open(path).unwrap();
    let home = Arc::new(open("/proc/thread-self/ns/net").into());
    ztunnel::inpod::netns::InpodNetns::new(home, open(NAMESPACE).into())
}

pub fn adapter_ztunnel() {
    let netns = pod();
    println!("{}", netns.run(|| start()).is_ok());
}

pub fn adapter_ztunnel_clean() {
    let netns = pod();
    println!("{:?}", netns.run(|| std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).is_ok()));
}

pub fn adapter_dataplane() {
    let sum = dataplane_test_utils::in_netns(Path::new(NAMESPACE), || async {
        drop(tokio::spawn(async { 1 }).await);
        rayon::join(|| 1, || 2)
    });
    println!("{sum:?}");
}

fn device() -> patchbay::Device {
    patchbay::Device::new(File::open(NAMESPACE).unwrap(), tokio::runtime::Handle::current())
}

pub fn adapter_patchbay_sync() {
    println!("{}", device().run_sync(|| start()).is_ok());
}

pub fn adapter_patchbay_spawn() {
    let task = device().spawn(|_device| async {
        drop(tokio::spawn(async { 1 }).await);
        start();
    });
    drop(task);
}

// ---- regions

pub fn region_libc() {
    let netns = File::open(NAMESPACE).unwrap();
    // SAFETY: the descriptor is open.
    if unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        start();
    }
}

pub fn region_libc_unshare() {
    // SAFETY: it has no arguments to be wrong.
    if unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) } == 0 {
        start();
    }
}

pub fn region_nix() {
    let home = File::open("/proc/thread-self/ns/net").unwrap();
    setns(File::open(NAMESPACE).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    println!("{:?}", rayon::join(|| 1, || 2));
    setns(home, CloneFlags::CLONE_NEWNET).unwrap();
}

pub fn region_nix_unshare() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    start();
}

pub fn region_rustix() {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd;
    let netns = File::open(NAMESPACE).unwrap();
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    start();
}

pub fn region_clean() {
    let home = File::open("/proc/thread-self/ns/net").unwrap();
    setns(File::open(NAMESPACE).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    println!("{:?}", std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)));
    setns(home, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Another namespace than the network's.
pub fn no_region() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
    start();
}

/// As kata-containers has it.
struct NetnsGuard {
    home: File,
}

impl NetnsGuard {
    fn new(path: &str) -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        Ok(Self { home })
    }
}

impl Drop for NetnsGuard {
    fn drop(&mut self) {
        setns(&self.home, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

pub fn region_guard() {
    let _guard = NetnsGuard::new(NAMESPACE).unwrap();
    start();
}

/// As aya's tests have it: the guard makes the namespace.
struct Isolated(File);

impl Isolated {
    fn new() -> Self {
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Self(home)
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        restore(&self.0);
    }
}

fn restore(home: &File) {
    setns(home, CloneFlags::CLONE_NEWNET).unwrap();
}

pub fn region_new_guard() {
    let _guard = Isolated::new();
    println!("{:?}", rayon::join(|| 1, || 2));
}

/// As netavark's macro: enter and leave around an expression, in the caller.
macro_rules! exec_netns {
    ($home:expr, $netns:expr, $body:expr) => {{
        join_netns($netns);
        let result = $body;
        join_netns($home);
        result
    }};
}

fn join_netns(netns: &File) {
    setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
}

pub fn region_macro() {
    let (home, netns) = (File::open("/proc/thread-self/ns/net").unwrap(), File::open(NAMESPACE).unwrap());
    exec_netns!(&home, &netns, start());
}

/// A function of the user's own that takes the body.
fn run_inside<R>(body: impl FnOnce() -> R) -> R {
    let _guard = NetnsGuard::new(NAMESPACE).unwrap();
    body()
}

pub fn region_closure() {
    run_inside(|| start());
}

pub fn region_thread() {
    let thread = thread::spawn(|| {
        setns(File::open(NAMESPACE).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        println!("{:?}", rayon::join(|| 1, || 2));
    });
    thread.join().unwrap();
}

// ---- guards across an await

async fn pause() {
    tokio::task::yield_now().await;
}

async fn await_guard() {
    let _guard = NetnsGuard::new(NAMESPACE).unwrap();
    pause().await;
}

struct Session {
    state: Option<(u32, NetnsGuard)>,
}

async fn await_guard_in_struct() {
    let session = Session { state: Some((1, NetnsGuard::new(NAMESPACE).unwrap())) };
    pause().await;
    println!("{}", session.state.is_some());
}

async fn await_guard_in_box() {
    let guards = vec![Box::new(NetnsGuard::new(NAMESPACE).unwrap())];
    pause().await;
    println!("{}", guards.len());
}

async fn await_library_guard(guard: in_netns::NetNsGuard<'_>) {
    pause().await;
    drop(guard);
}

fn enters_by_library() {
    in_netns::pinned(|thread| {
        let netns = in_netns::NetNs::current().unwrap();
        let guard = thread.enter(&netns).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(await_library_guard(guard));
    })
    .unwrap();
}

/// The guard is dropped before the await.
async fn await_after_guard() {
    {
        let _guard = NetnsGuard::new(NAMESPACE).unwrap();
    }
    pause().await;
}

pub fn awaits() {
    enters_by_library();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        await_guard().await;
        await_guard_in_struct().await;
        await_guard_in_box().await;
        await_after_guard().await;
    });
}
