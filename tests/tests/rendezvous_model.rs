//! The model check of the hand-over: every interleaving of its two sides, by loom.
//!
//! The file under test is the runtime's own, with loom's atomics, cells and threads in the place of `std`'s.
#![allow(missing_docs, unsafe_code, unreachable_pub)]
// The runtime's file is written for an older compiler than the tests are.
#![allow(clippy::collapsible_if, clippy::manual_is_multiple_of)]

#[path = "../../runtime/src/thread/rendezvous.rs"]
mod rendezvous;

mod sync {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
    pub(crate) use loom::thread::{Thread, current, park};

    /// Loom has no clock: a sleep that times out is one that ends for no reason.
    pub(crate) fn park_timeout(_: std::time::Duration) {
        loom::thread::yield_now();
    }
}

use std::time::Duration;

use rendezvous::{AssistPoint, Callee, Completion, Order, SpinLimit, mailbox};

/// A callee that runs `jobs` jobs, adding up what it was handed, and then sees the end.
fn callee(mut side: Callee<u32>, jobs: u32) -> u32 {
    let mut sum = 0;
    for _ in 0..jobs {
        match side.next(None) {
            Order::Job(job) => drop(job.run(&mut sum)),
            Order::Submitted(job) => job.run(&mut sum),
            Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
        }
    }
    assert!(matches!(side.next(None), Order::Disconnected));
    sum
}

fn model(limit: u32, test: impl Fn(SpinLimit) + Send + Sync + 'static) {
    loom::model(move || test(SpinLimit(limit)));
}

fn borrows_twice(limit: SpinLimit) {
    let (mut caller, side) = mailbox(limit);
    let thread = loom::thread::spawn(move || callee(side, 2));
    caller.set_callee(thread.thread().clone());
    for turn in 1..=2 {
        // On the stack, seen by loom: a callee that used it after its answer would be found out.
        let seen = loom::cell::Cell::new(0);
        let borrowed = SendRef(&seen);
        let answer = caller.run(
            &mut move |sum: &mut u32, _| {
                borrowed.cell().set(turn);
                *sum += turn;
            },
            |_| (),
        );
        assert_eq!(answer, Completion::Completed);
        assert_eq!(seen.get(), turn);
    }
    drop(caller);
    assert_eq!(thread.join().unwrap(), 3);
}

#[derive(Clone, Copy)]
struct SendRef<'a>(&'a loom::cell::Cell<u32>);
// SAFETY: only the side whose turn it is uses the cell; loom checks that.
unsafe impl Send for SendRef<'_> {}

impl<'a> SendRef<'a> {
    fn cell(self) -> &'a loom::cell::Cell<u32> {
        self.0
    }
}

#[test]
fn a_borrow_is_over_when_hand_over_returns_asleep() {
    model(0, borrows_twice);
}

#[test]
fn a_borrow_is_over_when_hand_over_returns_spinning() {
    model(1, borrows_twice);
}

#[test]
fn a_declined_job_is_never_run() {
    model(0, |limit| {
        let (mut caller, mut side) = mailbox::<()>(limit);
        let thread = loom::thread::spawn(move || match side.next(None) {
            Order::Job(job) => drop(job),
            Order::Submitted(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
        });
        caller.set_callee(thread.thread().clone());
        let answer = caller.run(&mut |(): &mut (), _| unreachable!("declined"), |_| ());
        assert_eq!(answer, Completion::Rejected);
        thread.join().unwrap();
    });
}

#[test]
fn a_callee_out_of_patience_misses_no_order() {
    model(0, |limit| {
        let (mut caller, mut side) = mailbox::<u32>(limit);
        let thread = loom::thread::spawn(move || {
            let mut sum = 0;
            loop {
                match side.next(Some(Duration::ZERO)) {
                    Order::Job(job) => drop(job.run(&mut sum)),
                    Order::Submitted(job) => job.run(&mut sum),
                    Order::Disconnected => return sum,
                    Order::Timeout => loom::thread::yield_now(),
                }
            }
        });
        caller.set_callee(thread.thread().clone());
        assert_eq!(caller.run(&mut |sum: &mut u32, _| *sum += 1, |_| ()), Completion::Completed);
        drop(caller);
        assert_eq!(thread.join().unwrap(), 1);
    });
}

/// The callee counts on assist if and only if it is given, and it is over when the hand-over returns.
fn helps(limit: SpinLimit) {
    let (mut caller, mut side) = mailbox::<()>(limit);
    let thread = loom::thread::spawn(move || match side.next(None) {
        Order::Job(job) => job.run(&mut ()),
        Order::Submitted(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
    });
    caller.set_callee(thread.thread().clone());
    let mut assisted = false;
    let mut job = |(): &mut (), assist_point: &AssistPoint<'_>| assist_point.reached(7);
    assert_eq!(caller.run(&mut job, |note| assisted = note == 7), Completion::Completed);
    assert_eq!(thread.join().unwrap(), assisted);
}

#[test]
fn help_is_counted_on_if_and_only_if_it_is_given_asleep() {
    model(0, helps);
}

#[test]
fn help_is_counted_on_if_and_only_if_it_is_given_spinning() {
    model(1, helps);
}

/// The job has the caller's side, and hands it on to whoever has the next job: as the end of a lease does.
fn gives_then_hands_over(limit: SpinLimit) {
    let (mut caller, side) = mailbox(limit);
    let thread = loom::thread::spawn(move || callee(side, 2));
    caller.set_callee(thread.thread().clone());
    let (send, receive) = loom::sync::mpsc::channel();
    caller.submit(move |sum: Option<&mut u32>, caller| {
        *sum.expect("it is not declined") += 1;
        send.send(caller).unwrap();
    });
    let mut caller: rendezvous::Caller<u32> = receive.recv().unwrap();
    // The callee may still be on its way out of the job.
    assert_eq!(caller.run(&mut |sum: &mut u32, _| *sum += 2, |_| ()), Completion::Completed);
    drop(caller);
    assert_eq!(thread.join().unwrap(), 3);
}

#[test]
fn an_errand_is_run_and_gives_the_side_back_asleep() {
    model(0, gives_then_hands_over);
}

#[test]
fn an_errand_is_run_and_gives_the_side_back_spinning() {
    model(1, gives_then_hands_over);
}

#[test]
fn a_declined_errand_is_told_so_and_ends_the_callee() {
    model(0, |limit| {
        let (mut caller, mut side) = mailbox::<()>(limit);
        let thread = loom::thread::spawn(move || {
            match side.next(None) {
                Order::Submitted(job) => drop(job),
                Order::Job(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
            }
            assert!(matches!(side.next(None), Order::Disconnected));
        });
        caller.set_callee(thread.thread().clone());
        caller.submit(|argument, caller| {
            assert!(argument.is_none());
            drop(caller);
        });
        thread.join().unwrap();
    });
}
