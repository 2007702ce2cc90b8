//! Changes of a closure do not reach other calls: the restore undoes them, or the thread is retired.

use std::collections::BTreeSet;
use std::fs;
use std::mem;
use std::path::Path;
use std::thread;
use std::time::Duration;

use in_netns::{Call, Change, NetNs, RetireReason, ThreadFate, pinned, pool_stats, retire_current_thread, with_netns};
use in_netns_tests::{Semaphore, alone, drop_effective, here, home, is_alive, key, tid, wait_until};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, raise};

/// The state of the calling thread that a restore and an inspection cover.
fn state() -> Vec<String> {
    let mut state: Vec<_> = ["net", "uts", "ipc", "cgroup", "pid_for_children", "mnt"]
        .iter()
        .map(|kind| fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap().display().to_string())
        .collect();
    for link in ["cwd", "root"] {
        state.push(fs::read_link(format!("/proc/thread-self/{link}")).unwrap().display().to_string());
    }
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    state.extend(status.lines().filter(|line| line.starts_with("Umask") || line.starts_with("Cap")).map(str::to_owned));
    state
}

/// Runs `body` many times, and checks that no later call gets a changed thread.
#[track_caller]
fn no_later_call_sees(body: fn(), retired_as: impl Fn(&ThreadFate) -> bool) {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let pristine = pinned(|_| state()).unwrap();
    let outcome = Call::new(&ns)
        .outcome(|| {
            body();
            tid()
        })
        .unwrap();
    let changed = outcome.value.unwrap();
    assert!(retired_as(&outcome.thread), "{:?}", outcome.thread);
    if matches!(outcome.thread, ThreadFate::Retired(_)) {
        wait_until("the changed thread exits", || !is_alive(changed));
    }
    // Without an outcome to wait for, the next call races with the inspection, and must still not get a changed thread.
    for _ in 0..50 {
        with_netns(&ns, body).unwrap();
        assert_eq!(pinned(|_| state()).unwrap(), pristine);
    }
}

fn changed(change: Change) -> impl Fn(&ThreadFate) -> bool {
    move |fate| matches!(fate, ThreadFate::Retired(RetireReason::Changed(found)) if *found == change)
}

/// The thread is restored if home's user namespace owns the namespace, and retired otherwise.
fn restored_or_retired(fate: &ThreadFate) -> bool {
    // `Unknown`: the file of a pid namespace without a process cannot be read.
    matches!(
        fate,
        ThreadFate::Reusable | ThreadFate::Retired(RetireReason::Changed(Change::Namespace | Change::Unknown))
    )
}

#[test]
fn case_18_an_unshared_mount_namespace_is_not_left_to_a_later_call() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_NEWNS).unwrap(), changed(Change::Filesystem));
}

#[test]
fn case_18_an_unshared_uts_namespace_is_not_left_to_a_later_call() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_NEWUTS).unwrap(), restored_or_retired);
}

#[test]
fn case_18_an_unshared_ipc_namespace_is_not_left_to_a_later_call() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_NEWIPC).unwrap(), restored_or_retired);
}

#[test]
fn operations_on_semaphores_last_after_the_body() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let semaphore = Semaphore::new(10);
    for call in 1..=3 {
        let outcome = Call::new(&ns).outcome(|| semaphore.add(-1)).unwrap();
        assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
        assert_eq!(semaphore.value(), 10 - call);
    }
    // The process has one list: what one thread took, another gives back.
    with_netns(&ns, || semaphore.add(3)).unwrap();
    assert_eq!(semaphore.value(), 10);
    semaphore.add(-1);
    with_netns(&ns, || semaphore.add(1)).unwrap();
    assert_eq!(semaphore.value(), 10);
}

#[test]
fn an_unshared_list_of_semaphore_operations_is_not_left_to_a_later_call() {
    // `CLONE_SYSVSEM`, which unshares what no namespace has.
    let unshare_list = || unshare(CloneFlags::CLONE_SYSVSEM).unwrap();
    no_later_call_sees(unshare_list, changed(Change::SemaphoreUndo));
}

