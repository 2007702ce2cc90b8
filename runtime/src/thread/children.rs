//! The processes that a pinned thread has started: it does not expire while one of them runs.
//!
//! **Why:** the kernel sends the parent-death signal (`PR_SET_PDEATHSIG(2const)`) when the parent *thread* exits, not
//! when the process does. moby #44215 lost containers that way.
//!
//! **Why not a descriptor for each:** `waitid(2)` tells by the number, and without consuming the end of the process,
//! which is its owner's to wait for. The number cannot be mistaken: `__WNOTHREAD` finds children of this very thread.

use crate::sys;

/// Below this many, none is looked at.
const FEW: usize = 16;

/// Children of the calling thread.
#[derive(Debug, Default)]
pub(super) struct Children {
    started: Vec<u32>,
    /// The length at which those that have ended are taken out.
    full: usize,
}

impl Children {
    /// Adds a process that the calling thread has started.
    pub(super) fn add(&mut self, process: u32) {
        if self.started.len() >= self.full.max(FEW) {
            self.take_out_ended();
            // So that each one is looked at a bounded number of times.
            self.full = 2 * self.started.len();
        }
        self.started.push(process);
    }

    pub(super) fn is_any_running(&mut self) -> bool {
        self.take_out_ended();
        !self.started.is_empty()
    }

    /// Those that run, where none was added: such as bodies have started, and the kernel lists.
    pub(super) fn running(&mut self) -> Children {
        let known = if self.is_any_running() { self.started.clone() } else { sys::children::of_current_thread() };
        let mut children = Children { started: known, full: 0 };
        children.take_out_ended();
        children
    }

    pub(super) fn is_empty(&self) -> bool {
        self.started.is_empty()
    }

    /// Returns when all have ended.
    pub(super) fn wait_for_end(self) {
        self.started.into_iter().for_each(sys::children::wait_for_end_of_child);
    }

    fn take_out_ended(&mut self) {
        self.started.retain(|process| sys::children::is_running_child(*process));
    }
}
