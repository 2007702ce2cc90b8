//! A process that cannot see `/proc`: each call is an error that reports it, and no call hangs.

use in_netns::{ErrorKind, NetNs, pinned};

fn main() {
    for error in [NetNs::current().expect_err("there is no /proc"), pinned(|_| ()).expect_err("there is no /proc")] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("is /proc mounted"), "{error}");
    }
}
