//! A process that has used the crate forks, without an exec: the child has none of its parent's threads, and starts its
//! own.

use in_netns::{NetNs, pool_stats, with_netns};
use in_netns_tests::{here, key};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

pub(crate) fn main() {
    crate::rootless();
    let ns = NetNs::new().expect("a namespace");
    descend(&ns, 3);
}

fn descend(ns: &NetNs, deeper: u32) {
    assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id()));
    assert_eq!((pool_stats().threads, pool_stats().idle), (1, 1), "a pool of its own");
    if deeper == 0 {
        return;
    }
    // SAFETY: the other threads belong to the crate and are idle: none holds a lock.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            assert_eq!(pool_stats().threads, 0);
            descend(ns, deeper - 1);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0));
            assert_eq!(with_netns(ns, here).expect("the parent's pool still works"), key(ns.id()));
        }
    }
}