#[test]
fn a_signal_that_a_body_leaves_pending_is_never_delivered() {
    // Its default action is to end the process.
    let leave_one_pending = || {
        let signal = Signal::SIGUSR2;
        let mut set = SigSet::empty();
        set.add(signal);
        set.thread_block().unwrap();
        raise(signal).unwrap();
    };
    no_later_call_sees(leave_one_pending, changed(Change::PendingSignal));
}

#[test]
fn case_18_an_unshared_cgroup_namespace_is_not_left_to_a_later_call() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_NEWCGROUP).unwrap(), restored_or_retired);
}

#[test]
fn case_18_an_unshared_pid_namespace_for_children_is_not_left_to_a_later_call() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_NEWPID).unwrap(), restored_or_retired);
}

#[test]
fn case_18_an_unshared_network_namespace_is_left_like_any_other() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_NEWNET).unwrap(), |fate| matches!(fate, ThreadFate::Reusable));
}

#[test]
fn case_18_an_unshared_file_table_is_not_left_to_a_later_call() {
    no_later_call_sees(|| unshare(CloneFlags::CLONE_FILES).unwrap(), changed(Change::FileTable));
}

#[test]
fn case_18_a_directory_and_umask_that_are_unshared_are_not_left_to_a_later_call() {
    no_later_call_sees(
        || {
            unshare(CloneFlags::CLONE_FS).unwrap();
            std::env::set_current_dir(Path::new("/proc")).unwrap();
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o123));
        },
        changed(Change::Filesystem),
    );
}

#[test]
fn case_18_a_dropped_capability_is_not_left_to_a_later_call() {
    no_later_call_sees(|| drop_effective(caps::Capability::CAP_NET_RAW), changed(Change::Capabilities));
}

#[test]
fn case_18_a_dropped_permitted_capability_is_not_left_to_a_later_call() {
    no_later_call_sees(
        || {
            drop_effective(caps::Capability::CAP_NET_RAW);
            caps::drop(None, caps::CapSet::Permitted, caps::Capability::CAP_NET_RAW).unwrap();
        },
        changed(Change::Capabilities),
    );
}

#[test]
fn case_19_retire_ends_the_thread() {
    let _alone = alone();
    let retired = pool_stats().retired_total;
    let asked = pinned(|thread| {
        thread.retire();
        tid()
    })
    .unwrap();
    assert_eq!(pool_stats().retired_total, retired + 1);
    assert_ne!(pinned(|_| tid()).unwrap(), asked);
    wait_until("it exits", || !is_alive(asked));
}

#[test]
fn case_19_retire_current_thread_ends_the_thread() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert!(!retire_current_thread(), "the test's thread is not pinned");
    for fresh in [false, true] {
        let call = if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
        let outcome = call
            .outcome(|| {
                assert!(retire_current_thread());
                tid()
            })
            .unwrap();
        assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Asked)), "{:?}", outcome.thread);
        let asked = outcome.value.unwrap();
        wait_until("it exits", || !is_alive(asked));
    }
}

#[test]
fn case_19_a_retired_thread_never_runs_again() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut retired = BTreeSet::new();
    for _ in 0..100 {
        let on = with_netns(&ns, || {
            retire_current_thread();
            tid()
        })
        .unwrap();
        wait_until("it exits", || !is_alive(on));
        assert!(retired.insert(on) || !is_alive(on), "thread {on} ran again");
    }
}

#[test]
fn case_23_a_forgotten_guard_leaves_the_next_lease_at_home() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let first = pinned(|thread| {
        let mut guard = thread.enter(&a).unwrap();
        mem::forget(guard.enter(&b).unwrap());
        assert_eq!(here(), key(b.id()));
        mem::forget(guard);
        tid()
    })
    .unwrap();
    let (second, at) = pinned(|_| (tid(), here())).unwrap();
    assert_eq!(second, first, "a forgotten guard costs no thread");
    assert_eq!(at, home());
}

