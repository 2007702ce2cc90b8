//! Pools of namespaces: each is given once, no more exist than the bound, and nothing outlives the pool.

use std::collections::HashSet;
use std::error::Error as _;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use in_netns::{Error, ErrorKind, NetNs, NetNsPool, PrepareResult, WeakNetNs, with_netns, with_netns_async};
use in_netns_tests::{
    BOUND, alone, context_switches, here, home, key, output_of, separate, thread_named, threads, threads_in, wait_until,
};
use nix::sched::{CloneFlags, setns, unshare};

/// Weak handles of all namespaces that a pool prepares.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<WeakNetNs>>>);

impl Seen {
    fn note(&self, ns: &NetNs) {
        self.0.lock().unwrap().push(ns.downgrade().unwrap());
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// How many are in use by something, as the kernel sees it.
    fn alive(&self) -> usize {
        let seen = self.0.lock().unwrap().clone();
        seen.iter().filter(|weak| weak.upgrade().unwrap().is_some()).count()
    }
}

/// The names of this process's threads.
fn thread_names() -> Vec<String> {
    threads()
        .keys()
        .filter_map(|thread| fs::read_to_string(format!("/proc/self/task/{thread}/comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

fn makers() -> usize {
    thread_names().iter().filter(|name| *name == "in-netns-pool").count()
}

#[test]
fn of_a_thousand_namespaces_none_is_given_twice_and_no_more_exist_than_the_bound() {
    const BOUND_OF_POOL: usize = 32;
    let _alone = alone();
    let seen = Seen::default();
    let pool = NetNsPool::builder().ready(16).at_most(BOUND_OF_POOL);
    let pool = pool
        .prepare({
            let seen = seen.clone();
            move |ns: &NetNs| seen.note(ns)
        })
        .build()
        .unwrap();
    let cookies = Mutex::new(HashSet::new());
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while taken.fetch_add(1, Ordering::Relaxed) < 1_000 {
                    let ns = pool.take().unwrap();
                    assert!(ns.run(|| ns.is_current()).unwrap().unwrap());
                    assert!(cookies.lock().unwrap().insert(ns.cookie().unwrap()), "{ns} was given before");
                    let alive = pool.stats().alive;
                    assert!(alive <= BOUND_OF_POOL, "{alive}");
                }
            });
        }
        scope.spawn(|| {
            while taken.load(Ordering::Relaxed) < 1_000 {
                // One may go and another come between two looks.
                let alive = seen.alive();
                assert!(alive <= BOUND_OF_POOL, "{alive}");
                thread::yield_now();
            }
        });
    });
    assert_eq!(cookies.into_inner().unwrap().len(), 1_000);
    drop(pool);
    assert_eq!(seen.alive(), 0);
    wait_until("the thread has ended", || makers() == 0);
}

/// What is taken stays, and what is being prepared at that moment goes as well.
#[test]
fn nothing_is_left_of_a_pool_that_is_dropped() {
    let _alone = alone();
    let seen = Seen::default();
    let (entered, started) = mpsc::channel();
    let build = |seen: Seen| {
        NetNsPool::builder()
            .ready(3)
            .prepare(move |ns: &NetNs| {
                seen.note(ns);
                entered.send(()).map_err(io::Error::other)
            })
            .build()
            .unwrap()
    };
    let pool = build(seen.clone());
    let taken = pool.take().unwrap();
    let clone = pool.clone();
    drop(pool);
    assert!(clone.take().is_ok());
    for _ in 0..4 {
        started.recv_timeout(BOUND).unwrap();
    }
    drop(clone);
    assert_eq!(seen.alive(), 1);
    wait_until("the thread has ended", || makers() == 0);
    assert!(taken.run(|| taken.is_current()).unwrap().unwrap());
    drop(taken);
    assert_eq!(seen.alive(), 0);
}

#[test]
fn a_caller_waits_until_there_is_room() {
    let _alone = alone();
    let pool = NetNsPool::builder().ready(5).at_most(2).build().unwrap();
    let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
    assert!(pool.try_take().unwrap().is_none());
    assert!(pool.take_timeout(Duration::from_millis(20)).unwrap().is_none());
    assert_eq!((pool.stats().ready, pool.stats().alive, pool.stats().waiting), (0, 2, 0));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.take());
        wait_until("it waits", || pool.stats().waiting == 1);
        // A socket holds the namespace as a handle does.
        let socket = first.run(|| std::net::UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
        drop(first);
        assert!(pool.take_timeout(Duration::from_millis(20)).unwrap().is_none());
        assert!(!waiting.is_finished());
        drop(socket);
        assert_ne!(waiting.join().unwrap().unwrap(), second);
    });
    drop(second);
    assert!(pool.take().is_ok());
}

