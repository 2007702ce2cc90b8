use std::future::{Future, Ready};
use std::pin::Pin;

use in_netns::{NetNs, in_netns};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Reply<T> = std::io::Result<T>;

#[in_netns(ns)]
fn by_alias(ns: &NetNs) -> BoxFuture<'static, u8> {
    Box::pin(async { 1 })
}

#[in_netns(ns)]
fn that_borrows<'a>(ns: &'a NetNs) -> BoxFuture<'a, bool> {
    Box::pin(async { ns.id() == ns.id() })
}

#[in_netns("blue")]
fn of_a_task(handle: tokio::runtime::Handle) -> tokio::task::JoinHandle<u8> {
    handle.spawn(async { 1 })
}

#[in_netns("blue")]
fn of_std() -> Ready<u8> {
    std::future::ready(1)
}

#[in_netns("blue")]
fn by_another_trait() -> impl IntoFuture<Output = u8> + Send {
    async { 1 }
}

#[in_netns("blue")]
fn by_parameter<F: Future + Send>(future: F) -> F {
    future
}

#[in_netns("blue")]
fn in_a_result() -> std::io::Result<BoxFuture<'static, u8>> {
    Ok(Box::pin(async { 1 }))
}

#[in_netns("blue")]
fn in_an_alias_of_a_result() -> Reply<Ready<u8>> {
    Ok(std::future::ready(1))
}

#[in_netns("blue")]
fn in_a_list() -> Vec<BoxFuture<'static, u8>> {
    Vec::new()
}

#[in_netns("blue")]
fn in_an_option() -> Option<Ready<u8>> {
    None
}

fn main() {}
