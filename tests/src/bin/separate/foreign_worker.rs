//! A worker for a namespace that may not be entered: each run is an error, and no thread is kept.

use in_netns::{ErrorKind, NetNs, pool_stats};
use in_netns_tests::become_root_of_a_user_namespace;
use nix::sched::CloneFlags;

pub(crate) fn main() {
    // Opened before the user namespace is entered, it belongs to the parent.
    let parents = NetNs::current().expect("the current namespace");
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    let worker = parents.worker();
    for _ in 0..3 {
        let error = worker.run(|| unreachable!("the body ran")).expect_err("it belongs to the parent");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("user namespace above"), "{error}");
        assert_eq!((pool_stats().threads, pool_stats().idle, pool_stats().leased), (1, 1, 0));
    }
}
