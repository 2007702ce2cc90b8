//! A user who may start no more threads: each call is an error that reports it, and later calls work.

use std::panic;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use futures::executor::block_on;
use in_netns::{Call, Error, ErrorKind, NetNs, pool_stats, set_poison_hook, with_netns};
use in_netns_tests::{
    BOUND, become_ordinary_user, become_root_of_a_user_namespace, descriptors, give_up_sys_admin, here, home, in_time,
    is_alive, key, threads_in, tid, wait_until,
};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::spawn_blocking;

pub(crate) fn main() {
    // The limit does not apply to root of the host.
    become_ordinary_user();
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);

    let home = NetNs::current().expect("the current namespace");
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("getrlimit");
    let limit = |soft| setrlimit(Resource::RLIMIT_NPROC, soft, hard).expect("setrlimit");
    let refused = |call: Result<(), Error>| {
        let error = call.expect_err("no thread can be had");
        assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(source.and_then(std::io::Error::raw_os_error), Some(nix::errno::Errno::EAGAIN as i32));
    };

    // Not even the template thread can be started.
    limit(1);
    refused(with_netns(&home, || unreachable!("the body ran")));
    refused(Call::new(&home).fresh().run(|| unreachable!("the body ran")));
    refused(block_on(home.run_async(|| async { unreachable!("the body ran") })));
    refused(block_on(Call::new(&home).fresh().run_async(|| async { unreachable!("the body ran") })));
    let task = block_on(home.spawn_async(|| async { unreachable!("the body ran") }));
    refused(task.map_err(|error| error.entry().expect("it never began").clone()));
    limit(hard);
    // The template can be started, but no worker.
    Call::new(&home).fresh().run(|| ()).expect("threads can be had again");
    limit(1);
    refused(with_netns(&home, || unreachable!("the body ran")));
    refused(Call::new(&home).fresh().run(|| unreachable!("the body ran")));
    refused(block_on(home.run_async(|| async { unreachable!("the body ran") })));
    refused(block_on(Call::new(&home).fresh().run_async(|| async { unreachable!("the body ran") })));
    let task = block_on(home.spawn_async(|| async { unreachable!("the body ran") }));
    refused(task.map_err(|error| error.entry().expect("it never began").clone()));
    limit(hard);
    let ns = NetNs::new().expect("threads can be had again");
    // An idle worker needs no new thread.
    limit(1);
    assert_eq!(with_netns(&ns, here).expect("an idle thread is there"), key(ns.id()));
    assert_eq!(block_on(ns.run_async(|| async { here() })).expect("an idle thread is there"), key(ns.id()));
    limit(hard);
    a_hook_runs_later(&ns, &limit, hard);
    a_body_panics_that_needs_a_blocking_thread(&ns, &limit, hard);
    a_name_is_not_looked_up_without_a_blocking_thread(&ns, &limit, hard);
    a_service_needs_all_its_workers(&ns, hard);
    a_service_is_not_built_where_the_limit_is_lowered_meanwhile(&ns, hard);
}

/// If no thread can run a hook and no caller waits, the hook runs at the next call.
fn a_hook_runs_later(ns: &NetNs, limit: &impl Fn(u64), hard: u64) {
    let (tell, told) = mpsc::channel();
    set_poison_hook(move |poisoning| {
        let thread = poisoning.thread_id();
        tell.send((thread, tid(), here(), is_alive(thread))).expect("the receiver is there");
    });
    let gate = Arc::new(tokio::sync::Notify::new());
    let (arrive, arrival) = mpsc::channel();
    // This body takes the only idle thread.
    drop(ns.spawn_async({
        let gate = Arc::clone(&gate);
        move || async move {
            arrive.send(tid()).expect("the receiver is there");
            gate.notified().await;
            give_up_sys_admin();
        }
    }));
    let poisoned = arrival.recv_timeout(BOUND).expect("the body runs");
    wait_until("no thread is idle", || pool_stats().idle == 0);
    limit(1);
    gate.notify_one();
    wait_until("the poisoned thread is gone", || !is_alive(poisoned));
    assert!(told.try_recv().is_err(), "there is no thread to run the hook on");
    limit(hard);
    assert_eq!(with_netns(ns, here).expect("threads can be had again"), key(ns.id()));
    let (thread, by, at, is_there) = told.recv_timeout(BOUND).expect("the hook is called in the end");
    assert_eq!((thread, at, is_there), (poisoned, home(), false));
    assert_ne!(by, poisoned);
    set_poison_hook(|_| {});
}

