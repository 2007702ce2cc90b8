//! Calls in destructors of keys of the C library (`pthread_key_create(3)`), which run after those of thread-locals: the
//! standard library's own data of the thread is gone there.
#![allow(unsafe_code)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use in_netns::{Call, NetNs, walk_async};
use in_netns_tests::{here, key, wait_until_given_back};
use nix::libc;
use tokio::time::sleep;

static NS: OnceLock<NetNs> = OnceLock::new();

type Begun = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call that another thread has begun.
static BEGUN: Mutex<Option<Begun>> = Mutex::new(None);

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Executors use thread-locals, so this one polls all the time.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll(future.as_mut()) {
            return output;
        }
        thread::yield_now();
    }
}

unsafe extern "C" fn destructor(scenario: *mut libc::c_void) {
    let ns = NS.get().expect("a namespace");
    let body = async || {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(here(), key(ns.id()));
    };
    match scenario.addr() {
        1 => run(ns.run_async(body)).expect("a call"),
        2 => run(ns.spawn_async(body)).expect("a body"),
        3 => run(walk_async([ns, ns], 2, async |_: &NetNs| body().await))
            .into_iter()
            .for_each(|visit| visit.expect("a call")),
        4 => assert!(poll(Box::pin(ns.run_async(std::future::pending::<()>)).as_mut()).is_pending()),
        5 => ns.spawn_async(std::future::pending::<()>).abort(),
        6 => run(BEGUN.lock().expect("no panic").take().expect("a call")),
        7 => drop(BEGUN.lock().expect("no panic").take()),
        8 => run(Call::new(ns).fresh().run_async(body)).expect("a call"),
        _ => assert_eq!(Call::new(ns).fresh().run(here).expect("a call"), key(ns.id())),
    }
}

pub(crate) fn main() {
    crate::rootless();
    let ns = NS.get_or_init(|| NetNs::new().expect("a namespace"));
    // Keys are numbered, and their destructors run in this order: that of the standard library comes first.
    thread::spawn(|| ()).join().expect("no panic");
    let mut last = 0;
    for _ in 0..4 {
        // SAFETY: it writes the key. The destructor is a function of this program.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut last, Some(destructor)) }, 0);
    }
    for scenario in 1..=9 {
        let mut begun: Begun =
            Box::pin(async { ns.run_async(|| sleep(Duration::from_millis(5))).await.expect("a call") });
        assert!(poll(begun.as_mut()).is_pending());
        *BEGUN.lock().expect("no panic") = Some(begun);
        // SAFETY: the key exists.
        let set = move || unsafe { libc::pthread_setspecific(last, std::ptr::without_provenance(scenario)) };
        assert_eq!(thread::spawn(set).join().expect("no panic"), 0);
        drop(BEGUN.lock().expect("no panic").take());
        wait_until_given_back();
    }
}
