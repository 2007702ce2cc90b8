//! A tokio runtime that lives in a namespace.

use std::sync::mpsc;
use std::thread;

use in_netns::NetNs;
use in_netns_tests::{alone, give_up_sys_admin, here, key, threads, threads_in, threads_outside_home};

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
