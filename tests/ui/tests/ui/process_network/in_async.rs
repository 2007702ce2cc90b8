//! In every form of an async function. A runtime of the body's own changes nothing.

use std::future::Future;
use std::pin::Pin;

use in_netns::in_netns;

#[in_netns("blue")]
async fn borrowed() -> std::io::Result<String> {
    tokio::fs::read_to_string("/proc/net/dev").await
}

#[in_netns("blue", owned)]
async fn owned() -> std::io::Result<String> {
    tokio::spawn(async { std::fs::read_to_string("/proc/self/net/dev") }).await?
}

#[in_netns("blue")]
fn boxed() -> Pin<Box<dyn Future<Output = bool> + Send>> {
    Box::pin(async { std::fs::exists("/sys/class/net/eth0").unwrap() })
}

#[in_netns("blue")]
fn unnamed() -> impl Future<Output = bool> {
    async { std::fs::exists("/proc/net/dev").unwrap() }
}

fn main() {}
