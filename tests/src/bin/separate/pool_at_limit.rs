//! A pool in a user namespace that may have 20 network namespaces: what is being dismantled is waited for, and what is
//! in use is an error that names the limit.
#![allow(clippy::print_stdout)]

use std::collections::HashSet;

use in_netns::{ErrorKind, NetNs, NetNsPool, NetNsPoolBuilder};
use in_netns_tests::become_root_of_a_user_namespace;
use nix::sched::CloneFlags;

const LIMIT: &str = "/proc/sys/user/max_net_namespaces";

pub(crate) fn main() {
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    std::fs::write(LIMIT, "20").expect("the limit of a user namespace of one's own");

    let builder = NetNsPool::builder().ready(16);
    match crate::arguments().next().as_deref() {
        // Only the kernel's limit, which the pool meets.
        Some("unbounded") => go_round(builder),
        // Never more than there may be, home included.
        Some("bounded") => go_round(builder.at_most(19)),
        Some("in use") => all_in_use(builder),
        other => panic!("{other:?}"),
    }
    println!("as expected");
}

fn go_round(builder: NetNsPoolBuilder) {
    let pool = builder.build().expect("a pool");
    let mut cookies = HashSet::new();
    for _ in 0..200 {
        let some: Vec<NetNs> = (0..5).map(|_| pool.take().expect("room comes")).collect();
        cookies.extend(some.iter().map(NetNs::cookie));
        assert!(pool.stats().alive <= 20);
    }
    assert_eq!(cookies.len(), 1_000);
}

fn all_in_use(builder: NetNsPoolBuilder) {
    let pool = builder.build().expect("a pool");
    let mut held = Vec::new();
    let error = loop {
        match pool.take() {
            Ok(ns) => held.push(ns),
            Err(error) => break error,
        }
    };
    assert_eq!((held.len(), error.kind()), (19, ErrorKind::LimitReached));
    assert!(error.to_string().contains("user.max_net_namespaces"), "{error}");
    held.clear();
    pool.take().expect("room comes");
}
