//! The body of an async call. It is made, polled and dropped in its context, and every panic is caught.
//!
//! **Promised:** a closure, a future and an output may have any size of which the stack holds a few copies.
//!
//! **How:** each is in a place of its own. Without optimisation, each function that a value passes through has copies
//! of it, and the stack of a pinned thread is small. So the closure of a borrowed call is put into a box where the call
//! is made, and that of a started one if it is large; and an output goes into a box in the function that polls.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{self, Poll};
use std::thread;

use crate::call::context::Context;
use crate::unwind::{catch, contain, discard};

/// A body on its thread.
pub(super) struct Body<F, Fut> {
    context: Context,
    stage: Stage<F, Fut>,
}

enum Stage<F, Fut> {
    /// A small value: see the [module's documentation](self).
    Make(F),
    Made(Pin<Box<Fut>>),
    /// It has ended, or it is being made.
    Empty,
}

impl<F, Fut, R> Body<F, Fut>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    pub(super) fn new(context: Context, make: F) -> Body<F, Fut> {
        Body { context, stage: Stage::Make(make) }
    }

    /// Makes and polls the body, and returns its value or its panic. A panic of the body's destructor counts as the
    /// body's. It must not be called again once it was ready.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<thread::Result<Box<R>>> {
        let Body { context, stage } = self;
        if let Stage::Make(_) = stage {
            let Stage::Make(make) = mem::replace(stage, Stage::Empty) else { unreachable!("it was seen above") };
            match catch(|| context.within(|| Box::pin(make()))) {
                Ok(body) => *stage = Stage::Made(body),
                Err(payload) => return Poll::Ready(Err(payload)),
            }
        }
        let Stage::Made(body) = stage else { unreachable!("a body that has ended is not polled") };
        let value = match catch(|| context.within(|| body.as_mut().poll(cx).map(Box::new))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(payload) => Err(payload),
        };
        let dropped = catch(|| context.within(|| *stage = Stage::Empty));
        // The first panic is returned. Dropping the other value or payload may panic again.
        Poll::Ready(match (value, dropped) {
            (Ok(value), Ok(())) => Ok(value),
            (Ok(value), Err(payload)) => {
                contain(|| drop(value));
                Err(payload)
            }
            (Err(payload), dropped) => {
                dropped.err().into_iter().for_each(discard);
                Err(payload)
            }
        })
    }
}
