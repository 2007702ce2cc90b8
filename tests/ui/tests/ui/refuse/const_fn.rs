use in_netns::in_netns;

#[in_netns("blue")]
const fn f() -> u8 {
    1
}

fn main() {
    // The function is still there, so this is no second error.
    let _: u8 = f();
}
