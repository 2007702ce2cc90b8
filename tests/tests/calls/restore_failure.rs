//! Real restore failures: the value arrives, the failure is reported, the thread exits, and the next call works.

use std::io;
use std::panic;
use std::sync::{Arc, Mutex};

use in_netns::{Call, ErrorKind, NetNs, RetireReason, ThreadFate, pinned, pool_stats, set_poison_hook, with_netns};
use in_netns_tests::{
    alone, descriptors, give_up_sys_admin, here, home, is_alive, key, separate, threads_in, threads_outside_home, tid,
    wait_until,
};

fn is_poisoned(fate: &ThreadFate) -> bool {
    matches!(fate, ThreadFate::Retired(RetireReason::Poisoned(error)) if error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn case_8a_a_process_in_a_user_namespace_that_kept_its_parents_network_can_make_calls() {
    let _alone = alone();
    let output = separate!("foreign_home").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn case_8b_the_value_arrives_and_the_thread_is_gone() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    for fresh in [false, true] {
        let before = pool_stats();
        let call = if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
        let outcome = call
            .outcome(|| {
                give_up_sys_admin();
                tid()
            })
            .unwrap();
        let poisoned = outcome.value.unwrap();
        assert!(is_poisoned(&outcome.thread), "{:?}", outcome.thread);
        let ThreadFate::Retired(reason) = outcome.thread else { unreachable!("it is poisoned") };
        let why = reason.to_string();
        assert!(why.contains("the body gave up CAP_SYS_ADMIN") && why.contains("(EPERM, os error 1)"), "{why}");
        assert!(!why.contains("rootless") && !why.contains("run as"), "{why}");
        assert!(!is_alive(poisoned), "it is gone before the call returned");
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
        let after = pool_stats();
        assert_eq!(after.poisoned_total, before.poisoned_total + 1);
        assert_eq!(after.retired_total, before.retired_total + 1);
        let next = with_netns(&ns, || (tid(), here())).unwrap();
        assert_ne!(next.0, poisoned);
        assert_eq!(next.1, key(ns.id()));
    }
}

/// Descriptor numbers of such a thread refer to other files, or to none, in the other threads.
#[test]
fn a_poisoned_thread_with_its_own_descriptor_table_touches_no_other_descriptor() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let before = descriptors();
    for call in [Call::new(&ns), Call::new(&ns).fresh()] {
        let body = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            give_up_sys_admin();
            tid()
        };
        let outcome = call.outcome(body).unwrap();
        assert!(is_poisoned(&outcome.thread), "{:?}", outcome.thread);
        assert!(!is_alive(outcome.value.unwrap()), "it is gone before the call returned");
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn case_8b_with_netns_returns_the_value_and_tells_the_hook() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    set_poison_hook({
        let told = Arc::clone(&told);
        move |poisoning| {
            assert!(!is_alive(poisoning.thread_id()), "the hook runs after the thread has left");
            told.lock().unwrap().push((tid(), poisoning.thread_id(), poisoning.error().kind()));
        }
    });
    let body = with_netns(&ns, || {
        give_up_sys_admin();
        tid()
    })
    .unwrap();
    assert_eq!(*told.lock().unwrap(), [(tid(), body, ErrorKind::PermissionDenied)]);
    set_poison_hook(|_| {});
}

#[test]
fn a_panic_in_the_hook_hides_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    set_poison_hook(|_| panic::resume_unwind(Box::new("in the hook")));
    let value = with_netns(&ns, || {
        give_up_sys_admin();
        42
    });
    set_poison_hook(|_| {});
    assert_eq!(value.unwrap(), 42);
}

#[test]
fn case_9_a_failed_body_and_a_failed_restore_are_both_reported() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let outcome = Call::new(&ns)
        .outcome(|| {
            give_up_sys_admin();
            Err::<(), _>(io::Error::other("the body's own"))
        })
        .unwrap();
    assert_eq!(outcome.value.unwrap().unwrap_err().to_string(), "the body's own");
    assert!(is_poisoned(&outcome.thread));
}

