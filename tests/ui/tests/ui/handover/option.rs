//! The option that overrides.

use in_netns::in_netns;

#[in_netns("blue", allow(handover))]
fn allowed() {
    rayon::join(|| {}, || {});
}

#[in_netns("blue", allow)]
fn no_list() {}

#[in_netns("blue", allow())]
fn empty_list() {}

#[in_netns("blue", allow(handover, audit))]
fn longer_list() {}

#[in_netns("blue", allow(strays))]
fn other_word() {}

#[in_netns("blue", allow = "handover")]
fn with_equals() {}

#[in_netns(allow(handover))]
fn no_namespace() {}

fn main() {}
