//! Bodies that leave the table of file descriptors that the threads of the process share. What the call itself holds is
//! closed in that table all the same.

use std::future::{Future, pending};
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Mutex, mpsc};
use std::{fs, thread};

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{Call, Error, NetNs, NetNsId, WeakNetNs, with_netns_async};
use in_netns_tests::{alone, descriptors, is_asleep, tid, wait_until};
use nix::sched::{CloneFlags, unshare};
use tokio::net::UdpSocket;
use tokio::task;

const ROUNDS: usize = 5;

/// In some of these rounds, the last clone of a handle is the one that was given away.
const GIVEN: usize = 50;

fn leave() {
    unshare(CloneFlags::CLONE_FILES).unwrap();
}

/// Asserts that no descriptor is left of calls that are made in a new namespace each. The namespaces are given away.
#[track_caller]
fn leaves_none<F: Future<Output = ()>>(call: impl Fn(NetNs) -> F) {
    let _alone = alone();
    // What the process keeps is made by the first call.
    block_on(with_netns_async(NetNs::new().unwrap(), async || ())).unwrap();
    let before = descriptors();
    let mut given = Vec::<WeakNetNs>::new();
    for _ in 0..ROUNDS {
        let ns = NetNs::new().unwrap();
        // Before Linux 6.18 the descriptors alone are compared.
        given.extend(ns.downgrade());
        block_on(call(ns));
    }
    let left = || {
        let now = descriptors();
        now.into_iter().filter(|(number, _)| !before.contains_key(number)).collect::<Vec<_>>()
    };
    // Those of an idle thread of the pool may be new.
    wait_until(&format!("closed: {:?}", left()), || left().len() < ROUNDS);
    wait_until("no namespace is held", || given.iter().all(|weak| weak.upgrade().unwrap().is_none()));
}

/// As [`leaves_none`], for a caller with a table of its own.
#[track_caller]
fn leaves_none_in_a_table_of_the_caller<F: Future<Output = ()>>(call: impl Fn(NetNs) -> F + Sync) {
    let _alone = alone();
    block_on(with_netns_async(NetNs::new().unwrap(), async || ())).unwrap();
    let caller = || {
        leave();
        let thread = nix::unistd::gettid();
        let descriptors = || fs::read_dir(format!("/proc/self/task/{thread}/fd")).unwrap().count();
        let before = descriptors();
        let mut given = Vec::<WeakNetNs>::new();
        for _ in 0..ROUNDS {
            let ns = NetNs::new().unwrap();
            given.extend(ns.downgrade());
            block_on(call(ns));
        }
        wait_until("they are closed", || descriptors() == before);
        wait_until("no namespace is held", || given.iter().all(|weak| weak.upgrade().unwrap().is_none()));
    };
    thread::scope(|scope| scope.spawn(caller).join()).unwrap();
}

#[test]
fn a_body_may_leave_the_table_of_its_caller() {
    leaves_none_in_a_table_of_the_caller(async |ns| {
        let inside = ns.id();
        let body = async || {
            task::spawn(pending::<()>());
            task::spawn_blocking(|| ()).await.unwrap();
            leave();
            task::yield_now().await;
            NetNs::current().unwrap().id()
        };
        assert_eq!(Call::new(ns).audit().run_async(body).await.unwrap(), inside);
    });
}

/// A call whose body leaves its table, and is dropped while it waits.
fn cancelled_after_it_left(ns: NetNs) {
    let body = async || {
        leave();
        pending::<()>().await;
    };
    let mut call = Box::pin(with_netns_async(ns, body));
    assert!((&mut call).now_or_never().is_none());
}

#[test]
fn a_body_that_is_cancelled_may_have_left_the_table_of_its_caller() {
    leaves_none_in_a_table_of_the_caller(async |ns| cancelled_after_it_left(ns));
}

#[test]
fn a_body_that_is_started_may_leave_the_table_of_its_caller() {
    leaves_none_in_a_table_of_the_caller(async |ns| ns.spawn_async(async || leave()).await.unwrap());
    leaves_none_in_a_table_of_the_caller(async |ns| drop(ns.spawn_async(async || leave())));
}

#[test]
fn a_body_may_leave_its_table_before_it_waits() {
    leaves_none(async |ns| {
        let body = async || {
            leave();
            task::yield_now().await;
        };
        with_netns_async(ns, body).await.unwrap();
    });
}

