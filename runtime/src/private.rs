//! What the expansion of `#[in_netns]` calls. Not public: it changes with the macro crate, whose version is pinned to this one's.

use std::io::{self, Write};

use crate::error::{Error, ErrorKind};
use crate::netns::{IntoNetNs, NetNs};

/// The namespace of `#[in_netns(new)]`.
#[derive(Debug)]
pub struct NewNetNs;

impl IntoNetNs for NewNetNs {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::new()
    }
}

/// What `in_netns::rootless!()` puts into `.init_array`.
pub const ENTER_BEFORE_MAIN: extern "C" fn() = crate::sys::before_main::before_main;

/// Whether a test that met `error` on its way in is to be skipped, which is then said on stderr.
///
/// A test that lacks the privilege fails, unless `IN_NETNS_SKIP=1` is in the environment: skipping is for somebody to ask for, and
/// to see.
#[must_use]
pub fn skips(test: &str, error: &Error) -> bool {
    let namespaces_wanting = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::Unsupported => true,
        // Of namespaces. A test that has used up its descriptors is not to pass for that.
        ErrorKind::LimitReached => error.errno() == nix::errno::Errno::ENOSPC,
        _ => false,
    };
    let skips = namespaces_wanting && std::env::var_os("IN_NETNS_SKIP").is_some_and(|value| value == "1");
    if skips {
        // Not `eprintln!`, which libtest captures: then nobody would see it.
        let _ = writeln!(io::stderr(), "in-netns: skipped {test} (IN_NETNS_SKIP=1): {error}");
    }
    skips
}
