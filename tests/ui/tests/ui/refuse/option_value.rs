use in_netns::in_netns;

#[in_netns("blue", fresh = true)]
fn fresh_with_value() {}

#[in_netns("blue", fresh(yes))]
fn fresh_with_list() {}

#[in_netns("blue", error)]
fn error_without_value() {}

#[in_netns("blue", error = )]
fn error_with_nothing() {}

#[in_netns("blue", error = "abort")]
fn error_unknown() {}

#[in_netns("blue", error = panic)]
fn error_without_quotes() {}

#[in_netns("blue", error = "panic" fresh)]
fn error_without_comma() {}

#[in_netns("blue", error("panic"))]
fn error_with_list() {}

#[in_netns("blue", crate)]
fn crate_without_value() {}

#[in_netns("blue", crate = "in_netns")]
fn crate_with_quotes() {}

#[in_netns("blue", allow)]
fn allow_without_list() {}

#[in_netns("blue", allow("handover"))]
fn allow_with_quotes() {}

#[in_netns("blue", fresh = true,, audit = "on")]
fn with_nothing_between_commas() {}

fn main() {}
