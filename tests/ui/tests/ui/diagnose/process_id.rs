use in_netns::in_netns;

#[in_netns(std::process::id())]
fn unsigned() {}

#[in_netns(pid)]
fn signed(pid: i32) {}

#[in_netns(nix::unistd::Pid::this())]
fn of_another_crate() {}

fn main() {}
