//! The slot of a namespace below the bound of its pool, from its making until its last handle is dropped.

use std::fs::File;
use std::sync::{Arc, Weak};

use super::Shared;
use crate::netns::Companion;
use crate::thread::Pool;

/// Kept by the handles of a namespace.
pub(super) struct Slot {
    process: &'static Pool,
    shared: Weak<Shared>,
    /// By which the maker finds out when the namespace is gone.
    sentinel: Option<File>,
}

impl Slot {
    pub(super) fn new(shared: &Arc<Shared>, sentinel: Option<File>) -> Slot {
        Slot { process: shared.process, shared: Arc::downgrade(shared), sentinel }
    }
}

impl Companion for Slot {}

impl Drop for Slot {
    fn drop(&mut self) {
        // In a forked process there is no maker, and the lock may be held forever.
        if !self.process.is_of_this_process() {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let mut state = shared.lock();
        state.held -= 1;
        state.released.push(self.sentinel.take());
        shared.tell_maker(&mut state);
    }
}
