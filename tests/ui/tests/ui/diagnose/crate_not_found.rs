use std::io;
use std::pin::Pin;

use in_netns::{NetNs, in_netns};

// The path is reported once, where it is written.

#[in_netns("blue", crate = missing::in_netns)]
fn value(name: String, (first, _): (u8, u8), list: &[u8]) -> io::Result<Vec<u8>> {
    Ok(vec![first, name.len() as u8, list[0]])
}

#[in_netns("blue", crate = crate::missing)]
fn alias() -> std::fmt::Result {
    Ok(())
}

#[in_netns("blue", crate = crate::missing)]
fn opaque() -> impl Iterator<Item = u8> {
    0..1
}

#[in_netns("blue", crate = crate::missing)]
async fn asynchronous(name: &str) -> io::Result<String> {
    Ok(name.to_owned())
}

#[in_netns("blue", crate = crate::missing)]
fn boxed() -> Pin<Box<dyn Future<Output = io::Result<u8>> + Send>> {
    Box::pin(async { Ok(1) })
}

struct Pod(NetNs);

impl Pod {
    #[in_netns(&self.0, crate = crate::missing)]
    fn method(&self) -> &NetNs {
        &self.0
    }
}

fn main() {}
