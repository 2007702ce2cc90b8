//! The body of an async call. It is made, polled and dropped in its context, and every panic is caught.
//!
//! **Promised:** a closure, a future and an output may have any size of which the stack holds a few copies.
//!
//! **How:** each is in a place of its own. Without optimisation, each function that a value passes through has copies
//! of it, and the stack of a pinned thread is small. So the closure of a borrowed call is put into a box where the call
//! is made, and that of a started one if it is large; and an output goes into a box in the function that polls.

use std::future::Future;
use std::panic;
use std::pin::Pin;
use std::task::{self, Poll};
use std::thread;

use crate::call::context::Context;
use crate::unwind::{Payload, contain, discard, first};

/// A body on its thread.
pub(super) struct Body<F, Fut: Future> {
    context: Context,
    parts: Parts<F, Fut>,
}

/// Each part is in a place of its own.
struct Parts<F, Fut: Future> {
    /// A small value: see the [module's documentation](self). `None` once it was called.
    make: Option<F>,
    future: Option<Pin<Box<Fut>>>,
    value: Option<Box<Fut::Output>>,
}

/// The steps of a body. Each runs code of the user, and may panic.
trait Steps {
    /// Makes the future, where it is not made.
    fn make(&mut self);
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()>;
    fn drop_future(&mut self);
    fn drop_value(&mut self);
}

impl<F, Fut> Steps for Parts<F, Fut>
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    fn make(&mut self) {
        if let Some(make) = self.make.take() {
            self.future = Some(Box::pin(make()));
        }
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { unreachable!("a body that has ended is not polled") };
        future.as_mut().poll(cx).map(|value| self.value = Some(Box::new(value)))
    }

    fn drop_future(&mut self) {
        self.future = None;
    }

    fn drop_value(&mut self) {
        self.value = None;
    }
}

impl<F, Fut, R> Body<F, Fut>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    pub(super) fn new(context: Context, make: F) -> Body<F, Fut> {
        Body { context, parts: Parts { make: Some(make), future: None, value: None } }
    }

    /// Makes and polls the body, and returns its value or its panic. A panic of the body's destructor counts as the
    /// body's. It must not be called again once it was ready.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<thread::Result<Box<R>>> {
        let Body { context, parts } = self;
        if parts.make.is_some() {
            if let Err(payload) = make(context, parts) {
                return Poll::Ready(Err(payload));
            }
        }
        poll(context, parts, cx).map(|ended| {
            ended.map(|()| parts.value.take().unwrap_or_else(|| unreachable!("a future that has ended has a value")))
        })
    }
}

impl<F, Fut: Future> Body<F, Fut> {
    /// Drops what is left, in the context: the body was cancelled.
    pub(super) fn clear(&mut self) {
        let Body { context, parts: Parts { make, future, value } } = self;
        if make.is_none() && future.is_none() && value.is_none() {
            return;
        }
        let left = (make, future, value);
        let dropped = context.run(&mut || (*left.0, *left.1, *left.2) = (None, None, None));
        if let Err(payload) = dropped {
            if thread::panicking() { discard(payload) } else { panic::resume_unwind(payload) }
        }
    }

    /// Runs what belongs to the body in its context.
    pub(super) fn within(&self, run: impl FnOnce()) {
        self.context.within(run);
    }
}

impl<F, Fut: Future> Drop for Body<F, Fut> {
    fn drop(&mut self) {
        self.clear();
    }
}

// These two are not generic, so that their code is not compiled again for each body.

fn make(context: &Context, steps: &mut dyn Steps) -> Result<(), Payload> {
    let made = context.run(&mut || steps.make());
    if made.is_err() {
        contain(|| steps.drop_future());
    }
    made
}

fn poll(context: &Context, steps: &mut dyn Steps, cx: &mut task::Context<'_>) -> Poll<Result<(), Payload>> {
    let mut polled = Poll::Pending;
    let run = context.run(&mut || polled = steps.poll(cx));
    if run.is_ok() && polled.is_pending() {
        return Poll::Pending;
    }
    let dropped = context.run(&mut || steps.drop_future());
    // Dropping the value or the second payload may panic again.
    let thrown = first(run.err(), dropped.err());
    if thrown.is_some() {
        contain(|| steps.drop_value());
    }
    Poll::Ready(thrown.map_or(Ok(()), Err))
}
