//! What belongs to the caller's thread, and is current in the body all the same, though that runs on another.
//!
//! With feature `tracing` the dispatcher and the span. With feature `tokio` the handle of the caller's runtime, in synchronous
//! bodies: an async body is in a runtime of its own.

#[cfg(feature = "tracing")]
use crate::unwind::ContainDrop;

/// Taken on the caller's thread, made current on the body's.
pub(crate) struct Context {
    /// Dropping it runs the subscriber, which must not keep a value or a panic from its caller.
    #[cfg(feature = "tracing")]
    tracing: Option<ContainDrop<(tracing::Dispatch, tracing::Span)>>,
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Handle>,
}

impl Context {
    /// For a synchronous body.
    pub(crate) fn of_caller() -> Context {
        Context {
            // Free where the program has no subscriber.
            #[cfg(feature = "tracing")]
            tracing: tracing::dispatcher::has_been_set()
                .then(|| (tracing::dispatcher::get_default(Clone::clone), tracing::Span::current()))
                .map(ContainDrop::new),
            #[cfg(feature = "tokio")]
            runtime: tokio::runtime::Handle::try_current().ok(),
        }
    }

    /// For an async body.
    #[cfg(feature = "tokio")]
    pub(crate) fn of_async_caller() -> Context {
        let mut context = Context::of_caller();
        context.runtime = None;
        context
    }

    /// Runs the body, or one poll of it, with all of that current.
    #[cfg_attr(not(any(feature = "tokio", feature = "tracing")), allow(clippy::unused_self))]
    pub(crate) fn within<R>(&self, body: impl FnOnce() -> R) -> R {
        #[cfg(feature = "tokio")]
        let _current = self.runtime.as_ref().map(tokio::runtime::Handle::enter);
        #[cfg(feature = "tracing")]
        if let Some((dispatch, span)) = self.tracing.as_ref().and_then(ContainDrop::get) {
            return tracing::dispatcher::with_default(dispatch, || span.in_scope(body));
        }
        body()
    }
}
