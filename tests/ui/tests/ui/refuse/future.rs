use std::future::Future;
use std::pin::Pin;

use in_netns::in_netns;

#[in_netns("blue")]
fn several() -> Vec<Pin<Box<dyn Future<Output = u8>>>> {
    Vec::new()
}

#[in_netns("blue")]
fn fallible() -> Result<impl std::future::Future<Output = u8>, std::io::Error> {
    Ok(async { 1 })
}

#[in_netns("blue", owned)]
fn nothing_to_poll() {}

fn main() {
    let _ = (several(), fallible());
    nothing_to_poll();
}