#[test]
fn a_body_may_leave_its_table_with_tasks_that_run() {
    leaves_none(async |ns| {
        let body = async || {
            let socket = async || UdpSocket::bind("127.0.0.1:0").await.unwrap().recv(&mut [0]).await;
            task::spawn(async move { socket().await });
            task::yield_now().await;
            leave();
            task::yield_now().await;
        };
        Call::new(ns).audit().run_async(body).await.unwrap();
    });
}

#[test]
fn a_body_that_is_cancelled_may_have_left_its_table() {
    leaves_none(async |ns| cancelled_after_it_left(ns));
}

#[test]
fn a_blocking_closure_may_leave_its_table() {
    leaves_none(async |ns| with_netns_async(ns, async || task::spawn_blocking(leave).await.unwrap()).await.unwrap());
}

#[test]
fn a_body_that_is_started_may_leave_its_table() {
    leaves_none(async |ns| ns.spawn_async(async || leave()).await.unwrap());
    // Nothing awaits it, so its own thread has the last reference to all that it has.
    leaves_none(async |ns| drop(ns.spawn_async(async || leave())));
}

#[test]
fn a_blocking_closure_of_a_service_may_leave_its_table() {
    leaves_none(async |ns| {
        let service = ns.tokio_builder().worker_threads(1).build().unwrap();
        service.spawn_blocking(leave).await.unwrap();
    });
}

/// Gives a value of the calling thread to a thread with another table, whose numbers are other files.
fn give_to_another_table<T: Send, R: Send>(begin: impl FnOnce() -> T, then: impl FnOnce(T) -> R + Send) -> R {
    thread::scope(|scope| {
        let (give, given) = mpsc::channel();
        let (filled, is_filled) = mpsc::channel();
        let other = scope.spawn(move || {
            leave();
            let mut others: Vec<_> = (0..100).map(|_| UnixStream::pair().unwrap()).collect();
            filled.send(()).unwrap();
            let result = then(given.recv().unwrap());
            for end in others.iter_mut().flat_map(|(one, other)| [one, other]) {
                end.set_nonblocking(true).unwrap();
                let read = end.read(&mut [0]).map_err(|error| error.kind());
                assert_eq!(read, Err(ErrorKind::WouldBlock), "no file of this table is written or closed");
            }
            result
        });
        is_filled.recv().unwrap();
        give.send(begin()).unwrap();
        other.join().unwrap()
    })
}

/// As [`give_to_another_table`], from a thread with a table of its own.
fn give_from_a_table_of_the_caller<T: Send, R: Send>(
    begin: impl FnOnce() -> T + Send,
    then: impl FnOnce(T) -> R + Send,
) -> R {
    let caller = || {
        leave();
        give_to_another_table(begin, then)
    };
    thread::scope(|scope| scope.spawn(caller).join()).unwrap()
}

/// A call that was polled, and is pending.
fn polled<F: Future>(call: F) -> Pin<Box<F>> {
    let mut call = Box::pin(call);
    assert!((&mut call).now_or_never().is_none());
    call
}

