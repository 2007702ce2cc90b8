//! A pool that is started on first use, inside a body, stays in that body's namespace permanently. The audit reports
//! it.
//!
//! The test is alone in its process, which has one such pool.
#![allow(missing_docs)]

use in_netns::{Call, NetNs, NetNsId};
use in_netns_tests::{here, home, key};

in_netns::rootless!();

/// The namespace of rayon's threads, as the kernel reports it. This is a separate function, so that the attribute does
/// not detect it.
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

    // Other work of the process now runs there too.
    assert_eq!(where_rayon_runs(), key(ns.id()));
    assert_ne!(where_rayon_runs(), home());

    // Passing work to a pool that already runs starts no thread, so the audit does not detect it.
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
