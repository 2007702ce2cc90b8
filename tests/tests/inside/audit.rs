//! The audit: a call reports the threads that it leaves behind, and no others.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{
    Call, NetNs, RetireReason, Stray, ThreadFate, in_netns, retire_current_thread, set_stray_hook, with_netns,
};
use in_netns_tests::{drop_effective, give_up_sys_admin, is_alive, separate, threads_in, tid, wait_until};
use nix::sys::prctl;

/// A thread that runs until it is told to exit.
struct Stayer {
    id: u32,
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Stayer {
    fn start(name: &str) -> Stayer {
        let (end, wait): (_, Receiver<()>) = mpsc::channel();
        let (tell, hear) = mpsc::channel();
        let live = move || {
            tell.send(tid()).unwrap();
            let _ = wait.recv();
        };
        let thread = thread::Builder::new().name(name.into()).spawn(live).unwrap();
        Stayer { id: hear.recv().unwrap(), end, thread }
    }

    fn end(self) {
        drop(self.end);
        self.thread.join().unwrap();
    }
}

/// The strays that the hook received, from all tests of this file.
fn told() -> Vec<Stray> {
    static TOLD: Mutex<Vec<Stray>> = Mutex::new(Vec::new());
    static SET: Once = Once::new();
    SET.call_once(|| set_stray_hook(|stray| TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(stray.clone())));
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn is_reported(thread: u32) -> bool {
    told().iter().any(|stray| stray.thread_id == thread)
}

#[test]
fn a_stray_is_named() {
    let ns = NetNs::new().unwrap();
    for call in [Call::new(&ns), Call::new(&ns).fresh()] {
        let outcome = call.audit().outcome(|| Stayer::start("forgotten")).unwrap();
        let stayer = outcome.value.unwrap();
        assert_eq!(threads_in(&ns), [stayer.id], "the kernel's own answer");
        let [stray] = &outcome.strays[..] else { panic!("{:?}", outcome.strays) };
        assert_eq!((stray.thread_id, stray.name.as_str(), stray.netns), (stayer.id, "forgotten", ns.id()));
        assert!(stray.certain);
        let line = stray.to_string();
        assert!(line.contains(&format!("thread {} `forgotten` was started in a call", stayer.id)), "{line}");
        assert!(line.contains(&ns.to_string()) && line.contains("join it"), "{line}");
        stayer.end();
    }
}

#[test]
fn a_call_without_an_audit_reports_no_stray() {
    told();
    let ns = NetNs::new().unwrap();
    let outcome = Call::new(&ns).outcome(|| Stayer::start("unasked")).unwrap();
    let stayer = outcome.value.unwrap();
    assert_eq!(outcome.strays, []);
    assert!(!is_reported(stayer.id));
    stayer.end();
}

#[test]
fn a_grandchild_is_a_stray_too() {
    let ns = NetNs::new().unwrap();
    let body = || thread::spawn(|| Stayer::start("grandchild")).join().unwrap();
    let outcome = Call::new(&ns).audit().outcome(body).unwrap();
    let stayer = outcome.value.unwrap();
    assert_eq!(outcome.strays.len(), 1, "{:?}", outcome.strays);
    assert_eq!(outcome.strays[0].thread_id, stayer.id);
    stayer.end();
}

#[test]
fn a_joined_child_is_not_a_stray() {
    let ns = NetNs::new().unwrap();
    for _ in 0..2_000 {
        let outcome = Call::new(&ns).audit().outcome(|| thread::spawn(|| ()).join().unwrap()).unwrap();
        assert_eq!(outcome.strays, []);
    }
}

/// A thread that exits while the kernel lists threads hides those that come after it.
#[test]
fn a_stray_is_found_beside_threads_that_exit() {
    const OTHERS: usize = 8;
    let ns = NetNs::new().unwrap();
    for _ in 0..500 {
        let body = || {
            let go = Arc::new(Barrier::new(OTHERS + 1));
            for _ in 0..OTHERS {
                let go = Arc::clone(&go);
                thread::spawn(move || go.wait());
            }
            let stayer = Stayer::start("beside");
            go.wait();
            stayer
        };
        let outcome = Call::new(&ns).audit().outcome(body).unwrap();
        let stayer = outcome.value.unwrap();
        // On a busy machine, one of the other threads may not have run yet and may be in the list too.
        assert!(outcome.strays.iter().any(|stray| stray.thread_id == stayer.id), "{:?}", outcome.strays);
        stayer.end();
    }
}

/// `thread::scope` does not wait for the destructors of thread-locals.
struct SlowToGo;

impl Drop for SlowToGo {
    fn drop(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(10) {
            thread::yield_now();
        }
    }
}

#[test]
fn a_scoped_child_is_not_a_stray() {
    thread_local!(static SLOW: RefCell<Option<SlowToGo>> = const { RefCell::new(None) });
    let ns = NetNs::new().unwrap();
    for slow in [false, true].repeat(20) {
        let child = || {
            if slow {
                SLOW.set(Some(SlowToGo));
            }
        };
        let body = || {
            thread::scope(|scope| {
                scope.spawn(child);
            });
        };
        let outcome = Call::new(&ns).audit().outcome(body).unwrap();
        assert_eq!(outcome.strays, [], "slow: {slow}");
    }
}

#[test]
fn a_child_that_left_the_namespace_is_not_a_stray() {
    let ns = NetNs::new().unwrap();
    let elsewhere = NetNs::new().unwrap();
    let (tell, hear) = mpsc::channel();
    let (end, wait) = mpsc::channel::<()>();
    let there = elsewhere.clone();
    let body = move || {
        let child = thread::spawn(move || {
            there.join().unwrap();
            tell.send(()).unwrap();
            let _ = wait.recv();
        });
        hear.recv().unwrap();
        child
    };
    let outcome = Call::new(&ns).audit().outcome(body).unwrap();
    assert_eq!(outcome.strays, []);
    drop(end);
    outcome.value.unwrap().join().unwrap();
}

#[test]
fn a_child_of_another_call_is_not_reported() {
    let ns = NetNs::new().unwrap();
    let (audited_begun, other_done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        // An unaudited call, an audited call and a user's thread: all are in the namespace while the first call runs.
        let others = scope.spawn(|| {
            audited_begun.wait();
            let plain = with_netns(&ns, || Stayer::start("plain")).unwrap();
            let audited = Call::new(&ns).audit().outcome(|| Stayer::start("audited")).unwrap();
            let fresh = Call::new(&ns).fresh().run(|| Stayer::start("fresh")).unwrap();
            let own = thread::spawn({
                let ns = ns.clone();
                move || {
                    ns.join().unwrap();
                    Stayer::start("started by a user thread")
                }
            });
            let own = own.join().unwrap();
            other_done.wait();
            assert_eq!(audited.strays.len(), 1, "{:?}", audited.strays);
            let audited = audited.value.unwrap();
            [plain, audited, fresh, own]
        });
        let body = || {
            audited_begun.wait();
            other_done.wait();
        };
        let outcome = Call::new(&ns).audit().outcome(body).unwrap();
        let others = others.join().unwrap();
        assert_eq!(threads_in(&ns).len(), 4);
        assert_eq!(outcome.strays, []);
        others.into_iter().for_each(Stayer::end);
    });
}

#[test]
fn calls_at_once_each_name_their_own() {
    let ns = NetNs::new().unwrap();
    let all_started = Barrier::new(8);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let (ns, all_started) = (&ns, &all_started);
                scope.spawn(move || {
                    let call = if number % 2 == 0 { Call::new(ns) } else { Call::new(ns).fresh() };
                    let body = || {
                        let stayer = Stayer::start("one of eight");
                        all_started.wait();
                        stayer
                    };
                    call.audit().outcome(body).unwrap()
                })
            })
            .collect();
        for call in calls {
            let outcome = call.join().unwrap();
            let stayer = outcome.value.unwrap();
            let named: Vec<u32> = outcome.strays.iter().map(|stray| stray.thread_id).collect();
            assert_eq!(named, [stayer.id]);
            stayer.end();
        }
    });
}

