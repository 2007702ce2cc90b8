//! Async calls under every executor, many at once: no check fails inside, and no executor's thread moves.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use in_netns::{Call, NetNs, pool_stats, set_keep_alive, with_netns, with_netns_async};
use in_netns_tests::{
    all_descriptors, alone, here, home, in_time, key, threads, threads_outside_home, wait_until, wait_until_given_back,
};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task;
use tokio::time::sleep;

/// Awaits of every kind. The namespace is checked after each.
async fn checked(ns: NetNs) -> (u64, u64) {
    let inside = key(ns.id());
    ns.run_async(|| async {
        assert_eq!(here(), inside);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(here(), inside);
        assert_eq!(task::spawn(async { here() }).await.unwrap(), inside);
        assert_eq!(task::spawn_blocking(here).await.unwrap(), inside);
        task::yield_now().await;
        here()
    })
    .await
    .unwrap()
}

#[test]
fn calls_work_under_every_executor() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    assert_eq!(current.block_on(checked(ns.clone())), inside);
    assert_eq!(current.block_on(current.spawn(checked(ns.clone()))).unwrap(), inside);
    assert_eq!(task::LocalSet::new().block_on(&current, checked(ns.clone())), inside);
    assert_eq!(multi.block_on(checked(ns.clone())), inside);
    assert_eq!(multi.block_on(multi.spawn(checked(ns.clone()))).unwrap(), inside);
    // One runtime runs inside the other.
    assert_eq!(
        multi.block_on(async {
            current.spawn(checked(ns.clone()));
            checked(ns.clone()).await
        }),
        inside
    );
    assert_eq!(futures::executor::block_on(checked(ns.clone())), inside);
    assert_eq!(smol::block_on(checked(ns.clone())), inside);
    assert_eq!(smol::block_on(smol::spawn(checked(ns.clone()))), inside);
    assert_eq!(by_parking(checked(ns.clone())), inside);
    assert_eq!(with_netns(&ns, || futures::executor::block_on(checked(ns.clone()))).unwrap(), inside);
    drop((current, multi));
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}

/// The executor of the documentation of [`std::task::Wake`]: it relies only on its thread's park token.
fn by_parking<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn inside_a_synchronous_call_the_callers_runtime_is_current() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let multi = with_a_worker();
    let seen = multi.block_on(async {
        with_netns(&ns, || {
            let on_workers = tokio::runtime::Handle::current().spawn(async { here() });
            tokio::runtime::Handle::current().block_on(async {
                sleep(Duration::from_millis(1)).await;
                (here(), on_workers.await.unwrap())
            })
        })
        .unwrap()
    });
    assert_eq!(seen, (key(ns.id()), home()), "what it spawns there runs there, at home");
    assert!(with_netns(&ns, || tokio::runtime::Handle::try_current().is_err()).unwrap());
}

/// The one worker waits in the call, so another thread has to drive its timers.
#[test]
fn a_body_can_wait_on_the_callers_runtime_where_another_thread_drives_it() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let inside = key(ns.id());
    let single_threaded = with_a_worker();
    let body = || {
        tokio::runtime::Handle::current().block_on(async {
            sleep(Duration::from_millis(1)).await;
            here()
        })
    };
    let on_worker = {
        let ns = ns.clone();
        single_threaded.spawn(async move { task::block_in_place(|| ns.run(body)).unwrap() })
    };
    assert_eq!(single_threaded.block_on(on_worker).unwrap(), inside);
    // An async body waits on a runtime of its own, whatever the caller's is.
    let sleeps = || async {
        sleep(Duration::from_millis(1)).await;
        here()
    };
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(current.block_on(ns.run_async(sleeps)).unwrap(), inside);
    let on_worker = {
        let ns = ns.clone();
        single_threaded.spawn(async move { ns.run_async(sleeps).await.unwrap() })
    };
    assert_eq!(single_threaded.block_on(on_worker).unwrap(), inside);
}

#[test]
fn block_in_place_panics_in_an_async_body() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let handle = ns.spawn_async(|| async { task::block_in_place(here) });
    assert!(futures::executor::block_on(handle).unwrap_err().is_panic());
    assert_eq!(futures::executor::block_on(checked(ns.clone())), key(ns.id()));
}

