//! What `#[in_netns]` expands to, by hand: a closure with the body, called from a nested generic function.

use std::future::Future;
use std::thread;

pub fn clean_attribute() {
    fn __in_netns_body_clean_attribute<F: FnOnce() -> R, R>(body: F) -> R {
        body()
    }
    let port = __in_netns_body_clean_attribute(|| 7 * std::hint::black_box(6));
    println!("{port}");
}

pub fn spawn_attribute() {
    fn __in_netns_body_spawn_attribute<F: FnOnce() -> R, R>(body: F) -> R {
        body()
    }
    __in_netns_body_spawn_attribute(|| drop(thread::spawn(|| ())));
}

/// A closure in a closure is no future: a synchronous body hands tokio its work over.
pub fn nested_tokio() {
    fn __in_netns_body_nested_tokio<F: FnOnce() -> R, R>(body: F) -> R {
        body()
    }
    let call = || __in_netns_body_nested_tokio(|| drop(tokio::spawn(async { 1 })));
    call();
}

/// An `async fn`: what its future does with tokio stays inside.
pub fn contained_attribute() {
    fn __in_netns_body_contained_attribute<F: FnOnce() -> Fut, Fut: Future>(body: F) -> Fut {
        body()
    }
    run(__in_netns_body_contained_attribute(|| async {
        let task = tokio::spawn(async { 1 });
        let file = tokio::fs::read("/etc/hostname").await;
        println!("{:?} {:?}", task.await, file);
    }));
}

/// An `async fn`: rayon's pool is not tokio's, and stays outside.
pub fn uncontained_rayon() {
    fn __in_netns_body_uncontained_rayon<F: FnOnce() -> Fut, Fut: Future>(body: F) -> Fut {
        body()
    }
    run(__in_netns_body_uncontained_rayon(|| async {
        let task = tokio::spawn(async { rayon::join(|| 1, || 2) });
        println!("{:?}", task.await);
    }));
}

fn run<F: Future>(future: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future);
}
