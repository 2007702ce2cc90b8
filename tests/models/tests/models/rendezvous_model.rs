//! The model check of the rendezvous: loom runs every interleaving of its two sides.

use std::time::Duration;

use crate::late_value::{Late, LateValue};
use crate::rendezvous::{AssistPoint, Callee, Caller, Job, Order, Rejected, mailbox_with};
use crate::spin_policy::{SpinLimit, SpinPolicy};

/// A callee that runs `jobs` jobs, sums the values that it receives, and then sees the end.
fn callee<L: Late>(mut side: Callee<u32, L>, jobs: u32) -> u32 {
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

/// Two sides that sleep at once; or that spin, with a limit. The callee may be moved.
fn mailbox<A>(limit: SpinLimit) -> (Caller<A>, Callee<A>) {
    if limit.0 == 0 {
        crate::rendezvous::mailbox(limit, true)
    } else {
        mailbox_with(SpinPolicy::apart(limit), limit, true)
    }
}

fn model(limit: u32, test: impl Fn(SpinLimit) + Send + Sync + 'static) {
    crate::explorer().check(move || test(SpinLimit(limit)));
}

fn borrows_twice(limit: SpinLimit) {
    let (mut caller, side) = mailbox(limit);
    let thread = loom::thread::spawn(move || callee(side, 2));
    for turn in 1..=2 {
        // The cell is on the stack and tracked by loom, which detects a use by the callee after its completion.
        let seen = loom::cell::Cell::new(0);
        let borrowed = SendRef(&seen);
        let job = move |sum: &mut u32, _: &AssistPoint<'_>| {
            assert!(!crate::sync::is_confined(), "the callee releases itself first");
            borrowed.cell().set(turn);
            *sum += turn;
        };
        assert!(caller.run(job, |_| ()).is_ok());
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
fn a_borrow_is_over_when_run_returns_asleep() {
    model(0, borrows_twice);
}

#[test]
fn a_borrow_is_over_when_run_returns_spinning() {
    model(1, borrows_twice);
}

/// A job and its result of `BYTES` bytes and some more.
fn moves_there_and_back<const BYTES: usize>(limit: SpinLimit) {
    let (mut caller, side) = mailbox(limit);
    let thread = loom::thread::spawn(move || callee(side, 2));
    for turn in 1..=2 {
        let bytes = [7; BYTES];
        let job = move |sum: &mut u32, _: &AssistPoint<'_>| {
            *sum += turn;
            (bytes, *sum)
        };
        let (bytes, sum) = caller.run(job, |_| ()).ok().unwrap();
        assert_eq!((bytes, sum), ([7_u8; BYTES], [0, 1, 3][turn as usize]));
    }
    drop(caller);
    assert_eq!(thread.join().unwrap(), 3);
}

#[test]
fn a_job_of_one_line_moves_there_and_back() {
    model(1, moves_there_and_back::<8>);
}

#[test]
fn a_job_of_more_lines_moves_there_and_back() {
    model(1, moves_there_and_back::<100>);
}

#[test]
fn a_job_that_stays_on_the_stack_is_run_there() {
    model(1, moves_there_and_back::<400>);
}

/// A job that adds its late value to the callee's sum.
struct AddsLate;

impl Job<u32, u32> for AddsLate {
    fn run(self, sum: &mut u32, late: &LateValue<'_, u32>, _: &AssistPoint<'_>) -> Self {
        *sum = *sum * 10 + late.receive();
        self
    }
}

/// A caller that sleeps at once; or that spins, with a limit, and sends late values after its jobs. The callee does not
/// spin: a model of a thread that spins goes on when the value was sent.
fn mailbox_for_late_values(limit: SpinLimit) -> (Caller<u32, u32>, Callee<u32, u32>) {
    if limit.0 == 0 {
        crate::rendezvous::mailbox(limit, true)
    } else {
        mailbox_with(SpinPolicy::apart(limit), SpinLimit(0), true)
    }
}

fn sends_late_values(limit: SpinLimit) {
    let (mut caller, side) = mailbox_for_late_values(limit);
    let thread = loom::thread::spawn(move || callee(side, 2));
    for value in 1..=2 {
        caller.run_job(AddsLate, &mut || value, |_| ());
    }
    drop(caller);
    assert_eq!(thread.join().unwrap(), 12);
}

#[test]
fn each_job_receives_its_late_value_asleep() {
    model(0, sends_late_values);
}

#[test]
fn each_job_receives_its_late_value_spinning() {
    model(1, sends_late_values);
}

#[test]
fn a_late_value_of_a_rejected_job_is_not_received() {
    model(1, |limit| {
        let (mut caller, mut side) = mailbox_for_late_values(limit);
        let thread = loom::thread::spawn(move || {
            match side.next(None) {
                Order::Job(job) => drop(job),
                Order::Submitted(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
            }
            callee(side, 1)
        });
        for value in 1..=2 {
            caller.run_job(AddsLate, &mut || value, |_| ());
        }
        drop(caller);
        assert_eq!(thread.join().unwrap(), 2);
    });
}

#[test]
fn a_rejected_job_is_never_run_and_comes_back() {
    model(0, |limit| {
        let (mut caller, mut side) = mailbox::<()>(limit);
        let thread = loom::thread::spawn(move || match side.next(None) {
            Order::Job(job) => drop(job),
            Order::Submitted(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
        });
        let job = |(): &mut (), _: &AssistPoint<'_>| unreachable!("rejected");
        assert!(matches!(caller.run(job, |_| ()), Err(Rejected(_))));
        thread.join().unwrap();
    });
}

/// The callee exits at some moment: before the job is posted, or before it is taken.
fn ends_without_an_answer(limit: SpinLimit) {
    let (mut caller, side) = mailbox::<()>(limit);
    let thread = loom::thread::spawn(move || drop(side));
    for _ in 0..2 {
        let job = |(): &mut (), _: &AssistPoint<'_>| unreachable!("rejected");
        assert!(matches!(caller.run(job, |_| ()), Err(Rejected(_))));
    }
    drop(caller);
    thread.join().unwrap();
}

#[test]
fn a_callee_that_ends_rejects_what_it_has_not_taken_asleep() {
    model(0, ends_without_an_answer);
}

#[test]
fn a_callee_that_ends_rejects_what_it_has_not_taken_spinning() {
    model(1, ends_without_an_answer);
}

#[test]
fn a_callee_that_ends_rejects_a_submitted_job() {
    model(0, |limit| {
        let (caller, side) = mailbox::<()>(limit);
        let thread = loom::thread::spawn(move || drop(side));
        let (send, receive) = loom::sync::mpsc::channel();
        caller.submit(move |argument, caller| {
            assert!(argument.is_none());
            drop(caller);
            send.send(()).unwrap();
        });
        receive.recv().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_callee_whose_wait_times_out_misses_no_order() {
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
        assert!(caller.run(|sum: &mut u32, _: &AssistPoint<'_>| *sum += 1, |_| ()).is_ok());
        drop(caller);
        assert_eq!(thread.join().unwrap(), 1);
    });
}

/// The callee relies on assistance if and only if it is given, and the assistance has ended when the run returns.
fn assists(limit: SpinLimit) {
    let (mut caller, mut side) = mailbox::<()>(limit);
    let thread = loom::thread::spawn(move || match side.next(None) {
        Order::Job(job) => job.run(&mut ()),
        Order::Submitted(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
    });
    let mut assisted = false;
    let job = |(): &mut (), assist_point: &AssistPoint<'_>| assist_point.reached(7);
    assert!(caller.run(job, |thread| assisted = thread == 7).is_ok());
    assert_eq!(thread.join().unwrap(), assisted);
}

#[test]
fn the_callee_relies_on_assistance_if_and_only_if_it_is_given_asleep() {
    model(0, assists);
}

#[test]
fn the_callee_relies_on_assistance_if_and_only_if_it_is_given_spinning() {
    model(1, assists);
}

/// An offer of one job cannot be claimed in the next.
#[test]
fn an_offer_ends_with_its_job() {
    model(1, |limit| {
        let (mut caller, mut side) = mailbox::<()>(limit);
        let thread = loom::thread::spawn(move || {
            for _ in 0..2 {
                match side.next(None) {
                    Order::Job(job) => drop(job.run(&mut ())),
                    Order::Submitted(_) | Order::Disconnected | Order::Timeout => unreachable!("a job comes first"),
                }
            }
        });
        assert!(caller.run(|(): &mut (), assist_point: &AssistPoint<'_>| assist_point.reached(7), |_| ()).is_ok());
        assert!(caller.run(|(): &mut (), _: &AssistPoint<'_>| (), |_| unreachable!("no offer")).is_ok());
        thread.join().unwrap();
    });
}

/// The submitted job holds the caller's side, and passes it to the owner of the next job, as the end of a lease does.
fn submits_then_runs(limit: SpinLimit) {
    let (caller, side) = mailbox(limit);
    let thread = loom::thread::spawn(move || callee(side, 2));
    let (send, receive) = loom::sync::mpsc::channel();
    caller.submit(move |sum: Option<&mut u32>, caller| {
        *sum.expect("it is not rejected") += 1;
        send.send(caller).unwrap();
    });
    let mut caller: Caller<u32> = receive.recv().unwrap();
    // The callee may still be on its way out of the job.
    assert!(caller.run(|sum: &mut u32, _: &AssistPoint<'_>| *sum += 2, |_| ()).is_ok());
    drop(caller);
    assert_eq!(thread.join().unwrap(), 3);
}

#[test]
fn a_submitted_job_is_run_and_passes_the_side_on_asleep() {
    model(0, submits_then_runs);
}

#[test]
fn a_submitted_job_is_run_and_passes_the_side_on_spinning() {
    model(1, submits_then_runs);
}

#[test]
fn a_rejected_submitted_job_is_notified_and_ends_the_callee() {
    model(0, |limit| {
        let (caller, mut side) = mailbox::<()>(limit);
        let thread = loom::thread::spawn(move || {
            match side.next(None) {
                Order::Submitted(job) => drop(job),
                Order::Job(_) | Order::Disconnected | Order::Timeout => unreachable!("a submitted job comes first"),
            }
            assert!(matches!(side.next(None), Order::Disconnected));
        });
        caller.submit(|argument, caller| {
            assert!(argument.is_none());
            drop(caller);
        });
        thread.join().unwrap();
    });
}
