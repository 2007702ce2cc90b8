//! Bodies that read the process's network, use io_uring, or keep sockets; and closures over more channels.

use std::cell::RefCell;
use std::net::UdpSocket;
use std::pin::Pin;
use std::task::{Context, Waker};

use in_netns::{in_netns, with_netns};

pub fn reads_proc_net() {
    let routes = with_netns("sample", || std::fs::read_to_string("/proc/net/route"));
    println!("{routes:?}");
}

pub fn reads_own_proc_net() {
    let routes = with_netns("sample", || std::fs::read_to_string("/proc/self/net/route"));
    println!("{routes:?}");
}

pub fn reads_sys_class_net() {
    let links = with_netns("sample", || std::fs::read_dir("/sys/class/net").map(Iterator::count));
    println!("{links:?}");
}

fn link_file(link: &str, file: &str) -> String {
    format!("/sys/class/net/{link}/{file}")
}

pub fn reads_formatted() {
    let mtu = with_netns("sample", || std::fs::read_to_string(link_file("lo", "mtu")));
    println!("{mtu:?}");
}

pub fn reads_by_number() {
    let path = || format!("/proc/{}/net/dev", std::process::id());
    let links = with_netns("sample", move || std::fs::read_to_string(path()));
    println!("{links:?}");
}

pub fn reads_procfs() {
    let sockets = with_netns("sample", || procfs::net::tcp().map(|sockets| sockets.len()));
    println!("{sockets:?}");
}

pub fn reads_own_thread() {
    let routes = with_netns("sample", || std::fs::read_to_string("/proc/thread-self/net/route"));
    println!("{routes:?}");
}

pub fn io_uring_own() {
    let done = with_netns("sample", || io_uring::IoUring::new(8)?.submit());
    println!("{done:?}");
}

pub fn io_uring_from_elsewhere() {
    let ring = io_uring::IoUring::builder().setup_sqpoll(1000).build(8).unwrap();
    println!("{:?}", submits(&ring));
}

fn submits(ring: &io_uring::IoUring) -> Option<usize> {
    with_netns("sample", || ring.submit().ok()).unwrap_or_default()
}

struct Client {
    socket: Option<UdpSocket>,
}

thread_local! {
    static CLIENT: RefCell<Client> = const { RefCell::new(Client { socket: None }) };
}

pub fn thread_local_socket() {
    let known = with_netns("sample", || CLIENT.with_borrow(|client| client.socket.is_some()));
    println!("{known:?}");
}

pub fn logs() {
    println!("{:?}", with_netns("sample", || log::warn!("inside")));
}

type Job = Box<dyn FnOnce() + Send>;

pub fn closure_over_tokio() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Job>();
    let sent = with_netns("sample", || sender.send(Box::new(|| ())).is_ok());
    println!("{sent:?} {}", receiver.len());
}

enum Message {
    Run(Job),
    Stop,
}

pub fn closure_in_enum() {
    let (sender, receiver) = std::sync::mpsc::channel::<Message>();
    let sent = with_netns("sample", || sender.send(Message::Run(Box::new(|| ()))).is_ok());
    match receiver.recv() {
        Ok(Message::Run(job)) => job(),
        Ok(Message::Stop) | Err(_) => println!("{sent:?}"),
    }
}

/// `#[tokio::test]` around `#[in_netns(new)]` makes such a function: the runtime is made inside.
#[tokio::main(flavor = "current_thread")]
#[in_netns(new)]
async fn runtime_inside() {
    println!("{:?}", tokio::spawn(async { 1 }).await);
    println!("{:?}", tokio::task::spawn_blocking(|| 1).await);
}

/// A thread that a task of the inner runtime starts is still reported.
#[tokio::main(flavor = "current_thread")]
#[in_netns(new)]
async fn thread_in_runtime_inside() {
    drop(tokio::spawn(async { drop(std::thread::spawn(|| ())) }).await);
}

/// `#[tokio::test]` gives its runtime a trait object.
#[in_netns(new)]
pub fn runtime_for_trait_object() {
    let future = std::pin::pin!(async { println!("{:?}", tokio::spawn(async { 1 }).await) });
    let future: Pin<&mut dyn Future<Output = ()>> = future;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future);
}

/// Outside of `block_on` a trait object uses the caller's runtime.
pub fn trait_object_of_caller() {
    let done = with_netns("sample", || {
        let mut future: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(async { drop(tokio::spawn(async { 1 })) });
        let mut context = Context::from_waker(Waker::noop());
        println!("{:?}", future.as_mut().poll(&mut context));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok::<_, std::io::Error>(runtime.block_on(async { 2 }))
    });
    println!("{done:?}");
}

/// A runtime is made inside, and another is in reach.
pub fn runtime_in_reach() {
    let outer = tokio::runtime::Handle::current();
    let done = with_netns("sample", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        drop(outer.spawn(async { 1 }));
        Ok::<_, std::io::Error>(runtime.block_on(async { 2 }))
    });
    println!("{done:?}");
}

/// The caller's runtime is current in a synchronous body: what is outside of `block_on` goes there.
pub fn runtime_of_caller() {
    let done = with_netns("sample", || {
        drop(tokio::spawn(async { 1 }));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok::<_, std::io::Error>(runtime.block_on(async { 2 }))
    });
    println!("{done:?}");
}

pub fn handle_of_caller() {
    let done = with_netns("sample", || {
        let caller = tokio::runtime::Handle::current();
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok::<_, std::io::Error>(runtime.block_on(async move { drop(caller.spawn(async { 1 })) }))
    });
    println!("{done:?}");
}

static SHARED: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();

pub fn runtime_in_static() {
    let done = with_netns("sample", || {
        let runtime = SHARED.get_or_init(|| tokio::runtime::Builder::new_current_thread().build().unwrap());
        drop(runtime.spawn(async { 1 }));
    });
    println!("{done:?}");
}

pub fn attributes() {
    println!("{:?}", std::panic::catch_unwind(runtime_inside).is_ok());
    println!("{:?}", std::panic::catch_unwind(thread_in_runtime_inside).is_ok());
}