/// 1,000 calls over 50 namespaces, 20 awaits in each.
#[test]
fn a_thousand_calls_run_at_once() {
    const CALLS: usize = 1_000;
    let _alone = alone();
    let _descriptors = all_descriptors();
    let kept = set_keep_alive(Duration::from_millis(50));
    wait_until("earlier threads are gone", || pool_stats().threads == 0);
    let namespaces: Vec<NetNs> = (0..50).map(|_| NetNs::new().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .thread_name("outer")
        .enable_all()
        .build()
        .unwrap();
    let before = threads().len();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0_u64;
            while !over.load(Ordering::Relaxed) {
                for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                    let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                    if name.trim() == "outer" {
                        let at = std::fs::metadata(task.path().join("ns/net"));
                        if let Ok(at) = at {
                            use std::os::unix::fs::MetadataExt as _;
                            assert_eq!((at.dev(), at.ino()), home(), "a worker of the outer runtime has moved");
                            looks += 1;
                        }
                    }
                }
            }
            looks
        });
        // If a check fails, the watcher must end as well.
        let calls_are_over = scopeguard::guard((), |()| over.store(true, Ordering::Relaxed));
        runtime.block_on(async {
            let calls: Vec<_> = (0..CALLS)
                .map(|call| runtime.spawn(twenty_awaits(namespaces[call % namespaces.len()].clone())))
                .collect();
            for call in calls {
                call.await.unwrap();
            }
        });
        drop(calls_are_over);
        assert!(watch.join().unwrap() > 0);
    });
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
    wait_until_given_back();
    wait_until("the pinned threads are gone", || pool_stats().threads == 0);
    wait_until("the count of threads is what it was", || threads().len() <= before);
    set_keep_alive(kept);
}

async fn twenty_awaits(ns: NetNs) {
    let inside = key(ns.id());
    let check = move || assert_eq!(here(), inside);
    with_netns_async(&ns, || async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        check();
        let address = listener.local_addr().unwrap();
        let echo = task::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            check();
            let mut byte = [0];
            while stream.read(&mut byte).await.unwrap() == 1 {
                check();
                stream.write_all(&byte).await.unwrap();
            }
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        check();
        for step in 0..4 {
            stream.write_all(&[step]).await.unwrap();
            check();
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            check();
            task::yield_now().await;
            check();
            sleep(Duration::from_micros(200)).await;
            check();
        }
        drop(stream);
        echo.await.unwrap();
        check();
        task::spawn_blocking(check).await.unwrap();
        check();
    })
    .await
    .unwrap();
}

#[test]
fn timeouts_and_aborts_drop_calls() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let never_ends = || with_netns_async(&ns, std::future::pending::<()>);
        tokio::time::timeout(Duration::from_millis(1), never_ends()).await.unwrap_err();
        let ns = ns.clone();
        let task = tokio::spawn(async move { ns.run_async(std::future::pending::<()>).await });
        task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    });
    drop(runtime);
    wait_until("their threads are given back", || pool_stats().leased == 0);
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
}

/// The timeout is in the same task, and the call is ready in its first poll.
async fn times_out<F: Future>(one: impl Fn() -> F) {
    let without_end = async {
        loop {
            one().await;
        }
    };
    tokio::time::timeout(Duration::from_millis(30), without_end).await.unwrap_err();
}

#[in_netns::in_netns(ns)]
async fn annotated(ns: &NetNs) {
    assert_eq!(here(), key(ns.id()));
}

#[in_netns::in_netns(name)]
async fn annotated_with_a_name(name: &str) -> Result<(), in_netns::Error> {
    unreachable!("{name} is not there");
}

