use in_netns::in_netns;

// None of the expansion's own names is visible to the body, or to the namespace.

#[in_netns("blue")]
fn body(_: u8) {
    let _ = (__ns, __arg0, __body);
}

#[in_netns(__ns)]
fn namespace() {}

fn main() {}
