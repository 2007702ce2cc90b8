//! A process is stopped for three seconds while it builds a runtime, as by the freezer of a cgroup: the runtime has all
//! its workers.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::executor::block_on;
use in_netns::NetNs;
use in_netns_tests::{in_time, is_asleep, threads, wait_until};

pub(crate) fn main() {
    in_netns::rootless::enter().expect("a user namespace where one is needed");
    let ns = NetNs::new().expect("a namespace");
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
