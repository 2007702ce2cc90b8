//! The budget of the caller's tokio task ([`tokio::task::coop`]).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::task::coop::{consume_budget, has_budget_remaining, unconstrained};

/// A unit of the budget that one operation takes. Where none is left, the operation is pending once, and its task is
/// woken at once.
///
/// **Why not `consume_budget` alone:** tokio wakes the task only when the thread has returned to tokio. An executor
/// that polls inside that task (`futures::executor::block_on`) does not return before the operation is ready.
#[derive(Debug, Default)]
pub(super) struct Unit {
    has_yielded: bool,
}

impl Unit {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if has_budget_remaining() {
            return pin!(consume_budget()).poll(cx);
        }
        if self.has_yielded {
            return Poll::Ready(());
        }
        self.has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Takes a unit. Without it, a task that makes one operation after another, each of which is ready in its first poll,
/// would never yield.
pub(super) async fn take_unit() {
    let mut unit = Unit::default();
    poll_fn(|cx| unit.poll(cx)).await;
}

/// Awaits what takes budget by itself, such as an operation of tokio. It takes as much, and ends also in an executor
/// inside a task whose budget is used up.
///
/// **Why not without the budget ([`unconstrained`]) in any case:** a process that writes without end would keep the
/// task that reads from ever yielding.
pub(super) async fn with_budget<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut turn = Turn::default();
    poll_fn(|cx| turn.poll(cx, future.as_mut())).await
}

/// Whether the last poll of an operation yielded for want of budget.
#[derive(Debug, Default)]
struct Turn {
    has_yielded: bool,
}

impl Turn {
    fn poll<F: Future>(&mut self, cx: &mut Context<'_>, future: Pin<&mut F>) -> Poll<F::Output> {
        if has_budget_remaining() {
            self.has_yielded = false;
            let polled = future.poll(cx);
            if polled.is_ready() || has_budget_remaining() {
                return polled;
            }
            // The rest of the budget was taken, and tokio wakes the task only when the thread has returned to tokio.
        } else if self.has_yielded {
            // The thread has not returned.
            return pin!(unconstrained(future)).poll(cx);
        }
        self.has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
