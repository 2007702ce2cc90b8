//! Workers: each stays in one namespace, can be shared, and is as safe as a call. The tests count threads, so they take
//! turns.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use in_netns::{NetNs, Worker, pool_stats, retire_current_thread, set_poison_hook, with_netns};
use in_netns_tests::{
    alone, drop_effective, give_up_sys_admin, here, home, is_alive, is_asleep, key, separate, threads_in,
    threads_outside_home, tid, wait_until,
};

#[test]
fn a_worker_can_be_shared_and_sent() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Worker>();
}

#[test]
fn every_run_is_on_one_thread_inside() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    assert_eq!(worker.netns(), &ns);
    let first = worker.run(tid).unwrap();
    for _ in 0..1_000 {
        assert_eq!(worker.run(|| (tid(), here())).unwrap(), (first, key(ns.id())));
    }
    assert_ne!(first, tid());
    assert_eq!(here(), home());
}

#[test]
fn a_worker_that_is_not_used_costs_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let before = pool_stats();
    drop(ns.worker());
    assert_eq!(pool_stats(), before);
}

#[test]
fn dropping_it_gives_the_thread_back_at_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let on = worker.run(tid).unwrap();
    assert_eq!(threads_in(&ns), [on]);
    drop(worker);
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
    assert_eq!(pool_stats().leased, 0);
    assert_eq!(with_netns(&ns, tid).unwrap(), on, "the next call gets it");
}

#[test]
fn a_panic_is_resumed_and_the_worker_goes_on() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let on = worker.run(tid).unwrap();
    let payload =
        panic::catch_unwind(AssertUnwindSafe(|| worker.run(|| panic::resume_unwind(Box::new(7))))).unwrap_err();
    assert_eq!(*payload.downcast::<i32>().unwrap(), 7);
    assert_eq!(worker.run(|| (tid(), here())).unwrap(), (on, key(ns.id())));
}

#[test]
fn a_retired_thread_is_replaced() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let first = worker.run(|| (tid(), retire_current_thread())).unwrap();
    assert!(first.1);
    wait_until("it exits", || !is_alive(first.0));
    assert_eq!(worker.run(here).unwrap(), key(ns.id()));
}

#[test]
fn a_worker_that_cannot_go_home_is_poisoned() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let on = worker
        .run(|| {
            give_up_sys_admin();
            tid()
        })
        .unwrap();
    assert_eq!(worker.run(|| (tid(), here())).unwrap(), (on, key(ns.id())), "it need not go home to go on");
    let before = pool_stats().poisoned_total;
    drop(worker);
    assert_eq!(pool_stats().poisoned_total, before + 1);
    assert!(!is_alive(on));
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
}

#[test]
fn changes_on_a_workers_thread_do_not_reach_other_calls() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let on = worker
        .run(|| {
            drop_effective(caps::Capability::CAP_NET_RAW);
            tid()
        })
        .unwrap();
    drop(worker);
    for _ in 0..10 {
        assert_ne!(with_netns(&ns, tid).unwrap(), on);
    }
}

#[test]
fn an_entry_that_fails_is_an_error_of_the_run() {
    let _alone = alone();
    let foreign = separate!("foreign_worker").output().unwrap();
    assert!(foreign.status.success(), "{foreign:?}");
}

#[test]
fn callers_are_served_in_their_order() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let order = Mutex::new(Vec::new());
    let (started, begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let arrived = AtomicU32::new(0);
    thread::scope(|scope| {
        let (worker, order, arrived) = (&worker, &order, &arrived);
        scope.spawn(move || {
            worker.run(move || {
                started.send(()).unwrap();
                wait.recv().unwrap();
            })
        });
        begun.recv().unwrap();
        for caller in 0..16 {
            scope.spawn(move || {
                arrived.store(tid(), Ordering::SeqCst);
                worker.run(|| order.lock().unwrap().push(caller)).unwrap();
            });
            wait_until("the caller has come", || arrived.load(Ordering::SeqCst) != 0);
            let caller = arrived.swap(0, Ordering::SeqCst);
            wait_until("the caller is in line, asleep", || is_asleep(caller));
        }
        go_on.send(()).unwrap();
    });
    assert_eq!(order.into_inner().unwrap(), (0..16).collect::<Vec<_>>());
}

#[test]
fn many_callers_share_one_worker() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(worker.run(here).unwrap(), key(ns.id()));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 64 * 50);
    drop(worker);
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}

#[test]
#[allow(clippy::large_stack_arrays, reason = "they are what is tested")]
fn a_worker_may_be_given_and_return_more_than_fits_the_stack_many_times() {
    const BYTES: usize = 64 << 10;
    let _alone = alone();
    let worker = NetNs::new().unwrap().worker();
    let captured = [7_u8; BYTES];
    assert!(worker.run(move || captured).unwrap().iter().all(|byte| *byte == 7));
}
