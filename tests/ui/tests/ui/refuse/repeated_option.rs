use in_netns::in_netns;

#[in_netns("blue", fresh, error = "panic", fresh)]
fn a_word() {}

#[in_netns("blue", error = "panic", error = "return")]
fn a_value() {}

fn main() {}
