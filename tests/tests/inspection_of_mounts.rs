//! A change of the mount namespace that `kcmp(2)` does not detect. The test is alone in its process, because it changes
//! the root and working directory of all threads.
#![allow(missing_docs)]

use std::fs;
use std::process::Command;

use in_netns::{Call, Change, NetNs, RetireReason, ThreadFate};
use in_netns_tests::{enter_process, in_new_mount_namespace};
use nix::sched::CloneFlags;

in_netns::rootless!();

/// `setns` on a process with several flags changes the mount namespace and leaves `fs_struct` shared, so that
/// `kcmp(KCMP_FS)` finds no difference.
#[test]
fn case_18_a_mount_namespace_entered_with_the_fs_struct_still_shared() {
    let ns = NetNs::new().unwrap();
    let mut other = in_new_mount_namespace(Command::new("sleep").arg("60")).spawn().unwrap();
    let mount_namespace = || fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let outcome = Call::new(&ns)
        .outcome(|| {
            let before = mount_namespace();
            enter_process(other.id(), CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).unwrap();
            assert_ne!(before, mount_namespace(), "the kernel allows it");
        })
        .unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    outcome.value.unwrap();
    let ThreadFate::Retired(RetireReason::Changed(change)) = outcome.thread else { panic!("{:?}", outcome.thread) };
    assert_eq!(change, Change::MountNamespace);
}
