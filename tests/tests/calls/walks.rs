//! Walks: one thread visits many namespaces, with one `setns` each.

use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use in_netns::{NetNs, par_walk, pool_stats, retire_current_thread, set_poison_hook, walk};
use in_netns_tests::{
    alone, descriptors, give_up_sys_admin, here, home, is_alive, key, separate, threads_in, threads_outside_home, tid,
    wait_until,
};

fn spaces(count: usize) -> Vec<NetNs> {
    (0..count).map(|_| NetNs::new().unwrap()).collect()
}

#[test]
fn each_is_visited_in_order_on_one_thread_that_is_home_after() {
    let _alone = alone();
    let spaces = spaces(20);
    let seen = walk(&spaces, |ns| (tid(), here() == key(ns.id()))).unwrap();
    let threads: BTreeSet<_> = seen.into_iter().map(|visit| visit.unwrap()).collect();
    assert_eq!(threads.len(), 1, "one thread visits every namespace: {threads:?}");
    assert!(threads.iter().all(|(on, right)| *right && *on != tid()));
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
    assert_eq!(here(), home());
}

#[test]
#[allow(clippy::large_stack_arrays, reason = "they are what is tested")]
fn a_walk_may_return_what_takes_a_quarter_of_its_stack() {
    const BYTES: usize = 512 << 10;
    let _alone = alone();
    let spaces = spaces(2);
    let walks = || {
        for walked in [walk(&spaces, |_| [7_u8; BYTES]), par_walk(&spaces, 2, |_| [7_u8; BYTES])] {
            assert!(walked.unwrap().into_iter().flatten().flatten().all(|byte| byte == 7));
        }
    };
    thread::scope(|scope| {
        let caller = thread::Builder::new().stack_size(64 << 20).spawn_scoped(scope, walks).unwrap();
        caller.join().unwrap();
    });
}

#[test]
fn a_walk_goes_on_in_another_thread_after_one_that_was_retired() {
    let _alone = alone();
    let spaces = spaces(3);
    let retire = |ns: &NetNs| (ns.is_current().unwrap(), tid(), retire_current_thread());
    for walked in [walk(&spaces, retire), par_walk(&spaces, 1, retire)] {
        let seen: Vec<_> = walked.unwrap().into_iter().map(Result::unwrap).collect();
        assert!(seen.iter().all(|(inside, _, retired)| *inside && *retired));
        let threads: BTreeSet<_> = seen.iter().map(|(_, thread, _)| *thread).collect();
        assert_eq!(threads.len(), 3, "no retired thread visits another namespace");
    }
}

#[test]
fn an_empty_walk_visits_nothing() {
    let _alone = alone();
    assert!(walk(&[] as &[NetNs], |_| ()).unwrap().is_empty());
    assert!(par_walk(&[] as &[NetNs], None, |_| ()).unwrap().is_empty());
}

#[test]
fn the_closure_may_keep_a_count() {
    let _alone = alone();
    let spaces = spaces(5);
    let mut count = 0;
    walk(spaces.iter().skip(1), |_| count += 1).unwrap();
    assert_eq!(count, 4);
}

#[test]
fn one_that_cannot_be_entered_gives_its_error_and_the_walk_goes_on() {
    let _alone = alone();
    let output = separate!("foreign_walk").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// `as_ref` is code of the caller, which is not to run in the namespace of the item before.
#[test]
fn an_item_is_asked_for_its_namespace_on_the_callers_thread() {
    struct Lazy<'l> {
        ns: &'l NetNs,
        asked: &'l Mutex<Vec<(u32, (u64, u64))>>,
    }
    impl AsRef<NetNs> for Lazy<'_> {
        fn as_ref(&self) -> &NetNs {
            self.asked.lock().unwrap().push((tid(), here()));
            self.ns
        }
    }
    let _alone = alone();
    let spaces = spaces(3);
    let asked = Mutex::default();
    let items = || spaces.iter().map(|ns| Lazy { ns, asked: &asked });
    let right = |item: Lazy<'_>| here() == key(item.ns.id());
    assert!(walk(items(), right).unwrap().into_iter().all(|visit| visit.unwrap()));
    assert!(par_walk(items(), 2, right).unwrap().into_iter().all(|visit| visit.unwrap()));
    assert_eq!(asked.into_inner().unwrap(), [(tid(), home()); 6]);
}

#[test]
fn a_walk_keeps_no_handle_of_a_namespace_that_the_closure_lets_go_of() {
    let _alone = alone();
    let is_open = |ns: NetNs| {
        let target = ns.to_string();
        drop(ns);
        descriptors().values().any(|file| *file == target)
    };
    let walked = walk(spaces(2), is_open).unwrap().into_iter().chain(par_walk(spaces(3), 2, is_open).unwrap());
    assert!(!walked.into_iter().any(|visit| visit.unwrap()));
}

#[test]
fn a_panic_ends_the_walk_and_is_resumed() {
    let _alone = alone();
    let spaces = spaces(4);
    let visited = AtomicUsize::new(0);
    let stop_at = spaces[1].id();
    let walked = panic::catch_unwind(AssertUnwindSafe(|| {
        walk(&spaces, |ns| {
            visited.fetch_add(1, Ordering::Relaxed);
            if ns.id() == stop_at {
                panic::resume_unwind(Box::new("here"));
            }
        })
    }));
    assert_eq!(*walked.unwrap_err().downcast::<&str>().unwrap(), "here");
    assert_eq!(visited.into_inner(), 2);
    assert_eq!(threads_in(&spaces[1]), [] as [u32; 0]);
}

