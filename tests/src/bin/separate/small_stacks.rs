//! Calls whose bodies have a stack of few bytes, or of more than there are. A stack that overflows ends the process.

use futures::executor::block_on;
use in_netns::{Call, ErrorKind, NetNs};
use in_netns_tests::{here, key};
use tokio::task::spawn_blocking;

pub(crate) fn main() {
    crate::rootless();
    let ns = NetNs::new().expect("a namespace");
    for bytes in [0, 1, 4096, 16 << 10, 20 << 10] {
        for _ in 0..20 {
            assert_eq!(Call::new(&ns).stack_size(bytes).run(|| 42).expect("a call"), 42);
            let outcome = Call::new(&ns).stack_size(bytes).audit().outcome(nix::unistd::getppid).expect("a call");
            outcome.value.expect("it does not panic");
            let call = Call::new(&ns).stack_size(bytes).run_async(|| async { spawn_blocking(here).await });
            assert_eq!(block_on(call).expect("a call").expect("a task"), key(ns.id()));
        }
    }
    for bytes in [1 << 47, usize::MAX - 4096, usize::MAX] {
        let error = Call::new(&ns).stack_size(bytes).run(|| unreachable!("the body ran")).expect_err("no such stack");
        assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
    }
}
