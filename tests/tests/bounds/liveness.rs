//! No use of the safe API hangs a call or ends the process. Each scenario is a separate process, with a bound.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{Call, ErrorKind, NetNs, Worker, par_walk, pinned, with_netns, with_netns_async};
use in_netns_tests::{BOUND, here, is_asleep, key, separate, tid, wait_until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The bound for a program. It makes many calls, and `AddressSanitizer` makes a fork slow.
const PROGRAM_BOUND: Duration = BOUND.saturating_mul(3);

/// Runs a helper program, which checks itself. Panics if it fails or does not end.
#[track_caller]
fn passes_in_time(program: &str, scenario: &str) {
    // The program has its own process group, so that its children can be killed with it.
    let mut child = separate!(program).arg(scenario).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    let group = Pid::from_raw(child.id().try_into().unwrap());
    // Read all the time: the program must not wait for room in the pipe.
    let mut stderr = child.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut printed = Vec::new();
        stderr.read_to_end(&mut printed).map(|_| printed)
    });
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() && start.elapsed() < PROGRAM_BOUND {
        thread::sleep(Duration::from_millis(1));
    }
    // The kill fails if all processes of the group have ended, which is the expected case.
    let _ = killpg(group, Signal::SIGKILL);
    let status = child.wait().unwrap();
    let printed = reader.join().unwrap().unwrap();
    let printed = String::from_utf8_lossy(&printed);
    let how = if status.signal() == Some(nix::libc::SIGKILL) { "it hangs" } else { "it fails" };
    assert!(status.success(), "{scenario}: {how}: {status}\n{printed}");
}

#[track_caller]
fn user_panic(scenario: &str) {
    passes_in_time("user_panics", scenario);
}

#[track_caller]
fn child_process(scenario: &str) {
    passes_in_time("child_processes", scenario);
}

#[test]
fn a_captured_value_that_panics_when_dropped_makes_a_refused_call_panic() {
    user_panic("captured-pooled");
    user_panic("captured-fresh");
    user_panic("captured-outcome");
    user_panic("captured-worker");
}

#[test]
fn a_captured_value_that_panics_when_dropped_makes_a_call_panic() {
    user_panic("captured-by-a-body-that-runs");
}

#[test]
fn a_captured_span_whose_subscriber_panics_makes_a_refused_call_panic() {
    user_panic("span-refused");
}

#[test]
fn a_subscriber_that_panics_does_not_hide_the_panic_of_the_body() {
    user_panic("span-of-the-caller");
    user_panic("span-exit");
}

#[test]
fn a_subscriber_that_panics_does_not_hide_the_end_of_an_async_body() {
    user_panic("span-async");
    user_panic("span-async-refused");
}

#[test]
fn a_subscriber_that_panics_on_the_way_in_makes_the_call_panic() {
    user_panic("span-enter");
}

#[test]
fn a_hook_whose_panic_payload_panics_hides_no_value() {
    user_panic("hook-payload");
}

#[test]
fn values_and_payloads_that_panic_on_the_threads_of_a_walk_do_not_end_the_process() {
    user_panic("par-walk");
}

#[test]
fn an_error_of_prepare_whose_message_panics_is_told_and_the_pool_goes_on() {
    user_panic("prepare");
}

#[test]
fn user_code_beside_the_body_of_a_worker_can_use_the_worker() {
    for scenario in ["refused-body", "poison-hook"] {
        passes_in_time("reentrant", scenario);
    }
}

#[test]
fn destructors_of_keys_of_the_c_library_make_calls() {
    passes_in_time("key_destructors", "");
}

#[test]
fn a_child_of_a_raw_clone_makes_calls() {
    child_process("raw-clone");
}

#[test]
fn a_child_that_shares_memory_makes_calls() {
    child_process("vfork");
}

#[test]
fn children_of_children_make_calls_at_any_depth() {
    child_process("deep");
}

#[test]
fn a_worker_that_was_used_before_a_fork_runs_in_the_child() {
    child_process("used-worker");
}

#[test]
fn a_worker_is_dropped_in_a_child() {
    child_process("worker-dropped-unused-there");
}

#[test]
fn a_worker_that_was_busy_at_a_fork_runs_in_the_child() {
    child_process("worker-busy");
}

