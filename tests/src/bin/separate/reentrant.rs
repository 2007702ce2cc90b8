//! A run of a worker calls user code outside of its body, which uses the same worker. The worker serves that use too.
//!
//! Argument: the code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use in_netns::{ErrorKind, NetNs, Worker, retire_current_thread, set_poison_hook};
use in_netns_tests::{become_root_of_a_user_namespace, give_up_sys_admin, here, key};
use nix::sched::CloneFlags;

/// Runs a closure on a worker when it is dropped.
struct Runs(Arc<Worker>);

impl Drop for Runs {
    fn drop(&mut self) {
        let error = self.0.run(|| unreachable!("the body ran")).expect_err("it belongs to the parent");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
}

pub(crate) fn main() {
    let parents = NetNs::current().expect("the current namespace");
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);
    match crate::arguments().next().expect("an argument").as_str() {
        "refused-body" => {
            let worker = Arc::new(parents.worker());
            let captured = Runs(Arc::clone(&worker));
            let error = worker.run(move || drop(captured)).expect_err("it belongs to the parent");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        }
        "poison-hook" => {
            static HOOKS: AtomicU32 = AtomicU32::new(0);
            let ns = NetNs::new().expect("a namespace");
            let worker = Arc::new(ns.worker());
            let (of_hook, inside) = (Arc::clone(&worker), key(ns.id()));
            set_poison_hook(move |_| {
                HOOKS.fetch_add(1, Ordering::SeqCst);
                assert_eq!(of_hook.run(here).expect("the worker has another thread"), inside);
            });
            let poison = || {
                give_up_sys_admin();
                retire_current_thread();
                7
            };
            assert_eq!(worker.run(poison).expect("the value arrives"), 7);
            assert_eq!(HOOKS.load(Ordering::SeqCst), 1);
        }
        other => panic!("no scenario {other}"),
    }
}
