use in_netns::{NetNs, in_netns};

#[in_netns(ns)]
fn f(ns: NetNs) -> NetNs {
    ns
}

fn main() {}
