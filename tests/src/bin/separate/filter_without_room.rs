//! Under a seccomp filter, there is no room for a child process when the first call is made. Later calls find out what
//! the filter allows.

use std::collections::BTreeMap;

use in_netns::{Call, ErrorKind, NetNs, ThreadFate, with_netns};
use in_netns_tests::profiles::apply;
use in_netns_tests::{become_ordinary_user, become_root_of_a_user_namespace, limited};
use nix::sched::CloneFlags;
use nix::sys::resource::Resource;
use nix::unistd::getppid;
use seccompiler::SeccompAction;

pub(crate) fn main() {
    // The limit does not apply to root of the host.
    become_ordinary_user();
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    // The filter refuses a system call that no code makes.
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    apply(BTreeMap::from([(9999, vec![])]), SeccompAction::Allow, refused);
    let home = NetNs::current().expect("a namespace");
    // There is room for this thread and the template.
    let limit = limited(Resource::RLIMIT_NPROC, 2);
    let error = with_netns(&home, || unreachable!("the body ran")).expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
    drop(limit);
    for _ in 0..3 {
        let outcome = Call::new(&home).outcome(getppid).expect("there is room");
        assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    }
}
