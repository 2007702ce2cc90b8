//! The basic promises of a call: the body runs inside, the caller does not move, and everything is restored before the
//! return. The numbers in test names are those of `tests/CASES.md`.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use in_netns::{Call, Error, ErrorKind, NetNs, NetNsGuard, PinnedThread, pinned, pool_stats, with_netns};
use in_netns_tests::{alone, here, home, is_alive, key, threads_in, threads_outside_home, tid, wait_until};

#[test]
fn case_1_the_body_is_in_the_target() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert_eq!(with_netns(&ns, here).unwrap(), key(ns.id()));
    assert_eq!(ns.run(here).unwrap(), key(ns.id()));
    assert_eq!(Call::new(&ns).fresh().run(here).unwrap(), key(ns.id()));
    assert_eq!(pinned(|thread| thread.enter(&ns).map(|_guard| here())).unwrap().unwrap(), key(ns.id()));
}

#[test]
fn case_2_the_body_is_on_another_thread_and_never_on_the_leader() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let caller = tid();
    for body in [with_netns(&ns, tid).unwrap(), Call::new(&ns).fresh().run(tid).unwrap(), pinned(|_| tid()).unwrap()] {
        assert_ne!(body, caller);
        assert_ne!(body, std::process::id());
    }
}

/// Watches the calling thread from a second one while `work` runs, and asserts that it never moved.
fn watched(work: impl FnOnce()) {
    let (caller, home) = (tid(), home());
    let done = AtomicBool::new(false);
    let looks = AtomicU64::new(0);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let at = in_netns_tests::threads().get(&caller).copied();
                assert_eq!(at, Some(home), "the caller moved");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _done = scopeguard::guard((), |()| done.store(true, Ordering::Relaxed));
        wait_until("the watcher looks", || looks.load(Ordering::Relaxed) > 0 || watcher.is_finished());
        work();
        let seen = looks.load(Ordering::Relaxed);
        wait_until("the watcher looked on", || looks.load(Ordering::Relaxed) > seen || watcher.is_finished());
    });
}

#[test]
fn case_3_the_caller_never_moves() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let before = here();
    watched(|| {
        for _ in 0..200 {
            with_netns(&ns, || ()).unwrap();
            with_netns("no-such-name", || ()).unwrap_err();
            let _ = panic::catch_unwind(|| with_netns(&ns, || panic::resume_unwind(Box::new(()))));
            Call::new(&ns).fresh().run(|| ()).unwrap();
        }
        for _ in 0..20 {
            NetNs::new().unwrap();
        }
    });
    assert_eq!(here(), before);
}

#[test]
fn a_fallible_closure_needs_one_question_mark() {
    fn bind(ns: impl in_netns::IntoNetNs) -> std::io::Result<std::net::TcpListener> {
        in_netns::try_with_netns(ns, || std::net::TcpListener::bind("127.0.0.1:80"))
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let listener = bind(&ns).unwrap();
    assert_eq!(NetNs::of_socket(&listener).unwrap(), ns);
    // Both the closure's own error and a failure to enter arrive in the closure's error type.
    assert_eq!(bind(&ns).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(bind("no-such-name").unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let of_call = Call::new(&ns).fresh().try_run(|| Err::<(), _>(NetNs::from_name("").unwrap_err()));
    assert_eq!(of_call.unwrap_err().kind(), ErrorKind::InvalidName);
    assert_eq!(ns.try_run(|| Ok::<_, Error>(here())).unwrap(), key(ns.id()));
}

#[test]
fn case_4_the_bodys_own_error_comes_back_intact() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let error = with_netns(&ns, || Err::<(), _>(io::Error::from_raw_os_error(107))).unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(107));
}

#[test]
fn case_5_a_nested_body_is_in_the_inner_then_the_outer_then_home() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    pinned(|thread| {
        let at_home = here();
        let mut outer = thread.enter(&a).unwrap();
        assert_eq!(here(), key(a.id()));
        let inner = outer.enter(&b).unwrap();
        assert_eq!(here(), key(b.id()));
        assert_eq!(inner.netns(), &b);
        drop(inner);
        assert_eq!(here(), key(a.id()));
        assert_eq!(outer.netns(), &a);
        outer.restore().unwrap();
        assert_eq!(here(), at_home);
        assert!(!thread.is_poisoned());
    })
    .unwrap();
}

