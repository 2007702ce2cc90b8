use in_netns::{NetNs, in_netns};

#[in_netns(1 + 2)]
fn number() {}

#[in_netns(&self.name)]
fn no_self() {}

#[in_netns(unknown)]
fn unknown_name() {}

struct Pod {
    name: u8,
}

impl Pod {
    #[in_netns(self.name)]
    fn field(&self) {}
}

#[in_netns(NetNs::new())]
fn a_result() {}

fn main() {}
