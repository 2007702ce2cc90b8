//! User code that panics outside of a body: destructors, subscribers, hooks. The call panics, or the message is
//! printed. The process never ends, and the next call works.
//!
//! Argument: the code that panics.

use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};

use futures::executor::block_on;
use in_netns::{
    Call, Error, ErrorKind, JoinHandle, NetNs, NetNsPool, par_walk, pinned, set_poison_hook, with_netns,
    with_netns_async,
};
use in_netns_tests::{become_root_of_a_user_namespace, give_up_sys_admin, here, key};
use nix::sched::CloneFlags;

/// Panics when it is dropped.
struct Panics(&'static str);

impl Drop for Panics {
    fn drop(&mut self) {
        panic::panic_any(self.0);
    }
}

/// Returns the payload with which a call panicked.
fn panic_of<R>(call: impl FnOnce() -> R) -> &'static str {
    let payload = panic::catch_unwind(AssertUnwindSafe(call)).err().expect("the call panics");
    *payload.downcast::<&'static str>().expect("the payload is the original one")
}

pub(crate) fn main() {
    // Opened before the user namespace is entered, it belongs to the parent, and cannot be entered.
    let parents = NetNs::current().expect("the current namespace");
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    let ns = NetNs::new().expect("a namespace");
    let argument = crate::arguments().next().expect("an argument");
    match argument.as_str() {
        "captured-pooled" => {
            let captured = Panics("captured");
            assert_eq!(panic_of(|| with_netns(&parents, move || drop(captured))), "captured");
        }
        "captured-fresh" => {
            let captured = Panics("captured");
            assert_eq!(panic_of(|| Call::new(&parents).fresh().run(move || drop(captured))), "captured");
        }
        "captured-outcome" => {
            let captured = Panics("captured");
            assert_eq!(panic_of(|| Call::new(&parents).outcome(move || drop(captured))), "captured");
        }
        "captured-worker" => {
            let (captured, worker) = (Panics("captured"), parents.worker());
            assert_eq!(panic_of(|| worker.run(move || drop(captured))), "captured");
        }
        "captured-by-a-body-that-runs" => {
            let captured = Panics("captured");
            assert_eq!(panic_of(|| with_netns(&ns, move || drop(captured))), "captured");
            let captured = Panics("captured");
            assert_eq!(panic_of(|| pinned(move |_| drop(captured))), "captured");
            let (captured, worker) = (Panics("captured"), ns.worker());
            assert_eq!(panic_of(|| worker.run(move || drop(captured))), "captured");
        }
        "span-refused" => {
            subscribe("try_close");
            let span = tracing::info_span!("captured");
            assert_eq!(panic_of(|| with_netns(&parents, move || drop(span))), "try_close");
        }
        "span-of-the-caller" => {
            subscribe("try_close");
            // The caller's span panics as well when it ends; that does not hide the body's panic.
            std::mem::forget(tracing::info_span!("callers").entered());
            assert_eq!(panic_of(|| with_netns(&ns, || panic::panic_any("body"))), "body");
            let worker = ns.worker();
            assert_eq!(panic_of(|| worker.run(|| panic::panic_any("body"))), "body");
        }
        "span-async" => async_bodies(&ns),
        "span-async-refused" => {
            subscribe("try_close");
            let span = tracing::info_span!("captured");
            let call = with_netns_async(&parents, move || async move { drop(span) });
            assert_eq!(panic_of(|| block_on(call)), "try_close");
            let span = tracing::info_span!("captured");
            let handle = parents.spawn_async(move || async move { drop(span) });
            assert_eq!(panic_of_body(handle), "try_close");
        }
        "span-enter" => {
            std::mem::forget(caller_span_then("enter"));
            assert_eq!(panic_of(|| with_netns(&ns, || unreachable!("the body ran"))), "enter");
            dropped_by_caller(&ns, |captured, call| panic_of(|| call.run(move || drop(captured))), "enter");
            dropped_by_caller(&ns, |captured, _| panic_of(|| ns.worker().run(move || drop(captured))), "enter");
        }
        "span-exit" => {
            std::mem::forget(caller_span_then("exit"));
            assert_eq!(panic_of(|| with_netns(&ns, || panic::panic_any("body"))), "body");
            assert_eq!(panic_of(|| ns.worker().run(|| panic::panic_any("body"))), "body");
            dropped_by_caller(&ns, |value, call| panic_of(|| call.run(move || value)), "exit");
            dropped_by_caller(&ns, |value, _| panic_of(|| ns.worker().run(move || value)), "exit");
        }
        "hook-payload" => {
            set_poison_hook(|_| panic::panic_any(Panics("the payload of the hook")));
            let value = with_netns(&ns, || {
                give_up_sys_admin();
                7
            });
            assert_eq!(value.expect("the value arrives"), 7);
        }
        "par-walk" => par_walks(&ns),
        "prepare" => {
            let pool = NetNsPool::builder().ready(0).prepare(|_| Err::<(), _>(Unspeakable)).build().expect("a pool");
            for _ in 0..2 {
                let error = pool.take().expect_err("it cannot be prepared");
                assert_eq!(error.kind(), ErrorKind::Prepare, "{error}");
                assert!(error.to_string().contains("it panicked: no message"), "{error}");
            }
        }
        other => panic!("no scenario {other}"),
    }
    SILENT.store(true, Ordering::SeqCst);
    assert_eq!(with_netns(&ns, here).expect("the next call works"), key(ns.id()));
    let refused: Result<(), Error> = with_netns(&parents, || unreachable!("the body ran"));
    refused.expect_err("it belongs to the parent");
}