#[test]
fn case_10_a_hundred_poisonings_leave_no_thread_behind() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    with_netns(&ns, || ()).unwrap();
    let before = pool_stats();
    for _ in 0..100 {
        let poisons = || {
            give_up_sys_admin();
            tid()
        };
        let poisoned = with_netns(&ns, poisons).unwrap();
        assert!(!is_alive(poisoned), "it is gone before the call returned");
    }
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
    with_netns(&ns, || ()).unwrap();
    let after = pool_stats();
    assert_eq!(after.poisoned_total, before.poisoned_total + 100);
    assert_eq!((after.threads, after.idle, after.leased), (before.threads, before.idle, before.leased));
}

#[test]
fn case_12_a_panic_and_a_failed_restore() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let poisoned_before = pool_stats().poisoned_total;
    let mut body = 0;
    let payload = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        with_netns(&ns, || {
            body = tid();
            give_up_sys_admin();
            panic::resume_unwind(Box::new("the payload"));
        })
    }))
    .unwrap_err();
    assert_eq!(*payload.downcast::<&str>().unwrap(), "the payload");
    assert_eq!(pool_stats().poisoned_total, poisoned_before + 1);
    assert!(!is_alive(body));
}

#[test]
fn a_guard_that_cannot_restore_poisons_and_enters_nothing_more() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let body = pinned(|thread| {
        let guard = thread.enter(&a).unwrap();
        give_up_sys_admin();
        assert_eq!(guard.restore().unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(thread.is_poisoned());
        assert_eq!(thread.enter(&b).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(here(), key(a.id()));
        tid()
    })
    .unwrap();
    assert!(!is_alive(body));
}

#[test]
fn a_dropped_guard_that_cannot_restore_poisons_too() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    pinned(|thread| {
        let guard = thread.enter(&ns).unwrap();
        give_up_sys_admin();
        drop(guard);
        assert!(thread.is_poisoned());
    })
    .unwrap();
}

/// A thread whose restore failed once is not trusted after a later success.
#[test]
fn poison_stays_when_the_end_of_the_lease_gets_home_after_all() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let before = pool_stats();
    let body = pinned(|thread| {
        let guard = thread.enter(&ns).unwrap();
        let all = caps::read(None, caps::CapSet::Effective).unwrap();
        give_up_sys_admin();
        guard.restore().unwrap_err();
        caps::set(None, caps::CapSet::Effective, &all).unwrap();
        tid()
    })
    .unwrap();
    assert_eq!(pool_stats().poisoned_total, before.poisoned_total + 1);
    wait_until("it exits", || !is_alive(body));
}

#[test]
fn the_failed_restore_says_what_is_missing_and_where() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let outcome = Call::new(&ns).outcome(give_up_sys_admin).unwrap();
    let ThreadFate::Retired(RetireReason::Poisoned(error)) = outcome.thread else { panic!("{:?}", outcome.thread) };
    let message = error.to_string();
    let user = std::fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
    assert!(message.contains(&format!("net:[{}]", home().1)), "{message}");
    assert!(message.contains("CAP_SYS_ADMIN") && message.contains(&user), "{message}");
}

/// A restore has failed only if the thread is not back. If the thread never left, there was nothing to restore.
#[test]
fn a_thread_that_never_left_is_not_poisoned() {
    let _alone = alone();
    set_poison_hook(|poisoning| panic!("{:?}", poisoning.error()));
    let before = pool_stats();
    pinned(|_| give_up_sys_admin()).unwrap();
    let home = NetNs::current().unwrap();
    let restored = pinned(|thread| {
        let guard = thread.enter(&home).unwrap();
        give_up_sys_admin();
        guard.restore()
    });
    restored.unwrap().unwrap();
    for call in [Call::new(&home), Call::new(&home).fresh()] {
        let outcome = call.outcome(give_up_sys_admin).unwrap();
        assert!(
            matches!(outcome.thread, ThreadFate::Retired(RetireReason::Changed(_) | RetireReason::Fresh)),
            "{:?}",
            outcome.thread
        );
    }
    assert_eq!(pool_stats().poisoned_total, before.poisoned_total);

    // The thread left for a namespace of another kind.
    set_poison_hook(|_| {});
    let outcome = Call::new(&home).outcome(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).unwrap();
        give_up_sys_admin();
    });
    assert!(is_poisoned(&outcome.unwrap().thread));
    assert_eq!(pool_stats().poisoned_total, before.poisoned_total + 1);
}
