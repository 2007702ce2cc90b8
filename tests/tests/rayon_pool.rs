//! The trap: a pool that is started on first use, inside a body, lives in that body's namespace for ever. The audit finds it.
//!
//! Alone in its process, which has one such pool.
#![allow(missing_docs)]

use in_netns::{Call, NetNs, NetNsId};
use in_netns_tests::{here, home, key};

in_netns::rootless!();

/// Where rayon's threads run, by the kernel's own answer. Outside of the body, so that the attribute does not see it.
fn where_rayon_runs() -> (u64, u64) {
    rayon::broadcast(|_| here())[0]
}

#[test]
fn started_inside_it_is_found() {
    let ns = NetNs::new().unwrap();
    let outcome = Call::new(&ns).audit().outcome(where_rayon_runs).unwrap();
    assert_eq!(outcome.value.unwrap(), key(ns.id()));
    assert_eq!(outcome.strays.len(), rayon::current_num_threads(), "{:?}", outcome.strays);
    assert!(outcome.strays.iter().all(|stray| stray.certain && stray.netns == ns.id()));

    // This is why it matters: the process's other work goes there from now on.
    assert_eq!(where_rayon_runs(), key(ns.id()));
    assert_ne!(where_rayon_runs(), home());

    // A hand-over to a pool that runs already is no new thread: the audit does not see that one.
    let other = NetNs::new().unwrap();
    let outcome = Call::new(&other).audit().outcome(where_rayon_runs).unwrap();
    assert_ne!(outcome.value.unwrap(), key(other.id()), "it ran elsewhere");
    assert_eq!(outcome.strays, []);
}

#[test]
fn a_pool_of_its_own_stays_in_its_namespace() {
    let ns = NetNs::new().unwrap();
    let mine: NetNsId = ns.id();
    let build = || rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let pool = ns.run(build).unwrap();
    assert!(pool.broadcast(|_| here()).iter().all(|there| *there == key(mine)));
}
