use in_netns::in_netns;

#[in_netns("blue")]
unsafe extern "C" fn f(first: u8, mut rest: ...) {}

fn main() {}