#[test]
fn a_caller_that_has_waited_for_its_time_is_told_of_the_bound() {
    let _alone = alone();
    let pool = NetNsPool::builder().at_most(1).timeout(Duration::from_millis(20)).build().unwrap();
    let taken = pool.take().unwrap();
    let error = pool.take().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    assert!(error.to_string().contains("`at_most`"), "{error}");
    let error = futures::executor::block_on(pool.take_async()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    drop(taken);
    wait_until("there is room", || pool.take().is_ok());

    let (end, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let prepare = move |_: &NetNs| wait.lock().unwrap().recv().unwrap_or_default();
    let pool = NetNsPool::builder().timeout(Duration::from_millis(20)).prepare(prepare).build().unwrap();
    assert_eq!(pool.take().unwrap_err().kind(), ErrorKind::Busy);
    drop(end);
    let error = NetNsPool::builder().at_most(0).build().unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("`at_most`"), "{error}");
}

#[derive(Debug)]
struct Reason(usize);

impl std::fmt::Display for Reason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "reason {}", self.0)
    }
}

impl std::error::Error for Reason {}

/// Ahead or on demand, once for each failure; and the namespace is gone.
#[test]
fn a_failure_to_prepare_is_told_to_a_caller() {
    let _alone = alone();
    for ready in [0, 3] {
        let seen = Seen::default();
        let calls = AtomicUsize::new(0);
        let prepare = {
            let seen = seen.clone();
            move |ns: &NetNs| {
                seen.note(ns);
                match calls.fetch_add(1, Ordering::Relaxed) {
                    call if call % 2 == 0 => Err(Reason(call)),
                    _ => Ok(()),
                }
            }
        };
        let pool = NetNsPool::builder().ready(ready).at_most(10).prepare(prepare).build().unwrap();
        for round in 0..5 {
            let error = pool.take().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Prepare);
            let source: &Reason = error.source().and_then(|source| source.downcast_ref()).unwrap();
            assert_eq!(source.0, 2 * round);
            assert!(error.to_string().ends_with(&format!("failed: reason {}", 2 * round)), "{error}");
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other);
            drop(pool.take().unwrap());
        }
        drop(pool);
        assert_eq!(seen.alive(), 0, "of {}", seen.count());
    }
}

#[test]
fn a_panic_of_prepare_is_told_to_a_caller() {
    let _alone = alone();
    let pool = NetNsPool::builder().ready(2).at_most(4).prepare(|_| panic!("no {}", "address")).build().unwrap();
    for _ in 0..10 {
        let error = pool.take().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Prepare);
        assert!(error.to_string().ends_with("it panicked: no address"), "{error}");
        assert!(error.source().is_some());
    }
    wait_until("the namespaces are gone", || pool.stats().alive <= 1);
    let pool = NetNsPool::builder().prepare(|_| std::panic::resume_unwind(Box::new(7))).build().unwrap();
    assert!(pool.take().unwrap_err().to_string().contains("no text"));
}

/// A failure that no caller has been told of stops the making ahead: the closure is not called again and again.
#[test]
fn a_failure_ahead_stops_the_pool_until_it_is_told() {
    let _alone = alone();
    let calls = Arc::new(AtomicUsize::new(0));
    let prepare = {
        let calls = Arc::clone(&calls);
        move |_: &NetNs| {
            calls.fetch_add(1, Ordering::SeqCst);
            Err("no")
        }
    };
    let pool = NetNsPool::builder().ready(3).prepare(prepare).build().unwrap();
    wait_until("it is prepared and gone", || calls.load(Ordering::SeqCst) == 1 && pool.stats().alive == 0);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(pool.stats().ready, 0);
    assert!(pool.try_take().is_err());
    wait_until("it tries again", || calls.load(Ordering::SeqCst) == 2);
}

