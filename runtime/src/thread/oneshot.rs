//! A channel for one value. Not `std::sync::mpsc`, whose receiver parks: the caller's thread belongs to the user, whose
//! executor may rely on its park token.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Empty,
    Sent(T),
    /// The sender is gone.
    Disconnected,
}

/// Sends the value.
pub(super) struct Sender<T>(Arc<Slot<T>>);

/// Waits for the value.
pub(super) struct Receiver<T>(Arc<Slot<T>>);

/// Makes a channel.
pub(super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Empty), changed: Condvar::new() });
    (Sender(Arc::clone(&slot)), Receiver(slot))
}

impl<T> Sender<T> {
    pub(super) fn send(self, value: T) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Sent(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Empty) {
            *state = State::Disconnected;
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The value, or `None` where the sender was dropped.
    pub(super) fn receive(self) -> Option<T> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |state: &mut State<T>| matches!(state, State::Empty);
        let mut state = self.0.changed.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Disconnected) {
            State::Sent(value) => Some(value),
            State::Empty | State::Disconnected => None,
        }
    }
}
