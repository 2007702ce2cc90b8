//! Telling somebody: a hook that the user sets, and a line on stderr until then; with feature `tracing`, an event as well.

use std::fmt::Display;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError, RwLock};

/// What there may be to tell.
pub(crate) trait Event: Display {
    /// For whoever follows events.
    #[cfg(feature = "tracing")]
    fn emit(&self);
}

/// What to call when there is a `T` to tell.
pub(crate) struct Hook<T>(RwLock<Option<Callback<T>>>);

type Callback<T> = Arc<dyn Fn(&T) + Send + Sync>;

impl<T: Event> Hook<T> {
    pub(crate) const fn new() -> Hook<T> {
        Hook(RwLock::new(None))
    }

    pub(crate) fn set(&self, hook: impl Fn(&T) + Send + Sync + 'static) {
        let hook: Callback<T> = Arc::new(hook);
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).replace(hook);
        // Its destructor is somebody else's code: not under the lock.
        drop(before);
    }

    pub(crate) fn notify(&self, event: &T) {
        let hook = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        // The call has a value or a panic to deliver, and neither a subscriber nor the hook is to hide it.
        #[cfg(feature = "tracing")]
        contain_panics(|| event.emit());
        match hook {
            Some(hook) => contain_panics(|| hook(event)),
            // Not `eprintln!`, which panics where stderr is closed.
            None => drop(writeln!(io::stderr(), "{event}")),
        }
    }
}

/// Runs user code whose panic goes no further than its message.
pub(crate) fn contain_panics(code: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(code)) {
        // The payload's destructor is user code too. What that throws is leaked: it might go on so for ever.
        if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }
}
