//! In async functions tokio's own are inside, and are not refused. Nobody else's are.

use std::future::Future;
use std::pin::Pin;

use in_netns::in_netns;
use rayon::prelude::*;

#[in_netns("blue")]
async fn borrowed(list: &[u32]) -> u32 {
    let task = tokio::spawn(async {});
    let blocking = tokio::task::spawn_blocking(|| {});
    let file = tokio::fs::read("/etc/hostname").await;
    rayon::join(|| {}, || {});
    smol::spawn(async {}).detach();
    drop((task, blocking, file));
    list.par_iter().sum()
}

#[in_netns("blue", owned)]
async fn owned() {
    tokio::task::JoinSet::new().spawn(async {});
    tokio::spawn(async { rayon::spawn(|| {}) });
}

#[in_netns("blue")]
fn boxed() -> Pin<Box<dyn Future<Output = ()> + Send>> {
    tokio::spawn(async {});
    Box::pin(async { smol::unblock(|| {}).await })
}

#[in_netns("blue")]
fn unnamed() -> impl Future<Output = ()> {
    use rayon::join;
    tokio::task::spawn(async {});
    async { drop(join(|| {}, || {})) }
}

fn main() {}
