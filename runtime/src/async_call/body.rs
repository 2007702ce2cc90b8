//! The body of an async call. It is made, polled and dropped in its context, and every panic is caught.
//!
//! **Promised:** a closure, a future and an output may have any size of which the stack holds a few copies.
//!
//! **How:** each is in a place of its own. Without optimisation, each function that a value passes through has copies
//! of it, and the stack of a pinned thread is small. So the closure is put into a box where the call is made, and the
//! output goes into a box in the function that polls.
//!
//! **Why a body has no type parameters:** what makes a call is compiled once, and not for each body.

use std::future::Future;
use std::mem;
use std::panic::{self, RefUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::thread;

use crate::call::context::Context;
use crate::unwind::{Payload, contain, discard, first};

/// A body on its thread.
pub(super) struct Body<'b> {
    context: Context,
    stage: Stage,
    steps: Box<dyn Steps + 'b>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The future is not made.
    Given,
    Made,
    /// The closure and the future are gone.
    Over,
}

/// A body that is not on its thread yet.
///
/// It is in a lock, which makes the future of a call [`Sync`].
pub(crate) struct GivenBody<'b>(Mutex<Box<Give<'b>>>);

type Give<'b> = dyn FnOnce(Context) -> Body<'b> + Send + 'b;

impl<'b> GivenBody<'b> {
    /// Takes the closure that makes the future. The value of the future will be in the place that is returned.
    pub(crate) fn new<F, Fut, R>(make: Box<F>) -> (GivenBody<'b>, Arc<Value<R>>)
    where
        F: FnOnce() -> Fut + Send + 'b,
        Fut: Future<Output = R> + 'b,
        R: Send + 'b,
    {
        let value = Arc::new(Value(Mutex::new(None)));
        let parts_value = Arc::clone(&value);
        let given = move |context| {
            let parts = Parts { make: Some(make), future: None, value: parts_value };
            Body { context, stage: Stage::Given, steps: Box::new(parts) }
        };
        (GivenBody(Mutex::new(Box::new(given))), value)
    }

    /// To be called on the body's thread.
    pub(super) fn into_body(self, context: Context) -> Body<'b> {
        let GivenBody(give) = self;
        give.into_inner().unwrap_or_else(PoisonError::into_inner)(context)
    }
}

/// The place of the value of a body.
pub(crate) struct Value<R>(Mutex<Option<Box<R>>>);

impl<R> Value<R> {
    /// The value of a body that has ended without a panic. To be called once.
    pub(crate) fn take(&self) -> R {
        match self.replace(None) {
            Some(value) => *value,
            None => unreachable!("a body that has ended has a value"),
        }
    }

    fn replace(&self, value: Option<Box<R>>) -> Option<Box<R>> {
        mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), value)
    }
}

/// A [`Value`] of any type.
pub(crate) trait AnyValue: Send + Sync + RefUnwindSafe {
    /// Drops the value, if there is one. Its destructor is foreign code.
    fn discard(&self);
}

impl<R: Send> AnyValue for Value<R> {
    fn discard(&self) {
        drop(self.replace(None));
    }
}

/// Each part is in a place of its own.
struct Parts<F, Fut, R> {
    /// `None` once it was called.
    make: Option<Box<F>>,
    future: Option<Pin<Box<Fut>>>,
    value: Arc<Value<R>>,
}

/// The steps of a body. Each runs code of the user, and may panic.
trait Steps {
    /// Makes the future, where it is not made.
    fn make(&mut self);
    /// Polls the future. When that is ready, its value is in its place.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()>;
    /// Drops the closure and the future.
    fn drop_body(&mut self);
    fn drop_value(&mut self);
}

impl<F, Fut, R> Steps for Parts<F, Fut, R>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
    R: Send,
{
    fn make(&mut self) {
        if let Some(make) = self.make.take() {
            self.future = Some(Box::pin(make()));
        }
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { unreachable!("a body that has ended is not polled") };
        future.as_mut().poll(cx).map(|value| drop(self.value.replace(Some(Box::new(value)))))
    }

    fn drop_body(&mut self) {
        (self.make, self.future) = (None, None);
    }

    fn drop_value(&mut self) {
        self.value.discard();
    }
}

impl Body<'_> {
    /// Makes and polls the body, and returns whether it ended with a panic. A panic of the body's destructor counts as
    /// the body's. It must not be called again once it was ready.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Payload>> {
        let Body { context, stage, steps } = self;
        if *stage == Stage::Given {
            *stage = Stage::Made;
            if let Err(payload) = context.run(&mut || steps.make()) {
                *stage = Stage::Over;
                contain(|| steps.drop_body());
                return Poll::Ready(Err(payload));
            }
        }
        let mut polled = Poll::Pending;
        let run = context.run(&mut || polled = steps.poll(cx));
        if run.is_ok() && polled.is_pending() {
            return Poll::Pending;
        }
        *stage = Stage::Over;
        let dropped = context.run(&mut || steps.drop_body());
        // Dropping the value or the second payload may panic again.
        let thrown = first(run.err(), dropped.err());
        if thrown.is_some() {
            contain(|| steps.drop_value());
        }
        Poll::Ready(thrown.map_or(Ok(()), Err))
    }

    /// Drops what is left, in the context: the body was cancelled. The value of one that has ended stays.
    pub(super) fn clear(&mut self) {
        let Body { context, stage, steps } = self;
        if mem::replace(stage, Stage::Over) == Stage::Over {
            return;
        }
        if let Err(payload) = context.run(&mut || steps.drop_body()) {
            if thread::panicking() { discard(payload) } else { panic::resume_unwind(payload) }
        }
    }

    /// Runs what belongs to the body in its context.
    pub(super) fn within(&self, run: impl FnOnce()) {
        self.context.within(run);
    }
}

/// The future of the body. A panic is resumed.
impl Future for Body<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        Body::poll(&mut self, cx).map(|ended| ended.unwrap_or_else(|payload| panic::resume_unwind(payload)))
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}
