//! A tokio runtime that lives in a namespace.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{ErrorKind, NetNs, NetNsRuntime};
use in_netns_tests::{
    BOUND, all_descriptors, alone, give_up_sys_admin, here, key, threads, threads_in, threads_outside_home, wait_until,
};

use crate::basics::exit_slowly;

#[test]
fn all_its_threads_are_inside() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let before = threads();
    let service = ns
        .tokio_builder()
        .configure(|builder| {
            builder.worker_threads(3);
        })
        .build()
        .unwrap();
    assert_eq!(service.netns(), &ns);
    assert_eq!(threads_in(&ns).len(), 3, "from birth");
    assert_eq!(
        service.block_on(async { (here(), tokio::spawn(async { here() }).await.unwrap()) }).unwrap(),
        (inside, inside)
    );
    // These calls come from a thread that is at home.
    assert_eq!(service.block_on(service.spawn_blocking(here)).unwrap().unwrap(), inside);
    let lookup = service.block_on(tokio::net::lookup_host(("localhost", 80))).unwrap();
    assert!(lookup.unwrap().count() > 0);
    for thread in threads().keys().filter(|thread| !before.contains_key(thread)) {
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        assert!(!name.starts_with("tokio") || threads_in(&ns).contains(thread), "{name}");
    }
    drop(service);
    in_netns_tests::wait_until("they are gone", || threads_outside_home().is_empty());
}

#[test]
fn a_blocking_thread_that_cannot_enter_runs_nothing_at_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let service = ns.tokio_builder().build().unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        // The thread that is started for this closure inherits the missing capability.
        scope.spawn(|| {
            give_up_sys_admin();
            service.spawn_blocking(move || tell.send(here()).unwrap())
        });
    });
    drop(service);
    // The closure was cancelled at the shutdown, or ran on a thread that could enter.
    assert!(told.iter().all(|place| place == key(ns.id())));
}

/// A runtime that cannot be built leaves nothing: no descriptor, no thread, no handle of the namespace.
// AddressSanitizer writes to the shadow memory of a whole stack.
#[cfg(feature = "all-programs")]
#[test]
fn a_build_that_fails_keeps_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // The first runtime of a process makes what tokio keeps for ever.
    drop(ns.tokio_builder().worker_threads(2).build().unwrap());
    wait_until("they are gone", || threads_in(&ns).is_empty());
    let before = in_netns_tests::descriptors().len();
    for _ in 0..3 {
        // More than there are addresses: the first thread cannot be started.
        let builder = ns.tokio_builder().worker_threads(2).configure(|builder| {
            builder.thread_stack_size(1 << 60);
        });
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        assert!(error.to_string().contains("thread"), "the cause: {error}");
    }
    wait_until("the descriptors are closed", || in_netns_tests::descriptors().len() <= before);
    let id = ns.id();
    assert!(ns.wait_until_gone(BOUND).unwrap(), "{id} is held");
}

/// With a stack that can be had once and not twice: tokio starts some of the threads, and panics.
// AddressSanitizer writes to the shadow memory of a whole stack.
#[cfg(feature = "all-programs")]
#[test]
fn a_build_that_fails_in_the_middle_does_not_keep_the_namespace() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let builder = ns.tokio_builder().worker_threads(4).configure(|builder| {
        builder.thread_stack_size(1 << 46);
    });
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("thread"), "the cause: {error}");
    let id = ns.id();
    assert!(ns.wait_until_gone(BOUND).unwrap(), "{id} is held");
}

/// tokio leaks what it has made when a function of the user panics in `build`. The namespace is not part of that.
#[test]
fn a_build_that_panics_does_not_keep_the_namespace() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let builder = ns.tokio_builder().worker_threads(2).configure(|builder| {
        builder.thread_name_fn(|| panic!("no name"));
    });
    let payload = std::panic::catch_unwind(AssertUnwindSafe(|| builder.build())).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"no name"));
    let id = ns.id();
    assert!(ns.wait_until_gone(BOUND).unwrap(), "{id} is held");
}

#[test]
fn the_name_of_its_threads_ends_at_a_nul_byte() {
    let _alone = alone();
    let service = NetNs::new().unwrap().tokio_builder().worker_threads(1).thread_name("worker\0rest").build().unwrap();
    let name = service.spawn(async { thread::current().name().map(str::to_owned) });
    assert_eq!(futures::executor::block_on(name).unwrap().as_deref(), Some("worker"));
}

/// The first threads of a runtime do not wait for the others without end. One without threads would run nothing.
#[test]
fn a_build_whose_threads_start_too_slowly_is_an_error() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let started = AtomicUsize::new(0);
    let builder = ns.tokio_builder().worker_threads(2).configure(|builder| {
        builder.thread_name_fn(move || {
            if started.fetch_add(1, Ordering::Relaxed) == 1 {
                thread::sleep(Duration::from_secs(3));
            }
            "worker".into()
        });
    });
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
    assert!(error.to_string().contains("thread_name_fn"), "the cause: {error}");
    assert_eq!(threads_in(&ns), []);
    let id = ns.id();
    assert!(ns.wait_until_gone(BOUND).unwrap(), "{id} is held");
}

