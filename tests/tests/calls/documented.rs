//! What a body shares with the process, as the page `in_netns::escapes` describes it.

use std::cell::Cell;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use in_netns::{Call, NetNs, in_netns, with_netns_async};
use in_netns_tests::{BOUND, alone, tid, wait_until};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use tokio::runtime::{Builder, Handle};

#[test]
fn a_thread_local_is_visible_to_the_next_body_on_that_thread_and_not_to_a_fresh_one() {
    thread_local!(static LAST: Cell<u32> = const { Cell::new(0) });

    let _alone = alone();
    let ns = NetNs::new().unwrap();
    wait_until("a body on a thread that had one before", || ns.run(|| LAST.replace(tid()) == tid()).unwrap());
    assert_eq!(Call::new(&ns).fresh().run(|| LAST.get()).unwrap(), 0);
}

#[test]
fn a_unix_socket_with_a_path_is_found_from_every_namespace_and_an_abstract_one_is_not() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon");
    let listener = UnixListener::bind(&path).unwrap();
    let name = SocketAddr::from_abstract_name(format!("in-netns-test-{}", std::process::id())).unwrap();
    let abstract_listener = UnixListener::bind_addr(&name).unwrap();
    UnixStream::connect_addr(&name).unwrap();

    let ns = NetNs::new().unwrap();
    ns.run(|| UnixStream::connect(&path)).unwrap().unwrap();
    ns.run(|| UnixStream::connect_addr(&name)).unwrap().unwrap_err();
    drop((listener, abstract_listener));
}

#[test]
fn getifaddrs_and_if_nametoindex_show_the_threads_network() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let names = || getifaddrs().unwrap().map(|interface| interface.interface_name).collect::<Vec<_>>();
    assert!(ns.run(names).unwrap().iter().all(|name| name == "lo"));
    // The indexes of a new namespace start at 1.
    assert_eq!(ns.run(|| if_nametoindex("lo")).unwrap().unwrap(), 1);
}

#[test]
fn block_in_place_panics_in_an_async_body() {
    #[in_netns(new)]
    async fn f() {
        tokio::task::block_in_place(|| ());
    }
    let _alone = alone();
    // This also holds if the caller's runtime supports it.
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| runtime.block_on(f()))).unwrap_err();
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    assert!(message.unwrap().contains("multi-threaded runtime"), "{message:?}");
}

#[test]
fn the_clock_that_a_caller_paused_is_not_that_of_an_async_body() {
    const PAUSE: Duration = Duration::from_millis(20);

    #[in_netns(new)]
    async fn sleeps() -> Duration {
        let start = Instant::now();
        tokio::time::sleep(PAUSE).await;
        start.elapsed()
    }
    let _alone = alone();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    assert!(runtime.block_on(sleeps()) >= PAUSE);
}

/// So a body that waits for a task, a timer or a socket of that runtime never ends.
#[test]
fn a_synchronous_call_stops_a_current_thread_runtime_and_an_async_one_does_not() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut task = tokio::spawn(async {});
        let is_polled_inside = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            (ns.is_current().unwrap(), task.is_finished())
        };
        assert_eq!(ns.run(|| Handle::current().block_on(is_polled_inside)).unwrap(), (true, false));
        with_netns_async(&ns, || async { (&mut task).await }).await.unwrap().unwrap();
    });
}

#[test]
fn block_in_place_lets_a_synchronous_call_wait_for_the_callers_runtime() {
    let _alone = alone();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ns = NetNs::new().unwrap();
    let waits_inside = move || Handle::current().block_on(tokio::spawn(async { tid() })).unwrap();
    let call = async move { tokio::task::block_in_place(|| ns.run(waits_inside)).unwrap() };
    let (ended, wait) = std::sync::mpsc::channel();
    runtime.spawn(async move { ended.send(call.await) });
    assert_ne!(wait.recv_timeout(BOUND).unwrap(), tid());
}
