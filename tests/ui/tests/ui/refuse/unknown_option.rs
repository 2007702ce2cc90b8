use in_netns::in_netns;

#[in_netns("blue", frseh)]
fn misspelt() {}

#[in_netns("blue", thread = "name")]
fn with_value() {}

#[in_netns("blue", allow(everything))]
fn with_list() {}

#[in_netns("blue", new)]
fn new_as_an_option() {}

#[in_netns("blue", "red")]
fn a_second_namespace() {}

#[in_netns("blue" fresh)]
fn no_comma() {}

fn main() {}