#[test]
fn a_closure_of_any_of_these_forms_prepares() {
    fn takes<F, R>(prepare: F)
    where
        F: Fn(&NetNs) -> R + Send + Sync + 'static,
        R: PrepareResult,
    {
        NetNsPool::builder().ready(0).prepare(prepare).build().unwrap().take().unwrap();
    }
    fn named(ns: &NetNs) -> Result<(), Error> {
        ns.run(|| ())
    }
    let _alone = alone();
    takes(|_| ());
    takes(|ns: &NetNs| assert!(ns.run(|| ns.is_current()).unwrap().unwrap()));
    takes(|_| Ok::<_, io::Error>(()));
    takes(|_| Ok::<(), String>(()));
    takes(|_| Ok::<(), Box<dyn std::error::Error + Send + Sync>>(()));
    takes(|ns| ns.run(|| 7).map(drop));
    takes(named);
    takes(|ns| -> io::Result<()> {
        ns.run(|| std::net::TcpListener::bind("127.0.0.1:80"))??;
        Ok(())
    });
    let pool = NetNsPool::builder().prepare(|ns| ns.run(|| 7).map(drop)).prepare(|_| Ok::<_, io::Error>(()));
    pool.build().unwrap().take().unwrap();
}

/// Wherever the pool is built and taken from.
#[test]
fn namespaces_are_prepared_at_home() {
    let _alone = alone();
    let place = Arc::new(Mutex::new(None));
    let elsewhere = NetNs::new().unwrap();
    let prepare = {
        let place = Arc::clone(&place);
        move |_: &NetNs| *place.lock().unwrap() = Some(here())
    };
    let pool = with_netns(&elsewhere, || NetNsPool::builder().ready(1).prepare(prepare).build().unwrap()).unwrap();
    let ns = with_netns(&elsewhere, || pool.take()).unwrap().unwrap();
    assert_eq!(*place.lock().unwrap(), Some(home()));
    assert!(threads().values().all(|place| *place != key(elsewhere.id()) && *place != key(ns.id())));
    let up = ns.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    assert!(up.contains("lo:"));
    ns.run(|| std::net::TcpListener::bind("127.0.0.1:80")).unwrap().expect("the loopback is up");
}

/// Each `prepare` begins at home, whatever the one before did to its thread, and no thread of the pool holds a
/// namespace.
#[test]
fn what_prepare_leaves_on_its_thread_is_not_there_for_the_next() {
    let _alone = alone();
    let changes: [fn(&NetNs); 2] =
        [|ns| setns(ns, CloneFlags::CLONE_NEWNET).unwrap(), |_| unshare(CloneFlags::CLONE_NEWUTS).unwrap()];
    for change in changes {
        let places = Arc::new(Mutex::new(Vec::new()));
        let prepare = {
            let places = Arc::clone(&places);
            move |ns: &NetNs| {
                let uts = fs::read_link("/proc/thread-self/ns/uts").unwrap();
                places.lock().unwrap().push((here(), uts));
                change(ns);
            }
        };
        let pool = NetNsPool::builder().ready(0).prepare(prepare).build().unwrap();
        let taken: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        let uts = fs::read_link("/proc/thread-self/ns/uts").unwrap();
        assert_eq!(*places.lock().unwrap(), vec![(home(), uts); 3]);
        for ns in &taken {
            assert_eq!(threads_in(ns), [] as [u32; 0]);
        }
    }
}

#[test]
fn prepare_cannot_take_from_its_own_pool() {
    let _alone = alone();
    // Emptied at the end: the closure keeps its own pool alive, and the pool its closure.
    let own_pool: Arc<Mutex<Option<Arc<NetNsPool>>>> = Arc::default();
    let in_prepare = Arc::clone(&own_pool);
    let (told, results) = mpsc::channel();
    let prepare = move |ns: &NetNs| {
        let Some(pool) = in_prepare.lock().unwrap().clone() else { return };
        let inside = ns.run(|| pool.take()).unwrap();
        let in_async = block_on(with_netns_async(ns, async || pool.take_timeout(BOUND))).unwrap();
        let results = [pool.take().map(drop), pool.try_take().map(drop), inside.map(drop), in_async.map(drop)];
        told.send(results.map(|result| result.unwrap_err().kind())).unwrap();
    };
    let pool = Arc::new(NetNsPool::builder().ready(0).prepare(prepare).build().unwrap());
    *own_pool.lock().unwrap() = Some(Arc::clone(&pool));
    pool.take().unwrap();
    assert_eq!(results.recv_timeout(BOUND).unwrap(), [ErrorKind::Unsupported; 4]);
    *own_pool.lock().unwrap() = None;
    drop(pool);
    wait_until("the thread has ended", || makers() == 0);
}