#[test]
fn a_child_that_is_forked_in_a_body_makes_calls() {
    child_process("in-a-body");
}

#[test]
fn a_child_that_is_forked_in_a_body_ends_when_the_body_returns() {
    child_process("returns-from-its-body");
}

#[test]
fn a_child_that_is_forked_in_a_body_and_makes_calls_ends_when_the_body_returns() {
    child_process("makes-calls-and-returns-from-its-body");
}

#[test]
fn a_child_that_is_forked_in_one_body_of_many_ends_when_that_returns() {
    child_process("returns-to-a-loop");
}

#[test]
fn a_child_that_is_forked_in_the_body_of_a_call_from_another_thread_ends_when_the_body_returns() {
    child_process("called-by-another-thread");
}

#[test]
fn a_child_that_is_forked_in_code_that_a_pool_of_namespaces_calls_ends_when_that_returns() {
    child_process("returns-to-the-thread-of-a-pool");
}

#[test]
fn a_child_that_is_forked_in_a_waker_ends_when_that_returns() {
    child_process("returns-from-a-waker");
}

#[test]
fn a_child_that_is_forked_on_a_thread_of_a_runtime_ends_when_its_task_or_closure_returns() {
    child_process("returns-to-a-runtime");
}

#[test]
fn a_child_that_is_forked_in_a_task_of_a_runtime_polls_no_other_task() {
    child_process("returns-to-other-tasks");
}

#[test]
fn a_child_that_is_forked_in_the_destructor_of_a_thread_local_ends_with_its_thread() {
    child_process("returns-from-a-thread-local");
}

#[test]
fn a_child_that_is_forked_in_an_async_body_ends_when_the_body_returns() {
    child_process("returns-from-its-async-body");
}

#[test]
fn a_view_that_is_made_anew_at_a_fork_is_entered_in_the_child() {
    child_process("view-that-is-made-anew");
}

#[test]
fn a_view_that_is_made_anew_in_generations_of_children_leaves_no_descriptors() {
    child_process("view-of-generations");
}

#[test]
fn a_watch_reports_each_name_in_the_parent_and_in_the_child() {
    child_process("watch");
}

#[test]
fn a_watch_of_a_runtime_of_the_parent_is_dropped_in_the_child() {
    child_process("watch-of-a-runtime");
}

#[test]
fn children_that_are_forked_beside_calls_make_calls() {
    child_process("beside-calls");
}

#[test]
fn async_calls_and_runtimes_of_the_parent_are_errors_in_a_child() {
    child_process("async-call");
    child_process("async-handle");
    child_process("runtime");
}

#[test]
fn async_calls_and_runtimes_of_the_parent_are_dropped_in_a_child() {
    child_process("dropped-there");
}

#[test]
fn children_set_hooks_and_report_to_them_while_the_parent_sets_hooks() {
    child_process("beside-hooks");
}

/// Runs `body` on a new thread, and fails if it does not return.
#[track_caller]
fn returns<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(body()));
    wait.recv_timeout(BOUND).expect("it returns without a panic")
}

