#![deny(warnings)]

use in_netns::in_netns;

#[in_netns("blue")]
pub fn unused(argument: u8, mut changed: u8, (left, right): (u8, u8)) -> u8 {
    let local = 1;
    left
}

#[in_netns("blue")]
fn dead() {}

#[in_netns("blue")]
pub fn unreachable() -> u8 {
    return 1;
    2
}

fn main() {}
