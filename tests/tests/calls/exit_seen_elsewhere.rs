//! The waiting thread's view of `/proc`, not the exiting thread's, decides whether a thread has exited.

use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};

use in_netns::{Call, NetNs, RetireReason, ThreadFate, set_poison_hook};
use in_netns_tests::{alone, give_up_sys_admin, is_alive, threads_in, tid};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A thread that needs this long to exit, because it has much to clean up. (The test measures that the call waits, so
/// the wait must be measurable.)
const SLOW: Duration = Duration::from_millis(200);

struct SlowToDrop;

impl Drop for SlowToDrop {
    fn drop(&mut self) {
        std::thread::sleep(SLOW);
    }
}

thread_local! {
    static LAST: RefCell<Option<SlowToDrop>> = const { RefCell::new(None) };
}

#[track_caller]
fn is_waited_for(hide: fn()) {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    for fresh in [false, true] {
        let call = if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
        let start = Instant::now();
        let outcome = call
            .outcome(|| {
                LAST.set(Some(SlowToDrop));
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
                hide();
                assert!(fs::metadata(format!("/proc/self/task/{}", tid())).is_err(), "it is hidden");
                give_up_sys_admin();
                tid()
            })
            .unwrap();
        assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Poisoned(_))), "{:?}", outcome.thread);
        assert!(start.elapsed() >= SLOW, "it returned after {:?}", start.elapsed());
        assert!(!is_alive(outcome.value.unwrap()), "it is gone before the call returned");
        assert_eq!(threads_in(&ns), [] as [u32; 0], "nothing is left in the target");
    }
}

#[test]
fn the_exit_is_waited_for_after_a_body_without_proc() {
    is_waited_for(|| umount2("/proc", MntFlags::MNT_DETACH).unwrap_or_else(|_| cover_proc()));
}

#[test]
fn the_exit_is_waited_for_after_a_body_with_a_directory_in_place_of_proc() {
    is_waited_for(cover_proc);
}

#[test]
fn the_exit_is_waited_for_after_a_body_in_another_root() {
    is_waited_for(|| {
        mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        nix::unistd::chroot("/tmp").unwrap();
    });
}

/// In a user namespace, mounts of the parent's mount namespace cannot be unmounted, but they can be covered.
fn cover_proc() {
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}
