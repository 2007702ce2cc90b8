//! What the hand-overs synchronise with. The model check puts loom's types in the place of these.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Arc;
#[cfg(feature = "tokio")]
pub(crate) use std::sync::atomic::AtomicBool;
pub(crate) use std::sync::atomic::{AtomicU32, Ordering};
#[cfg(feature = "tokio")]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::{Thread, current, park, park_timeout};
#[cfg(feature = "tokio")]
pub(crate) use std::time::Instant;

/// `std`'s cell with the face of loom's, which sees each access.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// Tells threads apart that live at the same time.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadKey(usize);

/// The calling thread's key. It can be had in a thread-local's destructor too.
#[cfg(feature = "tokio")]
pub(crate) fn current_thread_key() -> ThreadKey {
    thread_local!(static KEY: u8 = const { 0 });
    KEY.with(|key| ThreadKey(std::ptr::from_ref(key).addr()))
}