/// Calls that a subscriber makes panic drop the body that did not run, or the value, on the caller's thread.
fn dropped_by_caller(ns: &NetNs, run: impl Fn(Dropped, Call) -> &'static str, thrown: &str) {
    for call in [Call::new(ns), Call::new(ns).fresh()] {
        let (dropped, on) = mpsc::channel();
        assert_eq!(run(Dropped(dropped), call), thrown);
        let threads: Vec<_> = on.iter().collect();
        assert_eq!(threads, [thread::current().id()], "it is dropped once, by the caller");
    }
}

/// Tells the thread that drops it, and panics.
struct Dropped(mpsc::Sender<ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(thread::current().id()).expect("the test receives it");
        panic::panic_any("dropped");
    }
}

/// Two threads of a walk each leave a value or a payload that panics when it is dropped.
fn par_walks(ns: &NetNs) {
    let meet = Barrier::new(2);
    let both = || {
        par_walk([ns, ns], 2, |_| {
            meet.wait();
            panic::panic_any(Panics("the payload"));
        })
    };
    mem::forget(panic::catch_unwind(AssertUnwindSafe(both)).expect_err("the call panics"));
    let first = AtomicBool::new(true);
    let one = || {
        par_walk([ns, ns], 2, |_| {
            meet.wait();
            if first.swap(false, Ordering::SeqCst) {
                panic::panic_any("body");
            }
            Panics("the value of the other")
        })
    };
    assert_eq!(panic_of(one), "body");
}

/// An error whose message panics.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no message")
    }
}

impl std::error::Error for Unspeakable {}

/// The subscriber panics when the span of the caller ends, and when a span ends that the body owns.
fn async_bodies(ns: &NetNs) {
    subscribe("try_close");
    std::mem::forget(tracing::info_span!("callers").entered());
    assert_eq!(block_on(with_netns_async(ns, || async { 7 })).expect("the value arrives"), 7);
    assert_eq!(block_on(ns.spawn_async(|| async { 7 })).expect("the value arrives"), 7);
    let panics = || async { panic::panic_any("body") };
    assert_eq!(panic_of(|| block_on(with_netns_async(ns, panics))), "body");
    assert_eq!(panic_of_body(ns.spawn_async(panics)), "body");

    let span = tracing::info_span!("captured");
    let call = with_netns_async(ns, move || async move { drop(span) });
    assert_eq!(panic_of(|| block_on(call)), "try_close");
    let span = tracing::info_span!("captured");
    assert_eq!(panic_of_body(ns.spawn_async(move || async move { drop(span) })), "try_close");

    // The body is dropped at its `await`.
    let span = tracing::info_span!("captured");
    let mut call = Box::pin(with_netns_async(ns, move || async move {
        std::future::pending::<()>().await;
        drop(span);
    }));
    let is_pending = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(is_pending);
    assert_eq!(panic_of(|| drop(call)), "try_close");
    let span = tracing::info_span!("captured");
    let handle = ns.spawn_async(move || async move {
        std::future::pending::<()>().await;
        drop(span);
    });
    handle.abort();
    assert_eq!(panic_of_body(handle), "try_close");
}

/// Returns the payload with which an async body panicked.
fn panic_of_body<R: Send>(handle: JoinHandle<R>) -> &'static str {
    let error = block_on(handle).err().expect("the body panics");
    let payload = error.try_into_panic().expect("it is a panic");
    *payload.downcast::<&'static str>().expect("the payload is the original one")
}

/// Makes a span current for the rest of the process. Its subscriber panics in one of its methods from now on.
fn caller_span_then(method: &'static str) -> impl Sized {
    subscribe("nothing");
    let span = tracing::info_span!("callers").entered();
    *PANICS_IN.lock().expect("no panic under this lock") = method;
    span
}

static PANICS_IN: std::sync::Mutex<&str> = std::sync::Mutex::new("nothing");
static SILENT: AtomicBool = AtomicBool::new(false);

fn subscribe(method: &'static str) {
    *PANICS_IN.lock().expect("no panic under this lock") = method;
    tracing::subscriber::set_global_default(Subscriber).expect("the first one");
}

struct Subscriber;

fn may_panic(method: &'static str) {
    let panics = *PANICS_IN.lock().expect("no panic under this lock") == method;
    if panics && !SILENT.load(Ordering::SeqCst) {
        panic::panic_any(method);
    }
}

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {
        may_panic("enter");
    }
    fn exit(&self, _: &tracing::span::Id) {
        may_panic("exit");
    }
    fn try_close(&self, _: tracing::span::Id) -> bool {
        may_panic("try_close");
        true
    }
    fn current_span(&self) -> tracing_core::span::Current {
        static SITE: tracing_core::callsite::DefaultCallsite = {
            static META: tracing_core::Metadata<'static> = tracing_core::metadata! {
                name: "callers", target: "user_panics", level: tracing_core::Level::INFO, fields: &[],
                callsite: &SITE, kind: tracing_core::metadata::Kind::SPAN,
            };
            tracing_core::callsite::DefaultCallsite::new(&META)
        };
        tracing_core::span::Current::new(
            tracing::span::Id::from_u64(1),
            tracing_core::callsite::Callsite::metadata(&SITE),
        )
    }
}
