//! Panics of foreign code (destructors, wakers, subscribers, hooks) on a thread that must go on.

use std::any::Any;
use std::mem;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::process;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs foreign code, and returns what it panicked with.
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Payload> {
    panic::catch_unwind(AssertUnwindSafe(run))
}

/// Runs foreign code. A panic in it goes no further than its message.
pub(crate) fn contain(run: impl FnOnce()) {
    if let Err(payload) = catch(run) {
        discard(payload);
    }
}

/// Drops a payload, whose destructor may panic as well.
pub(crate) fn discard(payload: Payload) {
    if let Err(second) = catch(|| drop(payload)) {
        // A chain of payloads that panic need not end.
        mem::forget(second);
    }
}

/// The first of two panics in a row. Another one is discarded.
#[allow(dead_code, reason = "the feature `tokio` alone has such code")]
pub(crate) fn first(one: Option<Payload>, next: Option<Payload>) -> Option<Payload> {
    let Some(one) = one else { return next };
    next.into_iter().for_each(discard);
    Some(one)
}

/// Aborts the process if a panic would unwind past a live borrow, and is forgotten otherwise. It does not ask whether
/// the thread is panicking: a destructor may make a call while its thread unwinds. No user code runs in its scope.
pub(crate) struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        process::abort();
    }
}

/// A value of foreign code whose destructor must not unwind into its owner.
#[allow(dead_code, reason = "the feature `tracing` alone has such values")]
pub(crate) struct ContainDrop<T>(ManuallyDrop<Option<T>>);

#[allow(dead_code, reason = "the feature `tracing` alone has such values")]
impl<T> ContainDrop<T> {
    pub(crate) fn new(value: T) -> ContainDrop<T> {
        ContainDrop(ManuallyDrop::new(Some(value)))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T> Drop for ContainDrop<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        contain(|| drop(value));
    }
}
