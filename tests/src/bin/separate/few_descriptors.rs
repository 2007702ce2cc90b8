//! The first call is made where few descriptors are left. Nothing panics then; and what tokio makes once for the whole
//! process is made at home later, so that it holds no namespace.
//!
//! Argument: the limit of descriptors.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::executor::block_on;
use in_netns::{Call, ErrorKind, NetNs, init};
use in_netns_tests::{BOUND, here, key, limited};
use nix::sys::resource::Resource;

pub(crate) fn main() {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    crate::rootless();
    std::panic::set_hook(Box::new(|_| _ = PANICS.fetch_add(1, Ordering::Relaxed)));
    let limit = crate::arguments().next().and_then(|limit| limit.parse().ok()).expect("a limit");

    let few = limited(Resource::RLIMIT_NOFILE, limit);
    if let Err(error) = init() {
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    }
    let home = NetNs::current();
    if let Ok(Err(error)) = home.map(|home| block_on(home.run_async(|| async {}))) {
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "nothing panics with {limit} descriptors");
    drop(few);

    for is_fresh in [true, false] {
        let ns = NetNs::new().expect("a namespace");
        let call = if is_fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
        assert_eq!(block_on(call.run_async(|| async { here() })).expect("a call"), key(ns.id()));
        assert!(ns.wait_until_gone(BOUND).expect("it is waited for"), "the namespace is held, with {limit}");
    }
}