#[test]
fn without_cap_sys_nice_a_stray_is_only_possible() {
    let ns = NetNs::new().unwrap();
    // The audit runs on the calling thread, which belongs to this test.
    drop_effective(caps::Capability::CAP_SYS_NICE);
    let outcome = Call::new(&ns).audit().outcome(|| Stayer::start("perhaps")).unwrap();
    let stayer = outcome.value.unwrap();
    let [stray] = &outcome.strays[..] else { panic!("{:?}", outcome.strays) };
    assert_eq!((stray.thread_id, stray.certain), (stayer.id, false));
    assert!(stray.to_string().contains("may have been started"), "{stray}");
    stayer.end();
    wait_until("it is gone", || threads_in(&ns).is_empty());

    // A thread of this crate that was started for another call in the meantime, and is still busy, is not even
    // possible.
    let (begun, end) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        let body = || {
            scope.spawn(|| {
                Call::new(&ns).fresh().run(|| {
                    begun.wait();
                    end.wait();
                })
            });
        };
        // The scope's thread is started inside, and is another possible stray.
        let body = || {
            body();
            begun.wait();
            threads_in(&ns).len()
        };
        let outcome = Call::new(&ns).audit().outcome(body).unwrap();
        end.wait();
        assert_eq!(outcome.value.unwrap(), 3, "of this call, of the scope, and of the other call");
        assert_eq!(outcome.strays.len(), 1, "{:?}", outcome.strays);
    });
}