#[test]
fn a_worker_that_is_run_inside_itself_is_an_error() {
    let inner = returns(|| {
        let worker = NetNs::new().unwrap().worker();
        let inner = worker.run(|| worker.run(|| unreachable!("the body ran"))).unwrap();
        worker.run(|| ()).unwrap();
        inner
    });
    assert_eq!(inner.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_worker_that_is_run_inside_itself_through_other_calls_is_an_error() {
    let kinds = returns(|| {
        let (ns, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        let (worker, between) = (ns.worker(), other.worker());
        let again = || worker.run(|| unreachable!("the body ran")).unwrap_err().kind();
        let kinds = [
            worker.run(|| with_netns(&other, again).unwrap()).unwrap(),
            worker.run(|| between.run(again).unwrap()).unwrap(),
            worker.run(|| Call::new(&other).fresh().run(again).unwrap()).unwrap(),
            worker.run(|| par_walk([&other, &ns], 2, |_| again()).unwrap().remove(0).unwrap()).unwrap(),
        ];
        // Another worker of the same namespace has another thread.
        assert_eq!(worker.run(|| ns.worker().run(here).unwrap()).unwrap(), key(ns.id()));
        kinds
    });
    assert_eq!(kinds, [ErrorKind::Unsupported; 4]);
}

#[test]
fn a_worker_that_is_run_inside_itself_through_an_async_call_is_an_error() {
    struct RunsWhenDropped<'w>(&'w Worker, &'w Mutex<Option<ErrorKind>>);
    impl Drop for RunsWhenDropped<'_> {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = self.0.run(|| unreachable!("the body ran")).map_err(|error| error.kind()).err();
        }
    }
    let kinds = returns(|| {
        let (ns, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        let worker = ns.worker();
        let again = || worker.run(|| unreachable!("the body ran")).unwrap_err().kind();
        let polled = worker.run(|| block_on(with_netns_async(&other, async || again())).unwrap()).unwrap();
        let later = worker.run(|| {
            block_on(with_netns_async(&other, async || {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                again()
            }))
            .unwrap()
        });
        // The body is dropped while the closure waits for that.
        let seen = Mutex::new(None);
        worker
            .run(|| {
                let mut call = Box::pin(with_netns_async(&other, async || {
                    let _runs = RunsWhenDropped(&worker, &seen);
                    std::future::pending::<()>().await;
                }));
                assert!(call.as_mut().now_or_never().is_none());
            })
            .unwrap();
        // Polled outside of a run, the same call may run the worker.
        let call = with_netns_async(&other, async || worker.run(here).unwrap());
        assert_eq!(block_on(call).unwrap(), key(ns.id()));
        [Some(polled), Some(later.unwrap()), seen.into_inner().unwrap()]
    });
    assert_eq!(kinds, [Some(ErrorKind::Unsupported); 3]);
}

/// Takes the park token of the calling thread, if there is one.
fn has_park_token() -> bool {
    const LONG: Duration = Duration::from_secs(2);
    let start = Instant::now();
    thread::park_timeout(LONG);
    start.elapsed() < LONG
}

/// Makes a call whose caller has a park token and sleeps during the body. The token must still exist afterwards.
#[track_caller]
fn keeps_the_token(call: impl FnOnce(&(dyn Fn() + Sync)) + Send) {
    let caller = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            caller.store(tid(), Ordering::SeqCst);
            thread::current().unpark();
            call(&|| wait_until("the caller sleeps", || is_asleep(caller.load(Ordering::SeqCst))));
            assert!(has_park_token(), "the token is gone");
        });
    });
}

#[test]
fn a_park_token_of_the_caller_is_there_after_a_call() {
    let ns = NetNs::new().unwrap();
    keeps_the_token(|body| with_netns(&ns, body).unwrap());
    keeps_the_token(|body| pinned(|_| body()).unwrap());
    keeps_the_token(|body| Call::new(&ns).outcome(body).unwrap().value.unwrap());
    keeps_the_token(|body| Call::new(&ns).fresh().run(body).unwrap());
    keeps_the_token(|body| ns.worker().run(body).unwrap());
    keeps_the_token(|body| drop(par_walk([&ns, &ns, &ns], 3, |_| body()).unwrap()));
}

#[test]
fn a_park_token_of_the_caller_is_there_after_calls_that_start_threads() {
    // Each nested call has its own thread, which the template starts.
    fn nest(ns: &NetNs, depth: u32) {
        let token = AtomicBool::new(false);
        with_netns(ns, || {
            thread::current().unpark();
            if depth > 0 {
                nest(ns, depth - 1);
            }
            token.store(has_park_token(), Ordering::SeqCst);
        })
        .unwrap();
        assert!(token.into_inner(), "the token is gone at depth {depth}");
    }
    nest(&NetNs::new().unwrap(), 8);
}

#[test]
fn an_executor_that_parks_its_thread_misses_no_wake_across_a_call() {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    returns(|| {
        let ns = NetNs::new().unwrap();
        let caller = tid();
        let mut polls = 0;
        let mut future = std::pin::pin!(std::future::poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            with_netns(&ns, || wait_until("the caller sleeps", || is_asleep(caller))).unwrap();
            std::task::Poll::Pending
        }));
        let waker = Arc::new(Unpark(thread::current())).into();
        while future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
            thread::park();
        }
    });
}
