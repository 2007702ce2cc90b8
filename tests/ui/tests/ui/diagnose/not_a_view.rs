use in_netns::{NetNs, View, in_netns};

#[in_netns(view = ns)]
fn a_namespace(ns: &NetNs) {}

#[in_netns(view = ns.view())]
fn a_result(ns: &NetNs) {}

struct Pod {
    views: Vec<View>,
}

impl Pod {
    #[in_netns(view = &self.views)]
    async fn a_list(&self) {}
}

fn main() {}