#[test]
fn case_5_guards_nest_sixteen_deep() {
    fn descend(guard: &mut NetNsGuard<'_>, rest: &[NetNs]) {
        let Some((next, rest)) = rest.split_first() else { return };
        let at = here();
        {
            let mut inner = guard.enter(next).unwrap();
            assert_eq!(here(), key(next.id()));
            descend(&mut inner, rest);
            assert_eq!(here(), key(next.id()));
        }
        assert_eq!(here(), at);
    }
    let _alone = alone();
    let spaces: Vec<_> = (0..16).map(|_| NetNs::new().unwrap()).collect();
    pinned(|thread| {
        let mut guard = thread.enter(&spaces[0]).unwrap();
        descend(&mut guard, &spaces[1..]);
    })
    .unwrap();
}

#[test]
fn case_5_a_nested_call_gets_another_thread_whose_home_is_home() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let home = home();
    with_netns(&a, || {
        let outer = tid();
        let start = pinned(|_| (tid(), here())).unwrap();
        assert_ne!(start.0, outer);
        assert_eq!(start.1, home, "a nested call's thread starts at home, not in the outer call's namespace");
        assert_eq!(with_netns(&b, here).unwrap(), key(b.id()));
        assert_eq!(Call::new(&b).fresh().run(here).unwrap(), key(b.id()));
        assert_eq!(here(), key(a.id()));
    })
    .unwrap();
}

#[test]
fn case_5_a_fresh_thread_started_inside_is_home_after_the_call() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let left = std::sync::Mutex::new(None);
    with_netns(&a, || {
        Call::new(&b).fresh().run(|| *left.lock().unwrap() = Some(tid())).unwrap();
        let tid = left.lock().unwrap().unwrap();
        // The thread may still be exiting. If it is listed at all, it is at home: neither in B nor in A, from where it
        // was started.
        assert!(!threads_in(&b).contains(&tid));
        assert!(!threads_in(&a).contains(&tid));
    })
    .unwrap();
}

#[test]
fn case_6_two_hundred_callers_are_inside_eight_namespaces() {
    const CALLERS: usize = 200;
    const CALLS: usize = 1000;
    let _alone = alone();
    let spaces: Vec<_> = (0..8).map(|_| NetNs::new().unwrap()).collect();
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let ns = &spaces[caller % spaces.len()];
            scope.spawn(move || {
                for call in 0..CALLS {
                    assert_eq!(with_netns(ns, here).unwrap(), key(ns.id()), "caller {caller}, call {call}");
                }
            });
        }
    });
    for ns in &spaces {
        assert_eq!(threads_in(ns), [] as [u32; 0]);
    }
}

#[test]
fn case_7_nothing_is_left_in_the_target_the_moment_a_pooled_call_returns() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for _ in 0..10_000 {
        with_netns(&ns, || ()).unwrap();
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
    }
    // The thread goes back in one way after a body that made a system call, and in another one after a body that made
    // none. One without optimisation looks as if it had made one, and one of the crate, in any case, as if it had not.
    for _ in 0..1_000 {
        with_netns(&ns, tid).unwrap();
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
        ns.udp_bind("127.0.0.1:0").unwrap();
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
    }
}

#[test]
fn case_7_nothing_is_left_in_the_target_the_moment_a_fresh_call_returns() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for _ in 0..10_000 {
        Call::new(&ns).fresh().run(|| ()).unwrap();
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
    }
}

#[test]
fn case_7_a_named_namespace_can_be_deleted_at_once() {
    let _alone = alone();
    for _ in 0..20 {
        let name = format!("in-netns-case7-{}", std::process::id());
        let ns = NetNs::create_named(&name).unwrap();
        with_netns(name.as_str(), || ()).unwrap();
        NetNs::delete_named(&name).unwrap();
        assert_eq!(threads_in(&ns), [] as [u32; 0]);
    }
}