#[test]
fn a_task_that_makes_one_call_after_another_lets_others_run() {
    const MISSING: &str = "in-netns-test-no-such-name";
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for kind in 0..9 {
        let ns = ns.clone();
        in_time(&format!("the timeout around calls of kind {kind} fires"), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pods = [ns.clone(), ns.clone()];
                match kind {
                    0 => times_out(|| ns.run_async(async || ())).await,
                    1 => times_out(|| Call::new(&ns).outcome_async(async || ())).await,
                    2 => times_out(|| in_netns::walk_async(&pods, 1, async |_: &NetNs| ())).await,
                    3 => times_out(|| annotated(&ns)).await,
                    4 => times_out(|| annotated_with_a_name(MISSING)).await,
                    5 => times_out(|| with_netns_async(MISSING, async || ())).await,
                    6 => times_out(|| Call::new(MISSING).spawn_async(async || ())).await,
                    7 => times_out(|| ns.tcp_listen_async("127.0.0.1:0")).await,
                    _ => times_out(|| ns.lookup_host_async("127.0.0.1", 80)).await,
                }
            });
        });
    }
    wait_until_given_back();
}

/// An executor that polls in a task of tokio does not return to it before the call is ready. So the call must not wait
/// for a new budget of that task.
#[test]
fn a_call_in_an_executor_inside_a_task_ends_when_the_budget_of_the_task_is_used_up() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for kind in 0..6 {
        let ns = ns.clone();
        in_time(&format!("calls of kind {kind} end"), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for _ in 0..300 {
                    match kind {
                        0 => futures::executor::block_on(ns.run_async(async || ())).unwrap(),
                        1 => futures::executor::block_on(ns.spawn_async(async || ())).unwrap(),
                        2 => drop(futures::executor::block_on(ns.tcp_listen_async("127.0.0.1:0")).unwrap()),
                        3 => futures::executor::block_on(annotated(&ns)),
                        4 => smol::block_on(annotated(&ns)),
                        _ => {
                            let pods = [ns.clone(), ns.clone()];
                            let walked = in_netns::walk_async(&pods, 2, async |_: &NetNs| ());
                            futures::executor::block_on(walked).into_iter().for_each(Result::unwrap);
                        }
                    }
                }
            });
        });
    }
    wait_until_given_back();
}

/// As above, for what waits for the runtime of the caller.
#[test]
fn a_wait_for_the_runtime_ends_in_an_executor_inside_a_task_whose_budget_is_used_up() {
    use futures::executor::block_on;

    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let listener = ns.tcp_listen("127.0.0.1:80").unwrap();
    let address = listener.local_addr().unwrap();
    for kind in 0..6 {
        let ns = ns.clone();
        in_time(&format!("the wait of kind {kind} ends"), move || {
            let runtime = with_a_worker();
            runtime.block_on(poll_fn(|cx| {
                take_budget(u32::MAX, cx);
                match kind {
                    0 => drop(block_on(ns.lookup_host_async("localhost", 80)).unwrap()),
                    1 => drop(block_on(ns.tcp_connect_async(address)).unwrap()),
                    // An address that does not answer comes first.
                    2 => drop(block_on(ns.tcp_connect_async(vec![unanswered(&ns), address])).unwrap()),
                    3 => assert!(block_on(ns.command("true").status_async()).unwrap().success()),
                    4 => assert_eq!(block_on(ns.command("echo").output_async()).unwrap().stdout, b"\n"),
                    _ => {
                        // It yields between its reads, and ends all the same.
                        let output = block_on(ns.command("head").args(["-c", "10000000", "/dev/zero"]).output_async());
                        assert_eq!(output.unwrap().stdout.len(), 10_000_000);
                    }
                }
                Poll::Ready(())
            }));
        });
    }
    wait_until_given_back();
}

/// The address of a listener that accepts no connection, and whose queue is full: a connection waits.
fn unanswered(ns: &NetNs) -> SocketAddr {
    ns.run(|| {
        let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 81)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 81));
        let waiting = std::net::TcpStream::connect(address).unwrap();
        std::mem::forget((listener, waiting));
        address
    })
    .unwrap()
}

/// A runtime whose worker drives it while a future that it blocks on does not return to it.
fn with_a_worker() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Takes units of the current task's budget, as many as there are up to `most`. Returns how many.
fn take_budget(most: u32, cx: &mut Context<'_>) -> u32 {
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    let mut units = 0;
    while units < most && has_budget_remaining() {
        let _ = pin!(consume_budget()).poll(cx);
        units += 1;
    }
    units
}

