//! A value that any thread can replace, and that child processes inherit.
//!
//! **Promised:** a child process has the value that its parent had when the child was made, however it was made. No
//! lock is taken, so that no process waits for a thread that it does not have.
//!
//! **Why this mechanism:** a lock of `std` that another thread held at the fork stays locked in the child. Here each
//! reader is counted while it clones the value, and a replaced value is freed once there is no reader. In a child that
//! was made while another thread was reading, there always is one: there, replaced values are not freed.
//!
//! **What breaks otherwise:** a child process that sets a hook, or reports to it, waits without end.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;

/// See the [module's documentation](self).
pub(crate) struct Inherited<T> {
    /// Null before the first value.
    current: AtomicPtr<T>,
    readers: AtomicUsize,
}

impl<T> Inherited<T> {
    pub(crate) const fn new() -> Inherited<T> {
        Inherited { current: AtomicPtr::new(ptr::null_mut()), readers: AtomicUsize::new(0) }
    }
}

impl<T: Clone + Send + Sync> Inherited<T> {
    /// The current value, if there is one.
    pub(crate) fn get(&self) -> Option<T> {
        self.readers.fetch_add(1, Ordering::SeqCst);
        let current = self.current.load(Ordering::SeqCst);
        // SAFETY: the pointer is null, or from `Box::into_raw` in `replace`. A value is freed only after it was
        // replaced, and after a moment at which no reader was counted: this one was not there, or was done with it.
        let value = unsafe { current.as_ref() }.cloned();
        self.readers.fetch_sub(1, Ordering::SeqCst);
        value
    }

    /// Replaces the value. The destructor of the earlier one runs here.
    pub(crate) fn replace(&self, value: T) {
        /// More than enough, unless readers follow each other without end.
        const LOOKS: u32 = 100;
        let before = self.current.swap(Box::into_raw(Box::new(value)), Ordering::SeqCst);
        if before.is_null() {
            return;
        }
        for _ in 0..LOOKS {
            if self.readers.load(Ordering::SeqCst) == 0 {
                // SAFETY: it is from `Box::into_raw` above, and was taken out by this call alone. Who reads from now on
                // finds a later value; who read before is done, as no reader is counted.
                drop(unsafe { Box::from_raw(before) });
                return;
            }
            thread::yield_now();
        }
    }
}