#[test]
fn case_11_a_panic_keeps_its_payload_and_the_thread() {
    #[derive(Debug, PartialEq)]
    struct Payload(u32);
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let retired = pool_stats().retired_total;
    let worker = with_netns(&ns, tid).unwrap();
    let payload = panic::catch_unwind(|| with_netns(&ns, || panic::resume_unwind(Box::new(Payload(7))))).unwrap_err();
    assert_eq!(*payload.downcast::<Payload>().unwrap(), Payload(7));
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
    assert!(is_alive(worker), "the thread waits for its next call");
    assert_eq!(pool_stats().retired_total, retired);
}

#[test]
#[should_panic(expected = "the body's own words")]
fn case_11_should_panic_works() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let _ = with_netns(&ns, || panic!("the body's own words"));
}

/// A destructor that runs because of a panic may make a call, and may drop a worker that was used.
#[test]
fn a_call_can_be_made_while_the_caller_unwinds() {
    struct Calls<'a>(&'a NetNs, &'a mut Option<(u64, u64)>);
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            *self.1 = with_netns(self.0, here).ok();
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let mut seen = None;
    let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
        let worker = ns.worker();
        worker.run(|| ()).unwrap();
        let _calls = Calls(&ns, &mut seen);
        panic::resume_unwind(Box::new("on purpose"));
    }));
    assert_eq!(*unwound.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    assert_eq!(seen, Some(key(ns.id())));
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
}

#[test]
fn a_panic_under_guards_unwinds_through_them() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    pinned(|thread| {
        let at_home = here();
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut outer = thread.enter(&a).unwrap();
            let _inner = outer.enter(&b).unwrap();
            panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(caught.is_err());
        assert_eq!(here(), at_home);
        assert!(!thread.is_poisoned());
    })
    .unwrap();
}

#[test]
fn move_to_changes_the_namespace_and_not_the_way_back() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    pinned(|thread| {
        let at_home = here();
        let mut guard = thread.enter(&a).unwrap();
        guard.move_to(&b).unwrap();
        assert_eq!(guard.netns(), &b);
        assert_eq!(here(), key(b.id()));
        drop(guard);
        assert_eq!(here(), at_home);
    })
    .unwrap();
}

#[test]
fn a_body_may_borrow() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let words = [String::from("borrowed"), String::from("too")];
    let mut count = 0;
    let longest = with_netns(&ns, || {
        count += words.len();
        words.iter().max_by_key(|word| word.len())
    })
    .unwrap();
    assert_eq!(longest, Some(&words[0]));
    assert_eq!(count, 2);
}

#[test]
fn a_body_that_is_not_run_is_dropped_on_the_caller() {
    struct DroppedAt<'a>(&'a mut Option<u32>);
    impl Drop for DroppedAt<'_> {
        fn drop(&mut self) {
            *self.0 = Some(tid());
        }
    }
    let _alone = alone();
    let mut dropped_at = None;
    let held = DroppedAt(&mut dropped_at);
    let error = with_netns("no-such-name", move || drop(held)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(dropped_at, Some(tid()));
}

#[test]
fn a_value_lives_on_the_callers_side_and_drops_there() {
    struct Where(mpsc::Sender<u32>);
    impl Drop for Where {
        fn drop(&mut self) {
            self.0.send(tid()).unwrap();
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    drop(with_netns(&ns, move || Where(sender)).unwrap());
    assert_eq!(receiver.recv().unwrap(), tid());
}

#[test]
fn the_thread_has_the_name_that_was_asked_for_and_loses_it_after() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let comm = || std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    assert_eq!(Call::new(&ns).thread_name("probe").run(comm).unwrap(), "probe\n");
    assert_eq!(Call::new(&ns).fresh().thread_name("probe\0x").run(comm).unwrap(), "probe\n");
    assert_eq!(with_netns(&ns, comm).unwrap(), "in-netns\n");
}

#[test]
fn pinned_starts_at_home_and_may_stay_there() {
    let _alone = alone();
    assert_eq!(pinned(|_: &mut PinnedThread| here()).unwrap(), home());
}

#[test]
fn join_moves_a_thread_of_ones_own_and_refuses_a_pinned_one() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let at = thread::scope(|scope| scope.spawn(|| ns.join().map(|()| here())).join().unwrap()).unwrap();
    assert_eq!(at, key(ns.id()));
    let refused: Result<(), Error> = with_netns(&ns, || ns.join()).unwrap();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn is_current_tells_where_the_calling_thread_is() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    assert!(!ns.is_current().unwrap());
    assert!(with_netns(&ns, || ns.is_current()).unwrap().unwrap());
}

