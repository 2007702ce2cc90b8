//! A tokio runtime that lives in a namespace; and what of the caller's is current in a body.
#![allow(missing_docs)]

use std::sync::mpsc;
use std::thread;

use in_netns::NetNs;
use in_netns_tests::{alone, give_up_sys_admin, here, key, threads, threads_in, threads_outside_home};

in_netns::rootless!();

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
    // From a thread that is at home.
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
        // The thread that is started for this one inherits what it lacks.
        scope.spawn(|| {
            give_up_sys_admin();
            service.spawn_blocking(move || tell.send(here()).unwrap())
        });
    });
    drop(service);
    // Cancelled at the shutdown, or run by a thread that could enter.
    assert!(told.iter().all(|place| place == key(ns.id())));
}

mod context {
    use std::sync::Mutex;

    use in_netns::{NetNs, with_netns, with_netns_async};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Notes, for each event, the span that is current then.
    #[derive(Default)]
    struct Notes {
        current: Mutex<Vec<(std::thread::ThreadId, u64)>>,
        seen: std::sync::Arc<Mutex<Vec<Option<u64>>>>,
    }

    impl Subscriber for Notes {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(7)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            let here = std::thread::current().id();
            let current = self.current.lock().unwrap();
            let span = current.iter().rev().find(|(thread, _)| *thread == here).map(|(_, span)| *span);
            self.seen.lock().unwrap().push(span);
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
        fn current_span(&self) -> tracing_core::span::Current {
            let here = std::thread::current().id();
            let current = self.current.lock().unwrap();
            match current.iter().rev().find(|(thread, _)| *thread == here) {
                Some((_, span)) => tracing_core::span::Current::new(Id::from_u64(*span), METADATA.metadata()),
                None => tracing_core::span::Current::none(),
            }
        }
    }

    static METADATA: std::sync::LazyLock<tracing::Span> = std::sync::LazyLock::new(|| tracing::info_span!("metadata"));

    trait Known {
        fn metadata(&self) -> &'static Metadata<'static>;
    }

    impl Known for std::sync::LazyLock<tracing::Span> {
        fn metadata(&self) -> &'static Metadata<'static> {
            tracing::Span::metadata(self).expect("made under a subscriber")
        }
    }

    #[test]
    fn the_dispatcher_and_the_span_are_current_in_the_body() {
        let ns = NetNs::new().unwrap();
        let notes = Notes::default();
        let seen = std::sync::Arc::clone(&notes.seen);
        tracing::subscriber::with_default(notes, || {
            std::sync::LazyLock::force(&METADATA);
            let span = tracing::info_span!("caller");
            span.in_scope(|| {
                with_netns(&ns, || tracing::info!("synchronous")).unwrap();
                futures::executor::block_on(with_netns_async(&ns, || async {
                    tracing::info!("first poll");
                    tokio::task::yield_now().await;
                    tracing::info!("second poll");
                }))
                .unwrap();
            });
            with_netns(&ns, || tracing::info!("outside of it")).unwrap();
        });
        assert_eq!(*seen.lock().unwrap(), [Some(7), Some(7), Some(7), None]);
    }
}
