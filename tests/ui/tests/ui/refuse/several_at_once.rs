use in_netns::in_netns;

#[in_netns("blue", frseh, error = "abort", fresh, fresh)]
const async fn f() {}

fn main() {}
