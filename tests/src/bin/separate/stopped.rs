//! A process is stopped, as by the freezer of a cgroup. The argument says when:
//! - `build`, for three seconds, while it builds a runtime: the runtime has all its workers.
//! - `audit`, for a second, while a call waits for a thread that is about to exit: the thread is no stray.

use std::cell::Cell;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use futures::executor::block_on;
use in_netns::{Call, NetNs};
use in_netns_tests::{BOUND, context_switches, in_time, is_asleep, threads, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) fn main() {
    in_netns::rootless::enter().expect("a user namespace where one is needed");
    let ns = NetNs::new().expect("a namespace");
    match crate::arguments().next().expect("an argument").as_str() {
        "build" => build(&ns),
        "audit" => audit(&ns),
        other => panic!("what is {other}?"),
    }
}

fn build(ns: &NetNs) {
    let started = AtomicUsize::new(0);
    let builder = ns.tokio_builder().worker_threads(2).configure(|builder| {
        builder.thread_name_fn(move || {
            // The first worker waits for the second one.
            if started.fetch_add(1, Ordering::Relaxed) == 1 {
                be_stopped();
            }
            "worker".into()
        });
    });
    let service = builder.build().expect("a runtime");
    in_time("a task runs", move || block_on(service.spawn(async {})).expect("the task ends"));
}

/// Whether the first worker sleeps.
fn first_worker_waits() -> bool {
    let name = |tid: &u32| fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
    threads().into_keys().any(|tid| name(&tid).trim() == "worker" && is_asleep(tid))
}

/// Returns when this process was stopped, and goes on again.
fn be_stopped() {
    wait_until("the first worker waits", first_worker_waits);
    let me = std::process::id();
    let stop = format!("kill -STOP {me}; sleep 3; kill -CONT {me}");
    let status = Command::new("sh").arg("-c").arg(stop).status().expect("a shell");
    assert!(status.success());
}

fn audit(ns: &NetNs) {
    thread_local!(static STOPPED: Cell<Option<StoppedAtExit>> = const { Cell::new(None) });
    let me = std::process::id();
    let resume = format!(
        "while [ -e /proc/{me} ]; do \
           if grep -q '^State:.T' /proc/{me}/status; then sleep 1; kill -CONT {me}; exit; fi; sleep 0.02; \
         done"
    );
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(resume).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = shell.spawn().expect("a shell");
    let body = || {
        thread::scope(|scope| {
            scope.spawn(|| STOPPED.set(Some(StoppedAtExit)));
        });
    };
    let outcome = Call::new(ns).audit().outcome(body).expect("a call");
    assert_eq!(outcome.strays, []);
    assert!(shell.wait().expect("it ends").success());
}

/// Stops the process while the main thread, the caller, looks at this thread again and again.
struct StoppedAtExit;

impl Drop for StoppedAtExit {
    fn drop(&mut self) {
        // How often the main thread has begun to wait: once for the body, and then between two looks.
        let waits = || context_switches(std::process::id()).0;
        // This thread is awake all the time.
        let looks = |count: u64| {
            let (before, start) = (waits(), Instant::now());
            while waits() <= before + count {
                assert!(start.elapsed() < BOUND, "the main thread does not look");
            }
        };
        looks(3);
        kill(Pid::this(), Signal::SIGSTOP).expect("kill");
        looks(1);
    }
}
