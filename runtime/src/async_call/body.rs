//! The body of an async call: made, polled and dropped in its context, with every panic caught.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::thread;

use crate::call::context::Context;
use crate::unwind::{catch, contain, discard};

/// Makes and polls a body, and returns its value or its panic. A panic of the body's destructor is the body's, too.
pub(super) async fn catch_panics<F, Fut, R>(context: Context, body: F) -> thread::Result<R>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = R>,
{
    // In a place of its own, since it may be large: without optimisation, each function that a future passes through
    // has copies of it, and the stack of a pinned thread is small.
    let mut body = Some(catch(|| context.within(|| Box::pin(body())))?);
    let value = poll_fn(|cx| {
        let poll = || match &mut body {
            Some(body) => context.within(|| body.as_mut().poll(cx)),
            None => unreachable!("the body is there until it is ready"),
        };
        match catch(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await;
    let dropped = catch(|| context.within(|| body = None));
    // The first panic is returned. What is not returned has a destructor of its own.
    match (value, dropped) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(value), Err(payload)) => {
            contain(|| drop(value));
            Err(payload)
        }
        (Err(payload), dropped) => {
            dropped.err().into_iter().for_each(discard);
            Err(payload)
        }
    }
}
