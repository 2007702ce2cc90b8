//! A process that has a pool of namespaces forks: the child has no thread that makes any, and is told so.
#![allow(clippy::print_stdout)]

use std::future::Future;
use std::task::{Context, Waker};

use futures::executor::block_on;
use in_netns::{ErrorKind, NetNsPool};
use in_netns_tests::wait_until;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};

pub(crate) fn main() {
    crate::rootless();
    let pool = NetNsPool::builder().ready(4).at_most(8).build().expect("a pool");
    let taken = pool.take().expect("a namespace");
    let full = NetNsPool::builder().ready(1).at_most(1).build().expect("another pool");
    let last = full.take().expect("a namespace");
    let mut waiting = Box::pin(full.take_async());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // The child inherits the lock of a pool that is at work, or not.
    for round in 0..20 {
        drop(pool.take().expect("a namespace"));
        if round % 2 == 0 {
            wait_until("it has filled up", || pool.stats().ready == 4);
        }
        // SAFETY: the child allocates, which the C library allows after a fork, and takes no other lock.
        #[allow(unsafe_code)]
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                // A child that hangs is ended.
                alarm::set(20);
                assert_eq!(pool.take().expect_err("no thread").kind(), ErrorKind::Unsupported);
                assert_eq!(pool.try_take().expect_err("no thread").kind(), ErrorKind::Unsupported);
                assert_eq!(pool.stats().alive, 0);
                let _ = format!("{pool:?}");
                assert_eq!(block_on(waiting).expect_err("no thread").kind(), ErrorKind::Unsupported);
                drop(taken);
                drop(pool);
                let own = NetNsPool::builder().ready(1).build().expect("a pool of its own");
                drop(own.take().expect("a namespace"));
                std::process::exit(0);
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0));
            }
        }
    }
    drop(last);
    block_on(waiting).expect("a namespace");
    drop((taken, pool));
    println!("as expected");
}