#[test]
fn a_call_from_a_thread_that_moved_away_is_restored_to_home_not_there() {
    let _alone = alone();
    let (a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let home = home();
    thread::scope(|scope| {
        scope.spawn(|| {
            a.join().unwrap();
            // Pooled and fresh threads must not take the caller's namespace for home.
            assert_eq!(pinned(|_| here()).unwrap(), home);
            let fresh = Call::new(&b).fresh().run(tid).unwrap();
            assert!(!threads_in(&a).contains(&fresh));
        });
    });
    wait_until("no thread is outside home", || threads_outside_home().is_empty() || threads_in(&a).is_empty());
}

/// Without optimisation a value is copied in each function that it passes through, and the stack of a pinned thread is
/// 2 MiB.
#[test]
#[allow(clippy::large_stack_arrays, reason = "they are what is tested")]
fn a_body_may_capture_and_return_more_than_fits_the_stack_many_times() {
    const BYTES: usize = 64 << 10;
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let captured = [7_u8; BYTES];
    let returned = with_netns(&ns, move || captured.map(|byte| byte + 1)).unwrap();
    assert!(returned.iter().all(|byte| *byte == 8));
    let refused = with_netns("", move || captured);
    assert!(refused.is_err());
}

/// The room for a large value is not moved to the stack of the pinned thread as well.
#[test]
#[allow(clippy::large_stack_arrays, reason = "they are what is tested")]
fn a_body_may_return_what_takes_a_quarter_of_its_stack() {
    const BYTES: usize = 512 << 10;
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    thread::scope(|scope| {
        let call = || with_netns(&ns, || [7_u8; BYTES]).unwrap().iter().all(|byte| *byte == 7);
        let caller = thread::Builder::new().stack_size(64 << 20).spawn_scoped(scope, call).unwrap();
        assert!(caller.join().unwrap());
    });
}

/// Gives the calling thread 10 of each 100 milliseconds (`SCHED_DEADLINE`), with these flags. `EPERM` for a user
/// without `CAP_SYS_NICE`.
fn be_scheduled_by_deadline(flags: u64) -> nix::Result<()> {
    const SCHED_DEADLINE: u64 = 6;
    const MILLISECOND: u64 = 1_000_000;
    let size = 48;
    let attributes = [size | SCHED_DEADLINE << 32, flags, 0, 10 * MILLISECOND, 100 * MILLISECOND, 100 * MILLISECOND];
    // SAFETY: the kernel reads 48 bytes, which `struct sched_attr` has.
    #[allow(unsafe_code)]
    nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes.as_ptr(), 0) }).map(drop)
}

/// The kernel refuses it `clone(2)` for threads with `EAGAIN`, as at a limit (`sched(7)`).
#[test]
fn a_thread_with_a_deadline_is_told_why_it_starts_no_thread() {
    const RESET_ON_FORK: u64 = 1;
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            if be_scheduled_by_deadline(0) == Err(nix::errno::Errno::EPERM) {
                eprintln!("an ordinary user cannot ask for deadlines");
                return;
            }
            let error = Call::new(&ns).fresh().run(|| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ThreadSpawn);
            let message = error.to_string();
            assert!(message.contains("SCHED_DEADLINE") && message.contains("SCHED_FLAG_RESET_ON_FORK"), "{message}");
            // A pooled thread is not started by the caller.
            assert_eq!(ns.run(here).unwrap(), key(ns.id()));
            be_scheduled_by_deadline(RESET_ON_FORK).unwrap();
            assert_eq!(Call::new(&ns).fresh().run(here).unwrap(), key(ns.id()));
        });
    });
}
