//! The budget of the caller's tokio task ([`tokio::task::coop`]).

use std::future::{Future, poll_fn};
use std::pin::pin;
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

/// Awaits one operation of tokio, such as a read. It takes a unit, and ends also in an executor inside a task whose
/// budget is used up.
///
/// **Why without tokio's own accounting ([`unconstrained`]):** an operation that finds no budget tells only tokio, when
/// the thread has returned to it. Where operations contain others, the budget does not show that afterwards.
pub(super) async fn with_budget<F: Future>(operation: F) -> F::Output {
    take_unit().await;
    unconstrained(operation).await
}