/// Each drop returns when the last thread has gone, with all that it held.
#[test]
fn no_thread_is_inside_when_a_drop_or_a_shutdown_has_returned() {
    let _alone = alone();
    let _descriptors = all_descriptors();
    let ns = NetNs::new().unwrap();
    for round in 0..20 {
        let service = ns.tokio_builder().worker_threads(2).build().unwrap();
        service.block_on(service.spawn_blocking(exit_slowly)).unwrap().unwrap();
        if round % 2 == 0 {
            drop(service);
        } else {
            service.shutdown_timeout(BOUND);
        }
        assert_eq!(threads_in(&ns), [0; 0], "round {round}");
    }
}

/// A blocking closure that does not end is waited for no longer than was asked.
#[test]
fn a_shutdown_does_not_wait_for_threads_that_do_not_end() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (end, wait) = mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let started = std::time::Instant::now();
    for shut_down in [
        |service: in_netns::NetNsRuntime| service.shutdown_background(),
        |service: in_netns::NetNsRuntime| service.shutdown_timeout(std::time::Duration::from_millis(50)),
    ] {
        let service = ns.tokio_builder().worker_threads(1).build().unwrap();
        let (tell, told) = mpsc::channel();
        let wait = std::sync::Arc::clone(&wait);
        drop(service.spawn_blocking(move || {
            tell.send(()).unwrap();
            let _ = wait.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        }));
        told.recv().unwrap();
        shut_down(service);
    }
    assert!(started.elapsed() < BOUND);
    drop(end);
    wait_until("they end then", || threads_in(&ns).is_empty());
}

/// The last owner may be a task or a blocking closure of the runtime itself, which a drop that waits would wait for.
#[test]
fn it_may_be_dropped_on_a_thread_of_its_own() {
    type Job = Box<dyn FnOnce() + Send>;
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    // Each runs a closure on a thread of the runtime.
    // The owner shuts it down by either of these.
    let ends: [fn(Arc<NetNsRuntime>); 2] =
        [drop, |service| Arc::into_inner(service).expect("the last owner").shutdown_timeout(BOUND)];
    let ways: [fn(&NetNsRuntime, Job) -> tokio::task::JoinHandle<()>; 4] = [
        |service, job| service.spawn(async move { job() }),
        |service, job| service.spawn_blocking(job),
        |service, job| service.spawn(async move { tokio::task::block_in_place(job) }),
        |service, job| {
            service.spawn(async move {
                let _job = scopeguard::guard((), |()| job());
                panic!("the task unwinds");
            })
        },
    ];
    for (way, end) in ways.into_iter().flat_map(|way| ends.map(|end| (way, end))) {
        let start = Instant::now();
        let service = Arc::new(ns.tokio_builder().worker_threads(1).build().unwrap());
        let owner = Arc::clone(&service);
        let (go_on, may_go_on) = mpsc::channel();
        drop(way(
            &service,
            Box::new(move || {
                may_go_on.recv().unwrap();
                end(owner);
            }),
        ));
        drop(service);
        go_on.send(()).unwrap();
        wait_until("its threads have ended", || threads_in(&ns).is_empty());
        assert!(start.elapsed() < BOUND / 2, "it waited for itself");
    }
}

/// tokio does not wait then, so neither does the drop.
#[test]
fn a_drop_while_async_code_unwinds_does_not_wait_for_threads_that_do_not_end() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let outer = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let service = ns.tokio_builder().worker_threads(1).build().unwrap();
    let (end, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    drop(service.spawn_blocking(move || {
        tell.send(()).unwrap();
        let _ = wait.recv();
    }));
    told.recv().unwrap();
    let task = outer.spawn(async move {
        let _service = service;
        panic!("the task unwinds");
    });
    wait_until("the task has ended", || task.is_finished());
    drop(end);
    wait_until("its threads have ended", || threads_in(&ns).is_empty());
}

#[test]
fn a_handle_that_is_kept_does_not_keep_the_namespace() {
    let _alone = alone();
    let end: [fn(NetNsRuntime); 2] = [drop, |service| service.shutdown_timeout(BOUND)];
    for end in end {
        let ns = NetNs::new().unwrap();
        // Before Linux 6.18 there is nothing to compare.
        let Ok(weak) = ns.downgrade() else { return };
        let service = ns.tokio_builder().worker_threads(1).build().unwrap();
        drop(ns);
        let kept = (service.handle().clone(), service.spawn(pending::<()>()));
        end(service);
        // Another program that lists namespaces may hold it for a moment.
        wait_until("it is gone", || weak.upgrade().unwrap().is_none());
        drop(kept);
    }
}

/// Such a runtime polls on the thread that blocks on it, and has no thread of its own.
#[tokio::test]
async fn a_builder_of_a_current_thread_runtime_is_an_error() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let builder = ns.tokio_builder().configure(|builder| *builder = tokio::runtime::Builder::new_current_thread());
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("current-thread"), "{error}");
}
