//! A walk past a namespace that may not be entered.

use in_netns::{ErrorKind, NetNs, par_walk, walk};
use in_netns_tests::{become_root_of_a_user_namespace, here, key};
use nix::sched::CloneFlags;

pub(crate) fn main() {
    // Opened before the user namespace is entered, it belongs to the parent.
    let parents = NetNs::current().expect("the current namespace");
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    let (one, other) = (NetNs::new().expect("a namespace"), NetNs::new().expect("a namespace"));
    let spaces = [&one, &parents, &other];
    for seen in [walk(spaces, |_| here()), par_walk(spaces, 2, |_| here())] {
        let seen = seen.expect("a thread");
        assert_eq!(seen[0].as_ref().expect("entered"), &key(one.id()));
        assert_eq!(seen[1].as_ref().expect_err("the parent's").kind(), ErrorKind::PermissionDenied);
        assert_eq!(seen[2].as_ref().expect("entered"), &key(other.id()));
    }
}
