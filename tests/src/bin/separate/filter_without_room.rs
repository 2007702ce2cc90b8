//! Under a seccomp filter, there is no room for a child process when the first call is made. Later calls find out what
//! the filter allows. What takes no call needs no child process, or is an error that may pass.
//!
//! With the argument `memory`, there is no memory for a `setns(2)` of the first call. Later calls find out from where
//! threads can return.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use in_netns::{Call, ErrorKind, NetNs, ThreadFate, with_netns};
use in_netns_tests::profiles::apply;
use in_netns_tests::{become_ordinary_user, become_root_of_a_user_namespace, limited};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::Resource;
use nix::unistd::getppid;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// The filter has the kernel's answer: the number of the template's descriptor tells the first call from later ones.
fn without_memory() {
    const LOW: i32 = 100;
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS);
    let condition = |argument, operator, value: i32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.unsigned_abs().into())
    };
    let conditions =
        [condition(0, SeccompCmpOp::Lt, LOW), condition(1, SeccompCmpOp::Eq, CloneFlags::CLONE_NEWUTS.bits())];
    let conditions = conditions.into_iter().collect::<Result<_, _>>().expect("conditions");
    let rules = BTreeMap::from([(libc::SYS_setns, vec![SeccompRule::new(conditions).expect("a rule")])]);
    apply(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOMEM.unsigned_abs()));

    let home = NetNs::current().expect("a namespace");
    let error = with_netns(&home, || unreachable!("the body ran")).expect_err("there is no memory");
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("setns"), "{error}");
    let mut files = Vec::new();
    while files.last().is_none_or(|last: &std::fs::File| last.as_raw_fd() < LOW) {
        files.push(std::fs::File::open("/dev/null").expect("a device"));
    }
    let outcome = Call::new(&home).outcome(|| unshare(CloneFlags::CLONE_NEWUTS)).expect("there is memory");
    outcome.value.expect("no panic").expect("a namespace");
    assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
}

pub(crate) fn main() {
    if crate::arguments().next().as_deref() == Some("memory") {
        return without_memory();
    }
    // The limit does not apply to root of the host.
    become_ordinary_user();
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    // The filter refuses a system call that no code makes.
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let home = NetNs::current().expect("a namespace");
    apply(BTreeMap::from([(9999, vec![])]), SeccompAction::Allow, refused);
    // There is room for this thread.
    let limit = limited(Resource::RLIMIT_NPROC, 1);
    assert_eq!(NetNs::from_pid(std::process::id()).expect("/proc leads there"), home);
    let without_room = home.downgrade();
    drop(limit);
    let limit = limited(Resource::RLIMIT_NOFILE, 0);
    let without_descriptors = home.downgrade();
    drop(limit);

    // There is room for this thread and the template.
    let limit = limited(Resource::RLIMIT_NPROC, 2);
    let error = with_netns(&home, || unreachable!("the body ran")).expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
    drop(limit);
    for _ in 0..3 {
        let outcome = Call::new(&home).outcome(getppid).expect("there is room");
        assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
    }
    // Linux 6.18.
    if home.downgrade().is_ok() {
        let error = without_room.expect_err("what the filter allows was not known");
        assert_ne!(error.kind(), ErrorKind::Unsupported, "{error}");
        let error = without_descriptors.expect_err("likewise");
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    }
}
