#![deny(dead_code)]

use in_netns::in_netns;

#[in_netns("blue")]
fn dead() {
    fn dead_too() {}
}

fn main() {}
