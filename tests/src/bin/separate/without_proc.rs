//! A process that cannot see `/proc`: each call is an error that reports it, and no call hangs.
//!
//! With the argument `later`, in a mount namespace of its own, it cannot see `/proc` from some time on.

use in_netns::{Error, ErrorKind, NetNs, pinned};
use nix::mount::{MsFlags, mount};

pub(crate) fn main() {
    if crate::arguments().next().as_deref() == Some("later") {
        return without_proc_later();
    }
    for error in [NetNs::current().expect_err("there is no /proc"), pinned(|_| ()).expect_err("there is no /proc")] {
        tells_of_proc(&error);
    }
    let privileges = in_netns::privileges();
    assert!(!privileges.can_make() && !privileges.can_enter(), "{privileges}");
    let text = privileges.to_string();
    assert!(text.contains("/proc is not mounted") && text.contains("mount it"), "{text}");
}

fn tells_of_proc(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("is /proc mounted"), "{error}");
}

fn without_proc_later() {
    let hide = |path| mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a mount");
    hide("/run");
    let ns = NetNs::create_named("known").expect("a namespace");
    hide("/proc");
    for error in [
        NetNs::create_named("new").expect_err("there is no /proc"),
        ns.persist("other").expect_err("there is no /proc"),
        NetNs::delete_named("known").expect_err("there is no /proc"),
    ] {
        tells_of_proc(&error);
    }
    // These need no /proc.
    assert_eq!(NetNs::from_name("known").expect("it is there"), ns);
    assert_eq!(NetNs::list_named().expect("a list"), ["known"]);
    let error = NetNs::delete_named("missing").expect_err("there is no such name");
    assert!(error.kind() == ErrorKind::NotFound && !error.to_string().contains("/proc"), "{error}");
}