#[test]
fn taking_in_async_code_does_not_block_the_executor() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let pool = NetNsPool::builder().ready(0).at_most(1).build().unwrap();
        let first = pool.take_async().await.unwrap();
        let id = first.cookie();
        let release = async {
            // Runs on the same thread, while the other branch waits.
            while pool.stats().waiting == 0 {
                tokio::task::yield_now().await;
            }
            drop(first);
        };
        let (second, ()) = tokio::join!(pool.take_async(), release);
        assert_ne!(second.unwrap().cookie(), id);
    });
}

#[test]
fn a_future_that_is_dropped_loses_no_namespace() {
    use std::task::{Context, Waker};
    let _alone = alone();
    let made = Arc::new(AtomicUsize::new(0));
    // None is given while it is locked.
    let gate = Arc::new(Mutex::new(()));
    let prepare = {
        let (made, gate) = (Arc::clone(&made), Arc::clone(&gate));
        move |_: &NetNs| {
            drop(gate.lock());
            made.fetch_add(1, Ordering::SeqCst);
        }
    };
    let pool = NetNsPool::builder().ready(0).at_most(1).prepare(prepare).build().unwrap();
    for round in 1..=5 {
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = Box::pin(pool.take_async());
        let locked = gate.lock();
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(locked);
        // Given, and not fetched.
        wait_until("it is given", || pool.stats().waiting == 0);
        drop(waiting);
        let ns = pool.take().unwrap();
        assert_eq!(made.load(Ordering::SeqCst), round);
        let mut waiting = Box::pin(pool.take_async());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(waiting);
        assert_eq!(pool.stats().waiting, 0);
        drop(ns);
    }
}

/// How often the thread of the only pool has slept and was interrupted.
fn switches_of_maker() -> (u64, u64) {
    context_switches(thread_named("in-netns-pool").unwrap())
}

/// Returns when the thread of the only pool has not run for longer than its longest interval.
fn wait_until_maker_sleeps() {
    let mut before = switches_of_maker();
    wait_until("it falls asleep", || {
        thread::sleep(Duration::from_millis(600));
        let now = switches_of_maker();
        std::mem::replace(&mut before, now) == now
    });
}

#[test]
fn an_idle_pool_sleeps() {
    let _alone = alone();
    let pool = NetNsPool::builder().ready(2).build().unwrap();
    drop(pool.take().unwrap());
    wait_until("it has filled up and forgotten", || pool.stats().ready == 2 && pool.stats().alive == 2);
    wait_until_maker_sleeps();
    let before = switches_of_maker();
    // As long as two of its longest intervals.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(switches_of_maker(), before);
}

/// The pool does not watch it any more, as where the kernel takes seconds to dismantle it.
#[test]
fn a_namespace_that_goes_long_after_its_last_handle_is_not_counted() {
    let _alone = alone();
    let pool = NetNsPool::builder().ready(1).at_most(2).build().unwrap();
    let taken = [pool.take().unwrap(), pool.take().unwrap()];
    let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let sockets = taken.each_ref().map(|ns| ns.run(bind).unwrap());
    drop(taken);
    wait_until_maker_sleeps();
    assert_eq!((pool.stats().ready, pool.stats().alive), (0, 2));
    drop(sockets);
    wait_until("they are gone, and the pool fills up", || (pool.stats().ready, pool.stats().alive) == (1, 1));
}

/// In a user namespace of a child process, with a limit of its own.
#[test]
fn the_limit_of_the_kernel_is_waited_for_where_namespaces_are_being_dismantled() {
    let _alone = alone();
    for case in ["unbounded", "bounded", "in use"] {
        let output = output_of(separate!("pool_at_limit").arg(case));
        assert!(output.ends_with("as expected\n"), "{case}: {output}");
    }
}

#[test]
fn a_forked_process_cannot_take_and_does_not_hang() {
    let _alone = alone();
    let output = output_of(&mut separate!("pool_forked"));
    assert!(output.ends_with("as expected\n"), "{output}");
}
