//! All kinds of calls at once, for a bounded number of calls. At the end the process is as it was, and the pool
//! responds.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use in_netns::{Call, NetNs, pinned, pool_stats, retire_current_thread, set_poison_hook, with_netns};
use in_netns_tests::{
    alone, descriptors, give_up_sys_admin, here, home, key, threads, threads_in, threads_outside_home, wait_until,
};
use nix::sched::{CloneFlags, unshare};

const CALLERS: usize = 200;
const CALLS: usize = 60;

/// One call of the mixture, chosen by `turn`. Every body checks its namespace.
fn one(turn: usize, ns: &NetNs, other: &NetNs, poisonings: &AtomicU64) {
    let inside = || assert_eq!(here(), key(ns.id()));
    match turn % 12 {
        0 => {
            with_netns("no-such-name", || unreachable!("the body ran")).unwrap_err();
        }
        1 => {
            let body = AssertUnwindSafe(|| with_netns(ns, || panic::resume_unwind(Box::new(turn))));
            let payload = panic::catch_unwind(body).map(|called: Result<(), _>| called).unwrap_err();
            assert_eq!(*payload.downcast::<usize>().unwrap(), turn);
        }
        2 => with_netns(ns, || {
            inside();
            assert_eq!(with_netns(other, here).unwrap(), key(other.id()));
            inside();
        })
        .unwrap(),
        3 => {
            poisonings.fetch_add(1, Ordering::Relaxed);
            let value = with_netns(ns, || {
                inside();
                give_up_sys_admin();
                turn
            });
            assert_eq!(value.unwrap(), turn);
        }
        4 => pinned(|thread| {
            assert_eq!(here(), home());
            let mut guard = thread.enter(ns).unwrap();
            inside();
            let inner = guard.enter(other).unwrap();
            assert_eq!(here(), key(other.id()));
            drop(inner);
            inside();
            std::mem::forget(guard);
        })
        .unwrap(),
        5 => Call::new(ns).fresh().run(inside).unwrap(),
        6 => {
            let dirty =
                [CloneFlags::CLONE_NEWUTS, CloneFlags::CLONE_FS, CloneFlags::CLONE_FILES, CloneFlags::CLONE_NEWNS];
            with_netns(ns, || unshare(dirty[turn / 12 % dirty.len()]).unwrap()).unwrap();
        }
        7 => assert!(with_netns(ns, retire_current_thread).unwrap()),
        _ => with_netns(ns, inside).unwrap(),
    }
}

#[test]
fn two_hundred_callers_with_everything_mixed_leave_nothing() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let spaces: Vec<_> = (0..8).map(|_| NetNs::new().unwrap()).collect();
    with_netns(&spaces[0], || ()).unwrap();
    let (open, alive, before) = (descriptors(), threads().len(), pool_stats());
    let poisonings = AtomicU64::new(0);

    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (spaces, poisonings) = (&spaces, &poisonings);
            scope.spawn(move || {
                for call in 0..CALLS {
                    let turn = caller * 7 + call;
                    one(turn, &spaces[turn % 8], &spaces[(turn + 3) % 8], poisonings);
                }
            });
        }
    });

    assert_eq!(threads_outside_home(), [] as [u32; 0]);
    for ns in &spaces {
        assert_eq!(threads_in(ns), [] as [u32; 0]);
        with_netns(ns, || assert_eq!(here(), key(ns.id()))).unwrap();
    }
    assert_eq!(descriptors(), open);
    let stats = pool_stats();
    assert_eq!(stats.poisoned_total, before.poisoned_total + poisonings.into_inner());
    assert_eq!(stats.leased, 0);
    assert!(stats.idle <= CALLERS * 2, "{stats:?}");
    wait_until("the burst's threads are gone after the keep-alive", || threads().len() <= alive);
}
