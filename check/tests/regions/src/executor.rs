//! Takes a future, and polls it once.

use std::pin::pin;
use std::task::{Context, Waker};

pub fn run<F: Future>(future: F) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

/// Takes a future, and polls it on another thread.
pub fn run_elsewhere<F: Future + Send + 'static>(future: F) {
    std::thread::spawn(|| pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// Takes a closure, and runs it on another thread.
pub fn elsewhere<F: FnOnce() + Send + 'static>(work: F) {
    let mut work = Some(work);
    std::thread::spawn(move || work.take().map(|work| work()));
}

/// Calls its closure when it is dropped.
pub struct Deferred<F: FnOnce()>(Option<F>);

pub fn defer<F: FnOnce()>(close: F) -> Deferred<F> {
    Deferred(Some(close))
}

impl<F: FnOnce()> Drop for Deferred<F> {
    fn drop(&mut self) {
        if let Some(close) = self.0.take() {
            close();
        }
    }
}