/// A call that was polled, and is pending. Its body records where it is dropped.
fn pending_call(dropped: &Mutex<Option<NetNsId>>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>> {
    let ns = NetNs::new().unwrap();
    let body = move || async move {
        scopeguard::defer! { *dropped.lock().unwrap() = Some(NetNs::current().unwrap().id()); }
        pending::<()>().await;
    };
    polled(async move { with_netns_async(ns, body).await })
}

#[track_caller]
fn is_dropped_inside(dropped: Mutex<Option<NetNsId>>) {
    let place = dropped.into_inner().unwrap().expect("the body is dropped");
    assert_ne!(place, NetNs::current().unwrap().id());
}

#[track_caller]
fn is_of_another_table<T>(result: Result<T, &Error>) {
    let error = result.err().expect("it is an error");
    assert_eq!(error.kind(), in_netns::ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("another table of file descriptors"), "{error}");
}

#[test]
fn a_call_that_is_polled_in_another_table_is_an_error() {
    let _alone = alone();
    let dropped = Mutex::new(None);
    is_of_another_table(give_to_another_table(|| pending_call(&dropped), block_on).as_ref().map(drop));
    is_dropped_inside(dropped);
    let dropped = Mutex::new(None);
    is_of_another_table(give_from_a_table_of_the_caller(|| pending_call(&dropped), block_on).as_ref().map(drop));
    is_dropped_inside(dropped);
}

#[test]
fn a_call_that_is_dropped_in_another_table_drops_its_body_inside() {
    let _alone = alone();
    let dropped = Mutex::new(None);
    give_to_another_table(|| pending_call(&dropped), drop);
    is_dropped_inside(dropped);
    let dropped = Mutex::new(None);
    give_from_a_table_of_the_caller(|| pending_call(&dropped), drop);
    is_dropped_inside(dropped);
}

#[test]
fn a_call_of_a_caller_with_a_table_of_its_own_is_not_polled_in_that_of_the_process() {
    let _alone = alone();
    block_on(with_netns_async(NetNs::new().unwrap(), async || ())).unwrap();
    let (polled, dropped) = (Mutex::new(None), Mutex::new(None));
    let begin = |dropped| {
        let caller = || {
            leave();
            pending_call(dropped)
        };
        thread::scope(|scope| scope.spawn(caller).join()).unwrap()
    };
    is_of_another_table(block_on(begin(&polled)).as_ref().map(drop));
    drop(begin(&dropped));
    is_dropped_inside(polled);
    is_dropped_inside(dropped);
}

#[test]
fn a_body_that_is_started_can_be_aborted_in_another_table() {
    let _alone = alone();
    let start = || {
        let (tell, thread) = mpsc::channel();
        let task = NetNs::new().unwrap().spawn_async(async move || {
            tell.send(tid()).unwrap();
            pending::<()>().await;
        });
        let thread = thread.recv().unwrap();
        wait_until("its thread sleeps", || is_asleep(thread));
        task
    };
    let task = give_to_another_table(start, |task| {
        task.abort();
        task
    });
    assert!(block_on(task).unwrap_err().is_cancelled());
    let abort = |handle: in_netns::AbortHandle| {
        handle.abort();
        wait_until("it is aborted", || handle.is_finished());
    };
    give_from_a_table_of_the_caller(|| start().abort_handle(), abort);
}

#[test]
fn a_body_that_is_started_is_awaited_in_the_table_of_its_start() {
    let _alone = alone();
    let (go_on, goes_on) = tokio::sync::oneshot::channel::<u32>();
    let start = || NetNs::new().unwrap().spawn_async(async || goes_on.await.unwrap());
    let task = give_to_another_table(start, |mut task| {
        let awaited = block_on(&mut task);
        is_of_another_table(awaited.as_ref().map_err(|error| error.entry().unwrap()));
        task
    });
    go_on.send(7).unwrap();
    assert_eq!(block_on(task).unwrap(), 7, "the handle is as before");
}

#[test]
fn a_call_may_be_given_to_another_table_with_the_handle_that_it_borrows() {
    let _alone = alone();
    // The first call of a process may not come from a thread with another table.
    in_netns::init().unwrap();
    let begin = || {
        let ns = NetNs::new().unwrap();
        polled(async move { ns.run_async(pending::<()>).await })
    };
    give_from_a_table_of_the_caller(begin, drop);
    give_to_another_table(begin, drop);
    let before = descriptors().len();
    (0..GIVEN).for_each(|_| give_to_another_table(begin, drop));
    wait_until("the handles are closed", || descriptors().len() <= before);
    let polled = give_to_another_table(begin, block_on);
    is_of_another_table(polled.as_ref().map(drop));
}

#[test]
fn a_view_may_be_given_to_another_table() {
    let _alone = alone();
    in_netns::init().unwrap();
    let make = || NetNs::new().unwrap().view().unwrap();
    let begin = || {
        let view = make();
        polled(async move { view.run_async(pending::<()>).await })
    };
    give_from_a_table_of_the_caller(make, drop);
    give_to_another_table(begin, drop);
    let before = descriptors().len();
    (0..GIVEN).for_each(|_| {
        give_to_another_table(make, drop);
        give_to_another_table(begin, drop);
    });
    wait_until("the mounts are released", || descriptors().len() <= before);
    is_of_another_table(give_to_another_table(make, |view| view.run(|| ())).as_ref().map(drop));
}

#[test]
fn a_view_that_is_made_in_a_table_of_its_maker_is_not_entered_from_another() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let make = || {
        leave();
        ns.view().unwrap()
    };
    let view = thread::scope(|scope| scope.spawn(make).join()).unwrap();
    let entered = block_on(view.run_async(async || ()));
    is_of_another_table(entered.as_ref().map(drop));
    is_of_another_table(view.run(|| ()).as_ref().map(drop));
}
