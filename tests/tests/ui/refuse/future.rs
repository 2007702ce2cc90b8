use std::future::Future;
use std::pin::Pin;

use in_netns::{NetNs, in_netns};

#[in_netns("blue")]
fn unnamed() -> impl Future<Output = u8> {
    async { 1 }
}

#[in_netns("blue")]
fn boxed() -> Pin<Box<dyn std::future::Future<Output = u8> + Send>> {
    Box::pin(async { 1 })
}

struct Pod(NetNs);

#[async_trait::async_trait]
trait Probe {
    async fn probe(&self) -> u8;
}

#[async_trait::async_trait]
impl Probe for Pod {
    #[in_netns(&self.0)]
    async fn probe(&self) -> u8 {
        1
    }
}

fn main() {
    let _ = (unnamed(), boxed());
}