#[test]
fn the_hook_runs_before_the_call_returns() {
    told();
    let ns = NetNs::new().unwrap();
    let stayer = Call::new(&ns).audit().run(|| Stayer::start("told")).unwrap();
    assert!(is_reported(stayer.id));
    stayer.end();
}

#[test]
fn without_a_hook_a_line_goes_to_stderr() {
    let output = separate!("leaves_a_stray").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let id = stdout.trim();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with(&format!("in-netns: thread {id} `left-behind` was started in a call")), "{stderr}");
}

#[test]
fn retired_and_poisoned_threads_have_strays_too() {
    let ns = NetNs::new().unwrap();
    let retire = || {
        retire_current_thread();
        Stayer::start("of a retired one")
    };
    let poison = || {
        let stayer = Stayer::start("of a poisoned one");
        give_up_sys_admin();
        stayer
    };
    for fresh in [false, true] {
        let call = || if fresh { Call::new(&ns).fresh().audit() } else { Call::new(&ns).audit() };
        let retired = call().outcome(retire).unwrap();
        assert!(
            matches!(retired.thread, ThreadFate::Retired(RetireReason::Asked)),
            "{retired:?}",
            retired = retired.thread
        );
        let poisoned = call().outcome(poison).unwrap();
        assert!(matches!(poisoned.thread, ThreadFate::Retired(RetireReason::Poisoned(_))), "{:?}", poisoned.thread);
        for (outcome, name) in [(retired, "of a retired on"), (poisoned, "of a poisoned o")] {
            let stayer = outcome.value.unwrap();
            let [stray] = &outcome.strays[..] else { panic!("{:?}", outcome.strays) };
            assert_eq!((stray.thread_id, stray.name.as_str(), stray.certain), (stayer.id, name, true));
            stayer.end();
        }
    }
    wait_until("the threads are gone", || threads_in(&ns).is_empty());
}

#[test]
fn a_panic_and_a_stray_are_two_facts() {
    let ns = NetNs::new().unwrap();
    let (tell, hear) = mpsc::channel();
    let body = || {
        tell.send(Stayer::start("of a panic")).unwrap();
        panic!("the body's own");
    };
    let outcome = Call::new(&ns).audit().outcome(body).unwrap();
    let stayer = hear.recv().unwrap();
    assert_eq!(outcome.value.unwrap_err().downcast_ref::<&str>(), Some(&"the body's own"));
    assert_eq!(outcome.strays.len(), 1);
    stayer.end();
}

/// In an integration test `cfg(test)` is set, as in every test build.
mod attribute {
    use super::*;

    #[in_netns(ns)]
    fn by_default(ns: &NetNs) -> Stayer {
        Stayer::start("by default")
    }

    #[in_netns(ns, audit = "off")]
    fn off(ns: &NetNs) -> Stayer {
        Stayer::start("off")
    }

    #[in_netns(ns, audit)]
    fn on(ns: &NetNs) -> Stayer {
        Stayer::start("on")
    }

    #[test]
    fn the_audit_is_on_by_default_in_tests() {
        told();
        let ns = NetNs::new().unwrap();
        for (stayer, wanted) in [(by_default(&ns), true), (off(&ns), false), (on(&ns), true)] {
            assert_eq!(is_reported(stayer.id), wanted, "{}", stayer.thread.thread().name().unwrap());
            stayer.end();
        }
    }

    #[in_netns(ns, audit = "panic")]
    fn panics(ns: &NetNs, tell: Sender<Stayer>, own_panic: bool) {
        tell.send(Stayer::start("fatal")).unwrap();
        assert!(!own_panic, "the body's own");
    }

    #[in_netns(ns, audit = "panic")]
    fn joins(ns: &NetNs) -> std::io::Result<()> {
        thread::spawn(|| ()).join().unwrap();
        Ok(())
    }

    fn message_of(own_panic: bool) -> (String, Stayer) {
        told();
        let ns = NetNs::new().unwrap();
        let (tell, hear) = mpsc::channel();
        let payload = panic::catch_unwind(AssertUnwindSafe(|| panics(&ns, tell, own_panic))).unwrap_err();
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (text.unwrap(), hear.recv().unwrap())
    }

