//! The option that overrides, and what it does not override.

use in_netns::in_netns;

#[in_netns("blue", allow(process_network))]
fn allowed() -> bool {
    std::fs::exists("/proc/net/dev").unwrap()
}

#[in_netns("blue", allow(handover, process_network))]
fn both() {
    rayon::join(|| std::fs::exists("/proc/net/dev"), || {});
}

#[in_netns("blue", allow(process_network, handover,))]
fn both_in_the_other_order() {
    rayon::join(|| std::fs::exists("/proc/net/dev"), || {});
}

#[in_netns("blue", allow(handover))]
fn the_other_one() {
    rayon::join(|| std::fs::exists("/proc/net/dev"), || {});
}

#[in_netns("blue", allow(process_network))]
fn this_one() {
    rayon::join(|| std::fs::exists("/proc/net/dev"), || {});
}

#[in_netns("blue", allow(process_network, process_network))]
fn twice() {}

#[in_netns("blue", allow(process_network handover))]
fn no_comma() {}

fn main() {}