#[test]
fn a_walk_that_cannot_go_home_is_poisoned_with_its_results_kept() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let spaces = spaces(3);
    let before = pool_stats().poisoned_total;
    let seen = walk(&spaces, |_| {
        give_up_sys_admin();
        tid()
    })
    .unwrap();
    let on = *seen[0].as_ref().unwrap();
    assert!(seen[1..].iter().all(Result::is_err), "without the capability no other can be entered");
    assert_eq!(pool_stats().poisoned_total, before + 1);
    assert!(!is_alive(on));
}

#[test]
fn par_walk_gives_the_results_in_order_from_no_more_threads_than_asked() {
    let _alone = alone();
    let spaces = spaces(40);
    for (limit, most) in
        [(None, std::thread::available_parallelism().unwrap().get()), (Some(4), 4), (Some(1), 1), (Some(0), 1)]
    {
        let on = Mutex::new(BTreeSet::new());
        let seen = par_walk(&spaces, limit, |ns| {
            on.lock().unwrap().insert(tid());
            assert_eq!(here(), key(ns.id()));
            ns.id()
        })
        .unwrap();
        let seen: Vec<_> = seen.into_iter().map(Result::unwrap).collect();
        assert_eq!(seen, spaces.iter().map(NetNs::id).collect::<Vec<_>>());
        assert!(on.into_inner().unwrap().len() <= most);
    }
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}

#[test]
fn par_walk_really_walks_side_by_side() {
    let _alone = alone();
    let spaces = spaces(3);
    let barrier = std::sync::Barrier::new(3);
    // Each closure waits for the other two: a single thread would wait without end.
    par_walk(&spaces, 3, |_| barrier.wait().is_leader()).unwrap();
}

#[test]
fn a_panic_in_par_walk_is_resumed_when_all_have_finished() {
    let _alone = alone();
    let spaces = spaces(12);
    let stop_at = spaces[5].id();
    let walked = panic::catch_unwind(AssertUnwindSafe(|| {
        par_walk(&spaces, 3, |ns| {
            if ns.id() == stop_at {
                panic::resume_unwind(Box::new(5));
            }
        })
    }));
    assert_eq!(*walked.unwrap_err().downcast::<i32>().unwrap(), 5);
    wait_until("no thread is left inside", || spaces.iter().all(|ns| threads_in(ns).is_empty()));
}

struct Pod {
    name: &'static str,
    netns: NetNs,
}

impl AsRef<NetNs> for Pod {
    fn as_ref(&self) -> &NetNs {
        &self.netns
    }
}

/// An item that tells where it is dropped.
struct Dropped<'t> {
    netns: NetNs,
    places: &'t Mutex<Vec<Place>>,
}

/// A namespace, as the kernel reports it.
type Place = (u64, u64);

impl AsRef<NetNs> for Dropped<'_> {
    fn as_ref(&self) -> &NetNs {
        &self.netns
    }
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.places.lock().unwrap().push(here());
    }
}

/// As a walk of one kind or the other, whose closure takes the item.
type Walk = fn(Vec<Dropped<'_>>, &(dyn Fn(Dropped<'_>) + Sync)) -> bool;

const WALKS: [Walk; 2] = [
    |items, f| walk(items, f).unwrap().iter().all(Result::is_ok),
    |items, f| par_walk(items, 1, f).unwrap().iter().all(Result::is_ok),
];

#[test]
fn an_item_that_is_refused_is_dropped_at_the_caller() {
    let _alone = alone();
    set_poison_hook(|_| {});
    for walk in WALKS {
        let (spaces, places) = (spaces(3), Mutex::default());
        let items = spaces.iter().map(|ns| Dropped { netns: ns.clone(), places: &places }).collect();
        assert!(!walk(items, &|item| {
            give_up_sys_admin();
            drop(item);
        }));
        assert_eq!(places.into_inner().unwrap(), [key(spaces[0].id()), home(), home()]);
    }
}

#[test]
fn items_that_a_panic_leaves_are_dropped_at_the_caller() {
    let _alone = alone();
    for walk in WALKS {
        let (spaces, places) = (spaces(3), Mutex::default());
        let items = spaces.iter().map(|ns| Dropped { netns: ns.clone(), places: &places }).collect();
        let walked = panic::catch_unwind(AssertUnwindSafe(|| {
            walk(items, &|item| {
                drop(item);
                panic::resume_unwind(Box::new("here"))
            })
        }));
        assert!(walked.is_err());
        assert_eq!(places.into_inner().unwrap(), [key(spaces[0].id()), home(), home()]);
    }
}

#[test]
fn a_walk_visits_items_that_lend_a_namespace() {
    let _alone = alone();
    let pods = ["web", "db"].map(|name| Pod { name, netns: NetNs::new().unwrap() });
    let visited = walk(&pods, |pod| (pod.name, here() == key(pod.netns.id()))).unwrap();
    assert_eq!(visited.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [("web", true), ("db", true)]);

    let labelled = pods.map(|Pod { name, netns }| (name.to_owned(), netns));
    let visited = par_walk(&labelled, 2, |(name, netns)| (name.clone(), here() == key(netns.id()))).unwrap();
    let visited: Vec<_> = visited.into_iter().map(Result::unwrap).collect();
    assert_eq!(visited, [("web".to_owned(), true), ("db".to_owned(), true)]);

    // By value, the closure owns the item.
    let names = walk(labelled, |(name, _netns)| name).unwrap();
    assert_eq!(names.into_iter().map(Result::unwrap).collect::<Vec<_>>(), ["web", "db"]);
}
