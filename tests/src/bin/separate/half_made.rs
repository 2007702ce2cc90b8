//! Creates a named namespace after the limit of namespaces is reached: no file may remain.

use std::fs;

use in_netns::{ErrorKind, NetNs};
use in_netns_tests::become_root_of_a_user_namespace;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

pub(crate) fn main() {
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("a mount namespace of its own");
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a /run of its own");

    NetNs::create_named("first").expect("there is room for one more");
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
    let before = mounts();
    fs::write("/proc/sys/user/max_net_namespaces", "1").expect("its own limit");
    let error = NetNs::create_named("second").expect_err("there is no more room");
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("user.max_net_namespaces"), "{error}");
    assert_eq!(NetNs::list_named().expect("a list"), ["first"]);
    assert_eq!(mounts(), before);
    NetNs::delete_named("first").expect("the first is whole");
}