    #[test]
    fn panics_where_asked_to() {
        let (message, stayer) = message_of(false);
        assert!(message.contains(&format!("thread {} `fatal`", stayer.id)), "{message}");
        assert!(is_alive(stayer.id));
        stayer.end();
        joins(&NetNs::new().unwrap()).unwrap();
    }

    #[test]
    fn the_bodys_panic_comes_first() {
        let (message, stayer) = message_of(true);
        assert_eq!(message, "the body's own");
        assert!(is_reported(stayer.id));
        stayer.end();
    }
}

#[test]
fn the_mark_is_gone_when_the_thread_is_used_again() {
    let ns = NetNs::new().unwrap();
    let slack = || (tid(), prctl::get_timerslack().unwrap());
    let usual = prctl::get_timerslack().unwrap();
    let (mut seen, mut again) = (Vec::new(), 0);
    for _ in 0..100 {
        let (marked_id, marked) = Call::new(&ns).audit().run(slack).unwrap();
        assert!(marked < usual && marked > 0, "{marked}");
        assert!(!seen.contains(&marked), "each call has a mark of its own");
        seen.push(marked);
        let (id, unmarked) = with_netns(&ns, slack).unwrap();
        assert_eq!(unmarked, usual);
        again += u32::from(id == marked_id);
    }
    assert!(again > 0, "a thread was used again");
}

/// What an async body spawns on its runtime has ended when the call ends. A thread that it starts may still run.
#[test]
fn an_async_body_is_audited_as_well() {
    // Sets the hook.
    let _ = told();
    let ns = NetNs::new().unwrap();
    for call in [Call::new(&ns), Call::new(&ns).fresh()] {
        let outcome = block_on(call.audit().outcome_async(|| async {
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            tokio::spawn(async {}).await.unwrap();
            Stayer::start("async")
        }));
        let outcome = outcome.unwrap();
        let stayer = outcome.value.unwrap();
        let found: Vec<_> = outcome.strays.iter().map(|stray| (stray.thread_id, stray.certain)).collect();
        assert_eq!(found, [(stayer.id, true)]);
        assert!(is_reported(stayer.id));
        assert_eq!(threads_in(&ns), [stayer.id]);
        stayer.end();
    }
    let clean = block_on(Call::new(&ns).audit().outcome_async(|| async {
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        thread::spawn(|| ()).join().unwrap();
    }));
    assert_eq!(clean.unwrap().strays, []);
}

#[test]
fn an_async_function_that_leaves_a_stray_panics_if_it_is_to() {
    #[in_netns(ns, audit = "panic")]
    async fn borrowed(ns: &NetNs, into: &mut Option<Stayer>) {
        *into = Some(Stayer::start("borrowed"));
    }
    #[in_netns(ns, owned, audit = "panic")]
    async fn owned(ns: NetNs, into: Arc<Mutex<Option<Stayer>>>) {
        *into.lock().unwrap() = Some(Stayer::start("owned"));
    }
    #[in_netns(ns, owned, audit = "off")]
    async fn unasked(ns: NetNs) -> Stayer {
        Stayer::start("unasked")
    }
    let message = |thrown: thread::Result<()>| *thrown.unwrap_err().downcast::<String>().unwrap();
    let ns = NetNs::new().unwrap();
    let mut left = None;
    let thrown = panic::catch_unwind(AssertUnwindSafe(|| block_on(borrowed(&ns, &mut left))));
    assert!(message(thrown).contains("`borrowed` was started in a call and outlives it"));
    left.unwrap().end();
    let left = Arc::new(Mutex::new(None));
    let thrown = panic::catch_unwind(AssertUnwindSafe(|| block_on(owned(ns.clone(), left.clone()))));
    assert!(message(thrown).contains("`owned` was started in a call and outlives it"));
    left.lock().unwrap().take().unwrap().end();
    let stayer = block_on(unasked(ns));
    assert!(!is_reported(stayer.id));
    stayer.end();
}

/// No code waits for the cancelled body, but the stray is still reported.
#[test]
fn a_cancelled_async_body_is_audited_too() {
    told();
    let ns = NetNs::new().unwrap();
    let (tell, hear) = mpsc::channel();
    let mut call = Box::pin(Call::new(&ns).audit().run_async(|| async {
        tell.send(Stayer::start("cancelled")).unwrap();
        std::future::pending::<()>().await;
    }));
    assert!(call.as_mut().now_or_never().is_none());
    let stayer = hear.recv().unwrap();
    drop(call);
    wait_until("the hook is told", || is_reported(stayer.id));
    stayer.end();
}
