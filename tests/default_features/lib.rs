//! Items that are refused without the feature `tokio`: see `tests/builds/features.rs`.

use std::future::Future;

use in_netns::in_netns;

#[in_netns("blue")]
pub async fn function() -> u8 {
    7
}

pub struct Pod;

impl Pod {
    #[in_netns("blue")]
    pub async fn method(&self) {}
}

#[in_netns("blue")]
pub fn future() -> impl Future<Output = u8> {
    async { 7 }
}
