//! The caller's context that is current in a body, although the body runs on another thread, and the events that are
//! emitted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::ThreadId;

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{
    Call, NetNs, par_walk, pinned, pool_stats, set_poison_hook, set_stray_hook, walk, with_netns, with_netns_async,
};
use in_netns_tests::{alone, give_up_sys_admin, here, home, key, threads_in, tid, wait_until};
use tokio::runtime::Handle;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

/// An event with its fields, and the span that was current.
#[derive(Clone, Debug, Default)]
struct Note {
    fields: BTreeMap<&'static str, String>,
    span: Option<u64>,
}

impl Visit for Note {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// A subscriber that records its events.
#[derive(Clone, Default)]
struct Notes {
    current: Arc<Mutex<Vec<(ThreadId, u64)>>>,
    seen: Arc<Mutex<Vec<Note>>>,
    /// All spans of these tests have the same metadata.
    described: Arc<Mutex<Option<&'static Metadata<'static>>>>,
}

impl Notes {
    fn span(&self) -> Option<u64> {
        let here = std::thread::current().id();
        let current = self.current.lock().unwrap();
        current.iter().rev().find(|(thread, _)| *thread == here).map(|(_, span)| *span)
    }

    fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Subscriber for Notes {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        *self.described.lock().unwrap() = Some(span.metadata());
        Id::from_u64(7)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut note = Note { span: self.span(), ..Note::default() };
        event.record(&mut note);
        note.fields.insert("level", event.metadata().level().to_string());
        self.seen.lock().unwrap().push(note);
    }
    fn enter(&self, span: &Id) {
        self.current.lock().unwrap().push((std::thread::current().id(), span.into_u64()));
    }
    fn exit(&self, span: &Id) {
        let left = (std::thread::current().id(), span.into_u64());
        let mut current = self.current.lock().unwrap();
        let at = current.iter().rposition(|entered| *entered == left).unwrap();
        current.remove(at);
    }
    fn current_span(&self) -> Current {
        match (self.span(), *self.described.lock().unwrap()) {
            (Some(span), Some(metadata)) => Current::new(Id::from_u64(span), metadata),
            _ => Current::none(),
        }
    }
}

#[test]
fn the_dispatcher_and_the_span_are_current_in_every_body() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let pods = [ns.clone(), NetNs::new().unwrap()];
    let say = || tracing::info!("here");
    let bodies: [(&str, usize, &dyn Fn()); 9] = [
        ("with_netns", 1, &|| with_netns(&ns, say).unwrap()),
        ("fresh", 1, &|| Call::new(&ns).fresh().run(say).unwrap()),
        ("pinned", 1, &|| pinned(|_| say()).unwrap()),
        ("worker", 1, &|| worker.run(say).unwrap()),
        ("walk", 2, &|| drop(walk(&pods, |_| say()).unwrap())),
        ("par_walk", 2, &|| drop(par_walk(&pods, 2, |_| say()).unwrap())),
        ("nested", 1, &|| with_netns(&ns, || with_netns(&pods[1], say).unwrap()).unwrap()),
        ("async", 2, &|| {
            let body = || async {
                say();
                tokio::task::yield_now().await;
                say();
            };
            block_on(with_netns_async(&ns, body)).unwrap();
        }),
        ("owned", 2, &|| {
            let body = || async {
                tracing::info!("first poll");
                tokio::task::yield_now().await;
                tracing::info!("second poll");
            };
            block_on(ns.spawn_async(body)).unwrap();
        }),
    ];
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        for (name, events, body) in bodies {
            tracing::info_span!("caller").in_scope(body);
            let spans: Vec<_> = notes.take().into_iter().map(|note| note.span).collect();
            assert_eq!(spans, vec![Some(7); events], "{name}");
            body();
            let spans: Vec<_> = notes.take().into_iter().map(|note| note.span).collect();
            assert_eq!(spans, vec![None; events], "{name}, outside of the span");
        }
    });
    for (_, _, body) in bodies {
        body();
    }
    assert!(notes.take().is_empty(), "no span stays on the threads");
}

