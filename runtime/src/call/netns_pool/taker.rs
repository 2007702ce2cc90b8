//! A caller that waits for a namespace: a thread, or a future.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};
use std::time::Instant;

use crate::error::Error;
use crate::netns::NetNs;
use crate::unwind::contain;

/// See the [module's documentation](self).
pub(super) struct Taker {
    seat: Mutex<Seat>,
    /// A thread waits for it, and a future for its waker. (Not `thread::park`: the caller's park token is the user's.)
    filled: Condvar,
    /// The deadline of a future. A thread checks its own.
    pub(super) deadline: Option<Instant>,
}

enum Seat {
    Waiting(Option<Waker>),
    Filled(Result<NetNs, Error>),
    /// The caller has what it came for, or has left.
    Left,
}

impl Taker {
    pub(super) fn new(deadline: Option<Instant>) -> Taker {
        Taker { seat: Mutex::new(Seat::Waiting(None)), filled: Condvar::new(), deadline }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what the caller waits for. It comes back where the caller has left.
    pub(super) fn fill(&self, item: Result<NetNs, Error>) -> Result<(), Result<NetNs, Error>> {
        let mut seat = self.seat();
        let Seat::Waiting(waker) = &mut *seat else { return Err(item) };
        let waker = waker.take();
        *seat = Seat::Filled(item);
        drop(seat);
        self.filled.notify_one();
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
        Ok(())
    }

    /// Leaves, with what was given meanwhile.
    pub(super) fn leave(&self) -> Option<Result<NetNs, Error>> {
        let left = std::mem::replace(&mut *self.seat(), Seat::Left);
        match left {
            Seat::Filled(item) => Some(item),
            // The waker is dropped here, after the lock.
            Seat::Waiting(_) | Seat::Left => None,
        }
    }

    /// Waits on the calling thread, until the deadline. Without what it came for, the caller has left then.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<Result<NetNs, Error>> {
        let mut seat = self.seat();
        while matches!(*seat, Seat::Waiting(_)) {
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            seat = match rest {
                Some(rest) if rest.is_zero() => break,
                Some(rest) => self.filled.wait_timeout(seat, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.filled.wait(seat).unwrap_or_else(PoisonError::into_inner),
            };
        }
        drop(seat);
        self.leave()
    }

    /// Waits in a future.
    #[cfg(feature = "tokio")]
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Result<NetNs, Error>> {
        // The clone and the drop of a waker are the executor's code, which may come back here.
        let new = context.waker().clone();
        let mut seat = self.seat();
        let (poll, old) = match &mut *seat {
            Seat::Waiting(waker) => (Poll::Pending, waker.replace(new)),
            filled => match std::mem::replace(filled, Seat::Left) {
                Seat::Filled(item) => (Poll::Ready(item), Some(new)),
                Seat::Waiting(_) | Seat::Left => unreachable!("a future that is ready is not polled again"),
            },
        };
        drop(seat);
        drop(old);
        poll
    }
}
