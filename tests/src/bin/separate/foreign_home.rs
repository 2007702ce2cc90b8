//! A process that entered a user namespace and kept its parent's network namespace. It can create and enter namespaces,
//! but can never return home. Each call costs a thread, and still returns the right value.

use in_netns::{Call, ErrorKind, NetNs, RetireReason, ThreadFate, pool_stats, set_poison_hook, with_netns};
use in_netns_tests::{become_root_of_a_user_namespace, here, is_alive, key, threads_outside_home, tid};
use nix::sched::CloneFlags;

pub(crate) fn main() {
    become_root_of_a_user_namespace(CloneFlags::empty());
    set_poison_hook(|_| {});

    // Creating a namespace moves a pinned thread too.
    let ns = NetNs::new().expect("the user namespace may make network namespaces");
    assert_eq!(pool_stats().poisoned_total, 1);
    let mut last = 0;
    for call in 2..=20 {
        let outcome = Call::new(&ns).outcome(|| (tid(), here())).expect("it can be entered");
        let (on, at) = outcome.value.expect("the value arrives");
        assert_eq!(at, key(ns.id()));
        let ThreadFate::Retired(RetireReason::Poisoned(error)) = outcome.thread else { panic!("{:?}", outcome.thread) };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(!is_alive(on), "the thread is gone before the call returns");
        assert_ne!(on, last);
        assert_eq!(pool_stats().poisoned_total, call);
        assert_eq!(threads_outside_home(), [] as [u32; 0]);
        last = on;
    }
    let fresh = Call::new(&ns).fresh().run(tid).expect("fresh threads as well");
    assert!(!is_alive(fresh));
    assert_eq!(with_netns(&ns, || 42).expect("the next call works"), 42);
}