/// The destructors of a body that is cancelled are a part of it.
#[test]
fn the_dispatcher_and_the_span_are_current_where_a_body_is_cancelled() {
    struct Says;
    impl Drop for Says {
        fn drop(&mut self) {
            tracing::info!("dropped");
        }
    }
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let (tell, told) = mpsc::channel();
    let body = move || {
        let tell = tell.clone();
        async move {
            let _says = Says;
            tell.send(()).unwrap();
            std::future::pending::<()>().await;
        }
    };
    let cancels: [(&str, &dyn Fn()); 3] = [
        ("dropped", &|| {
            assert!(with_netns_async(&ns, &body).now_or_never().is_none());
            told.recv().unwrap();
        }),
        ("aborted", &|| {
            let task = ns.spawn_async(body.clone());
            told.recv().unwrap();
            task.abort();
            assert!(block_on(task).unwrap_err().is_cancelled());
        }),
        ("an output that is not awaited", &|| {
            let (go_on, may_go_on) = mpsc::channel();
            drop(ns.spawn_async(async move || {
                may_go_on.recv().unwrap();
                Says
            }));
            go_on.send(()).unwrap();
            wait_until("it has ended", || pool_stats().leased == 0);
        }),
    ];
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        // The interest in an event is settled where it is first met.
        drop(Says);
        notes.take();
        for (name, cancel) in cancels {
            tracing::info_span!("caller").in_scope(cancel);
            let spans: Vec<_> = notes.take().into_iter().map(|note| note.span).collect();
            assert_eq!(spans, [Some(7)], "{name}");
        }
    });
}

#[test]
fn the_callers_runtime_is_current_in_synchronous_bodies() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let pods = [ns.clone(), NetNs::new().unwrap()];
    let ours = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let id = ours.handle().id();
    let current = || Handle::current().id();
    let _entered = ours.enter();
    assert_eq!(with_netns(&ns, current).unwrap(), id);
    assert_eq!(worker.run(current).unwrap(), id);
    assert!(walk(&pods, |_| current()).unwrap().into_iter().all(|seen| seen.unwrap() == id));
    assert!(par_walk(&pods, 2, |_| current()).unwrap().into_iter().all(|seen| seen.unwrap() == id));
    // An async body has its own runtime.
    assert_ne!(block_on(ns.run_async(|| async { current() })).unwrap(), id);
    let polled = worker.run(|| Handle::current().block_on(async { here() })).unwrap();
    assert_ne!(polled, home());
}

/// Does what a look-up on that runtime does: it awaits a blocking closure in a synchronous body.
fn blocking_on_callers_runtime() -> (u64, u64) {
    let runtime = Handle::current();
    runtime.block_on(async { runtime.spawn_blocking(here).await.unwrap() })
}

/// A lazily started pool in the caller's own runtime stays inside.
#[test]
fn a_blocking_pool_that_grows_in_a_body_grows_inside_and_the_audit_says_so() {
    let _alone = alone();
    set_stray_hook(|_| {});
    let ns = NetNs::new().unwrap();
    // A runtime without workers: workers are threads of that pool too, so the order would be undefined.
    let ours = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let _entered = ours.enter();
    let outcome = Call::new(&ns).audit().outcome(blocking_on_callers_runtime).unwrap();
    assert_eq!(outcome.value.unwrap(), key(ns.id()));
    assert_eq!(outcome.strays.iter().map(|stray| stray.thread_id).collect::<Vec<_>>(), threads_in(&ns));
    // Every later task runs there too.
    assert_eq!(ours.block_on(ours.spawn_blocking(here)).unwrap(), key(ns.id()));
}

#[test]
fn a_runtime_that_is_kept_at_home_grows_at_home() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let home_ns = NetNs::current().unwrap();
    let by_us = home_ns.tokio_builder().build().unwrap();
    let by_hand = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || home_ns.join().unwrap())
        .build()
        .unwrap();
    for runtime in [by_us.handle(), by_hand.handle()] {
        let _entered = runtime.enter();
        let outcome = Call::new(&ns).audit().outcome(blocking_on_callers_runtime).unwrap();
        assert_eq!(outcome.value.unwrap(), home());
        assert_eq!(outcome.strays, []);
    }
}

#[test]
fn a_failed_restore_is_an_event() {
    let _alone = alone();
    set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    let notes = Notes::default();
    let thread = tracing::subscriber::with_default(notes.clone(), || {
        let poisons = || {
            give_up_sys_admin();
            tid()
        };
        with_netns(&ns, poisons).unwrap()
    });
    let [note] = &notes.take()[..] else { panic!("one event") };
    assert_eq!((note.fields["level"].as_str(), &note.fields["thread_id"]), ("ERROR", &thread.to_string()));
    assert!(note.fields["error"].contains("CAP_SYS_ADMIN"), "{note:?}");
}

#[test]
fn a_stray_is_an_event() {
    let _alone = alone();
    set_stray_hook(|_| {});
    let notes = Notes::default();
    let (end, wait) = mpsc::channel::<()>();
    let outcome = tracing::subscriber::with_default(notes.clone(), || {
        Call::new(NetNs::new().unwrap()).audit().outcome(|| std::thread::spawn(move || wait.recv())).unwrap()
    });
    let [note] = &notes.take()[..] else { panic!("one event") };
    let stray = outcome.strays[0].thread_id.to_string();
    assert_eq!((note.fields["level"].as_str(), &note.fields["thread_id"]), ("WARN", &stray));
    drop(end);
    outcome.value.unwrap().join().unwrap().unwrap_err();
}
