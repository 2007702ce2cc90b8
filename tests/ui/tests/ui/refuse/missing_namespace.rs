use in_netns::in_netns;

#[in_netns]
fn without_parentheses() {}

#[in_netns()]
fn empty() {}

#[in_netns(fresh)]
fn only_an_option() {}

#[in_netns(owned)]
async fn only_the_form() {}

#[in_netns(error = "panic", fresh)]
fn only_options() {}

#[in_netns(crate = in_netns)]
fn only_the_crate() {}

#[in_netns(fresh, "blue")]
fn after_an_option() {}

#[in_netns(error = "panic", namespace, fresh)]
fn between_options() {}

#[in_netns(name = "blue", audit)]
fn with_a_name() {}

#[in_netns(new = true)]
fn new_with_value() {}

fn main() {
    without_parentheses();
    empty();
    only_an_option();
    drop(only_the_form());
    only_options();
    only_the_crate();
    after_an_option();
    between_options();
    with_a_name();
    new_with_value();
}