/// The budget ends in the middle of what is awaited: each read of the output takes a unit.
#[test]
fn the_output_of_a_process_is_read_in_an_executor_inside_a_task_whose_budget_ends_meanwhile() {
    use futures::executor::block_on;

    let _alone = alone();
    let ns = NetNs::new().unwrap();
    for left in 1..=6 {
        let ns = ns.clone();
        in_time(&format!("the process ends where {left} units are left"), move || {
            let runtime = with_a_worker();
            let whole = runtime.block_on(poll_fn(|cx| Poll::Ready(take_budget(u32::MAX, cx))));
            runtime.block_on(poll_fn(|cx| {
                take_budget(whole - left, cx);
                assert_eq!(block_on(ns.command("echo").output_async()).unwrap().stdout, b"\n");
                Poll::Ready(())
            }));
        });
    }
}

/// One of them is that of the call itself.
#[test]
fn the_output_of_a_process_takes_units_of_the_budget() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let runtime = with_a_worker();
    let whole = runtime.block_on(poll_fn(|cx| Poll::Ready(take_budget(u32::MAX, cx))));
    let left = runtime.block_on(poll_fn(|cx| {
        futures::executor::block_on(ns.command("echo").output_async()).unwrap();
        Poll::Ready(take_budget(u32::MAX, cx))
    }));
    assert!(left < whole - 1, "{left} of {whole} units are left");
}

/// A task that reads what a process writes without end yields.
#[test]
fn a_task_that_reads_the_output_of_a_process_lets_others_run() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    in_time("the timeout around the process fires", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut yes = ns.command("yes");
            let output = yes.kill_on_drop(true).output_async();
            tokio::time::timeout(Duration::from_millis(50), output).await.unwrap_err();
        });
    });
}

/// A runtime that was shut down has handles, which poll on the calling thread.
#[test]
fn a_look_up_on_a_runtime_that_was_shut_down_is_an_error_that_says_so() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let error = handle.block_on(ns.lookup_host_async("localhost", 80)).unwrap_err().to_string();
    assert!(error.contains("look up a name") && error.contains("shut down"), "{error}");
}

/// A walk of async bodies: the order of the items, the bound, an error in its place, and items that lend a namespace.
#[test]
fn an_async_walk_has_so_many_calls_at_once_and_returns_in_order() {
    use std::sync::atomic::AtomicUsize;
    let _alone = alone();
    let mut pods: Vec<(usize, NetNs)> = (0..12).map(|at| (at, NetNs::new().unwrap())).collect();
    pods.reverse();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for at_once in [1, 3, 64] {
        most.store(0, Ordering::SeqCst);
        let walk = in_netns::walk_async(&pods, at_once, |(at, pod)| {
            let (now, most) = (&now, &most);
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Until as many as may be are there. Then the earlier ones take longer.
                while most.load(Ordering::SeqCst) < at_once.min(12) {
                    sleep(Duration::from_millis(1)).await;
                }
                sleep(Duration::from_millis(u64::try_from(*at).unwrap())).await;
                assert_eq!(here(), key(pod.id()));
                now.fetch_sub(1, Ordering::SeqCst);
                *at
            }
        });
        let seen: Vec<usize> = futures::executor::block_on(walk).into_iter().map(Result::unwrap).collect();
        assert_eq!(seen, pods.iter().map(|(at, _)| *at).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), at_once.min(pods.len()));
    }
    wait_until("their threads are given back", || pool_stats().leased == 0);
    // Dropped on its way, it cancels what is under way.
    let walk = in_netns::walk_async(&pods, 4, |_| std::future::pending::<()>());
    assert!(futures::FutureExt::now_or_never(walk).is_none());
    wait_until("their threads are given back", || pool_stats().leased == 0);
    assert_eq!(threads_outside_home(), [] as [u32; 0]);
    let none = in_netns::walk_async(&[] as &[NetNs], None, |_| async {});
    assert!(futures::executor::block_on(none).is_empty());
}
