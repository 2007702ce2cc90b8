//! Bodies of functions with the attribute. `allow(handover)` where the attribute itself would refuse them.

use std::future::Future;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use in_netns::{NetNs, in_netns};

#[in_netns("sample")]
fn clean_attribute() -> u32 {
    7 * std::hint::black_box(6)
}

#[in_netns("sample")]
fn spawn_attribute() {
    drop(thread::spawn(|| ()));
}

#[in_netns(new)]
fn spawn_in_new() -> Result<(), in_netns::Error> {
    drop(thread::spawn(|| ()));
    Ok(())
}

struct Pod {
    netns: NetNs,
}

impl Pod {
    #[in_netns(&self.netns, audit)]
    fn spawn_in_method<T: Default + Send>(&self) -> T {
        drop(thread::spawn(|| ()));
        T::default()
    }
}

/// A trait of the program's own, on a type of the library.
trait Probe {
    fn spawn_in_trait(&self);
}

impl Probe for NetNs {
    #[in_netns(&*self)]
    fn spawn_in_trait(&self) {
        drop(thread::spawn(|| ()));
    }
}

/// A closure in a closure is no future: a synchronous body hands tokio its work over.
#[in_netns("sample", allow(handover))]
fn nested_tokio() {
    let call = || drop(tokio::spawn(async { 1 }));
    call();
}

/// All of tokio's own, in an `async fn`: its future and what it spawns stay inside.
#[in_netns("sample")]
async fn contained_attribute() {
    let task = tokio::spawn(async { 1 });
    let blocking = tokio::task::spawn_blocking(|| 2);
    let mut set = tokio::task::JoinSet::new();
    set.spawn(async { 3 });
    set.spawn_blocking(|| 4);
    let file = tokio::fs::read("/etc/hostname").await;
    let stream = tokio::net::TcpStream::connect("localhost:1").await;
    let handle = tokio::runtime::Handle::current().spawn(async { 5 });
    println!("{:?} {:?} {:?}", task.await, blocking.await, set.join_next().await);
    println!("{:?} {:?} {:?}", file, stream, handle.await);
}

#[in_netns("sample", owned)]
async fn contained_owned(text: String) -> usize {
    let length = tokio::spawn(async move { text.len() }).await;
    length.unwrap() + tokio::fs::read("/etc/hostname").await.unwrap().len()
}

#[in_netns("sample", allow(handover))]
fn contained_boxed<'a>(text: &'a str) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
    Box::pin(async move { tokio::spawn(async { 1 }).await.unwrap() + text.len() })
}

#[in_netns("sample", allow(handover))]
fn contained_unnamed() -> impl Future<Output = u8> {
    async { tokio::task::spawn_blocking(|| 1).await.unwrap() }
}

/// A thread of the standard library's is none of the call's runtime.
#[in_netns("sample")]
async fn spawn_in_async() {
    tokio::task::yield_now().await;
    drop(thread::spawn(|| ()));
}

/// Neither is one that a task of the body starts.
#[in_netns("sample", owned)]
async fn spawn_in_task() {
    drop(tokio::spawn(async { drop(thread::spawn(|| ())) }));
}

/// A future that has a type of its own.
#[in_netns("sample")]
async fn spawn_in_timeout() {
    let work = async { drop(thread::spawn(|| ())) };
    drop(tokio::spawn(tokio::time::timeout(Duration::ZERO, work)).await);
}

/// Neither is one that a future starts which the body returns.
#[in_netns("sample")]
fn spawn_in_boxed<'a>(text: &'a str) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
    Box::pin(async move {
        drop(thread::spawn(|| ()));
        text.len()
    })
}

#[in_netns("sample")]
async fn calls_argument_async(step: fn(u32) -> u32) -> u32 {
    tokio::task::yield_now().await;
    step(1)
}

/// Rayon's pool is not tokio's, and stays outside.
#[in_netns("sample", allow(handover))]
async fn uncontained_rayon() {
    let task = tokio::spawn(async { rayon::join(|| 1, || 2) });
    println!("{:?}", task.await);
}

pub fn synchronous() {
    println!("{}", clean_attribute());
    spawn_attribute();
    println!("{:?}", spawn_in_new());
    let pod = Pod {
        netns: NetNs::current().unwrap(),
    };
    println!("{}", pod.spawn_in_method::<u8>());
    pod.netns.spawn_in_trait();
    nested_tokio();
}

pub fn asynchronous() {
    smol::block_on(async {
        contained_attribute().await;
        println!("{}", contained_owned("text".to_owned()).await);
        println!("{}", contained_boxed("text").await);
        println!("{}", contained_unnamed().await);
        spawn_in_async().await;
        spawn_in_task().await;
        spawn_in_timeout().await;
        println!("{}", spawn_in_boxed("text").await);
        println!("{}", calls_argument_async(|n| n + 1).await);
        uncontained_rayon().await;
    });
}