#[test]
fn case_23_a_forgotten_guard_holds_no_namespace_after_the_call() {
    let _alone = alone();
    let (a, b, c) = (NetNs::new().unwrap(), NetNs::new().unwrap(), NetNs::new().unwrap());
    pinned(|thread| {
        let mut outer = thread.enter(&a).unwrap();
        mem::forget(outer.enter(&b).unwrap());
        assert_eq!((outer.netns(), here()), (&a, key(b.id())));
        // A guard goes back to where it was created, whatever was forgotten within.
        let inner = outer.enter(&c).unwrap();
        assert_eq!((inner.netns(), here()), (&c, key(c.id())));
        drop(inner);
        assert_eq!(here(), key(a.id()));
        mem::forget(outer);
        mem::forget(thread.enter(&b).unwrap());
    })
    .unwrap();
    let weak = [&a, &b, &c].map(|ns| ns.downgrade().unwrap());
    drop((a, b, c));
    let is_gone = || weak.iter().all(|ns| ns.upgrade().unwrap().is_none());
    // Another program that lists namespaces may hold one for a moment. The idle thread would, until it exits after 5 s.
    let is_gone_soon = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        is_gone()
    });
    assert!(is_gone_soon, "a handle is left");
}

#[test]
fn an_unchanged_thread_is_reused() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let outcome = Call::new(&ns).outcome(tid).unwrap();
    assert!(matches!(outcome.thread, ThreadFate::Reusable));
    assert_eq!(with_netns(&ns, tid).unwrap(), outcome.value.unwrap());
}

/// Returns the fate of the thread of a fresh call that `caller` prepares for and that runs `body`, sync and async.
fn fates_of_fresh_calls(caller: fn(), body: fn()) -> [ThreadFate; 2] {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let start = || {
        caller();
        let sync = Call::new(&ns).fresh().outcome(body).unwrap();
        let future = Call::new(&ns).fresh().outcome_async(async || body());
        [sync.thread, futures::executor::block_on(future).unwrap().thread]
    };
    thread::scope(|scope| scope.spawn(start).join().unwrap())
}

/// A fresh thread has from its caller what threads inherit. Its body has changed none of that.
#[test]
fn a_fresh_thread_is_compared_with_what_it_began_with() {
    let callers: [fn(); 7] = [
        || (),
        || unshare(CloneFlags::CLONE_FS).unwrap(),
        || unshare(CloneFlags::CLONE_NEWNS).unwrap(),
        || unshare(CloneFlags::CLONE_SYSVSEM).unwrap(),
        || unshare(CloneFlags::CLONE_NEWIPC).unwrap(),
        || unshare(CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWCGROUP).unwrap(),
        || unshare(CloneFlags::CLONE_FILES | CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWIPC).unwrap(),
    ];
    for (number, caller) in callers.into_iter().enumerate() {
        for fate in fates_of_fresh_calls(caller, || ()) {
            assert!(matches!(fate, ThreadFate::Retired(RetireReason::Fresh)), "caller {number}: {fate:?}");
        }
        for fate in fates_of_fresh_calls(caller, || drop(fs::metadata("/"))) {
            assert!(matches!(fate, ThreadFate::Retired(RetireReason::Fresh)), "caller {number}: {fate:?}");
        }
        // What a body changes is seen all the same.
        for fate in fates_of_fresh_calls(caller, || unshare(CloneFlags::CLONE_NEWNS).unwrap()) {
            assert!(changed(Change::Filesystem)(&fate) || changed(Change::MountNamespace)(&fate), "{number}: {fate:?}");
        }
        for fate in fates_of_fresh_calls(caller, || unshare(CloneFlags::CLONE_NEWIPC).unwrap()) {
            assert!(changed(Change::Namespace)(&fate), "caller {number}: {fate:?}");
        }
        for fate in fates_of_fresh_calls(caller, || unshare(CloneFlags::CLONE_SYSVSEM).unwrap()) {
            assert!(changed(Change::SemaphoreUndo)(&fate), "caller {number}: {fate:?}");
        }
    }
}