/// tokio has no error for a blocking thread that cannot be started: it panics, and so does the body.
fn a_body_panics_that_needs_a_blocking_thread(ns: &NetNs, limit: &impl Fn(u64), hard: u64) {
    let inside = ns.clone();
    with_netns(ns, || ()).expect("a thread is idle afterwards");
    limit(1);
    let called = panic::catch_unwind(|| block_on(inside.run_async(|| async { spawn_blocking(here).await })));
    limit(hard);
    let payload = called.expect_err("there is no thread for it");
    let message = payload.downcast_ref::<String>().expect("a message");
    assert!(message.contains("spawn"), "{message}");
    assert_eq!(block_on(ns.run_async(|| async { spawn_blocking(here).await.unwrap() })).unwrap(), key(ns.id()));
}

fn a_name_is_not_looked_up_without_a_blocking_thread(ns: &NetNs, limit: &impl Fn(u64), hard: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    with_netns(ns, || ()).expect("a thread is idle afterwards");
    limit(1);
    let looked_up = runtime.block_on(ns.lookup_host_async("localhost", 1));
    let connected = runtime.block_on(ns.tcp_connect_async("localhost:1"));
    limit(hard);
    for error in [looked_up.map(drop).unwrap_err(), connected.map(drop).unwrap_err()] {
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
    }
    runtime.block_on(ns.lookup_host_async("localhost", 1)).expect("threads can be had again");
}

/// Tries every limit. The limit counts all threads of the user, not only those of this process.
fn a_service_needs_all_its_workers(ns: &NetNs, hard: u64) {
    let build = |workers: usize| {
        let ns = ns.clone();
        in_time("a runtime is built", move || ns.tokio_builder().worker_threads(workers).build().map(drop))
    };
    let limit = |soft| setrlimit(Resource::RLIMIT_NPROC, soft, hard).expect("setrlimit");
    with_netns(ns, || ()).expect("a thread is idle afterwards");
    build(4).expect("threads can be had");
    let before = descriptors().len();
    let mut outcomes = [0, 0];
    // The number of the user's threads is unknown, so the test tries all limits up to one that is high enough.
    for soft in 1.. {
        limit(soft);
        let ns = ns.clone();
        // `in_time` would need a thread itself.
        let outcome = std::panic::catch_unwind(|| ns.tokio_builder().worker_threads(4).build());
        limit(hard);
        match outcome.expect("an error, and no panic") {
            Ok(service) => {
                assert_eq!(service.block_on(async { here() }).expect("it works"), key(ns.id()));
                outcomes[1] += 1;
                break;
            }
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::LimitReached | ErrorKind::ThreadSpawn), "{kind:?}: {error}");
                assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
                outcomes[0] += 1;
            }
        }
        assert!(soft < 10_000, "no limit is high enough");
    }
    assert!(outcomes[0] >= 4, "each number of workers too few was met: {outcomes:?}");
    wait_until("no worker is left", || threads_in(ns).is_empty());
    assert_eq!(descriptors().len(), before, "tokio's descriptors are closed");
}

/// tokio names each thread before it starts it.
fn a_service_is_not_built_where_the_limit_is_lowered_meanwhile(ns: &NetNs, hard: u64) {
    let limit = move |soft| setrlimit(Resource::RLIMIT_NPROC, soft, hard).expect("setrlimit");
    let named = Arc::new(AtomicU32::new(0));
    let builder = ns.tokio_builder().worker_threads(3).configure({
        let named = Arc::clone(&named);
        move |builder| {
            builder.thread_name_fn(move || {
                if named.fetch_add(1, Ordering::Relaxed) == 1 {
                    limit(1);
                }
                "late".into()
            });
        }
    });
    with_netns(ns, || ()).expect("a thread is idle afterwards");
    let built = in_time("a runtime is not built", move || builder.build().map(drop));
    limit(hard);
    let error = built.expect_err("the second worker cannot be started");
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
    wait_until("no worker is left", || threads_in(ns).is_empty());
}
