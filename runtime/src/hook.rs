//! Hooks: what the user has called for an event. Until one is set, the event is a line on stderr; with feature
//! `tracing` it is an event of `tracing` besides.
//!
//! **Promised:** a hook runs on a thread that is fit for user code: that of a caller, or one at home that does nothing
//! else ([`run_detached`](crate::thread::run_detached)). It runs under no lock, and a panic in it goes no further than
//! its message. A child process inherits the hook.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use crate::sys::inherited::Inherited;
use crate::unwind::contain;

/// What a hook is called for.
pub(crate) trait Event: Display {
    /// Emits it as an event of `tracing`.
    #[cfg(feature = "tracing")]
    fn emit(&self);
}

/// What to call for a `T`.
pub(crate) struct Hook<T>(Inherited<Callback<T>>);

type Callback<T> = Arc<dyn Fn(&T) + Send + Sync>;

impl<T: Event> Hook<T> {
    pub(crate) const fn new() -> Hook<T> {
        Hook(Inherited::new())
    }

    pub(crate) fn set(&self, hook: impl Fn(&T) + Send + Sync + 'static) {
        self.0.replace(Arc::new(hook));
    }

    pub(crate) fn notify(&self, event: &T) {
        let hook = self.0.get();
        // The call has a value or a panic to return, and neither a subscriber nor the hook may replace it.
        #[cfg(feature = "tracing")]
        contain(|| event.emit());
        match hook {
            // Dropped within: it may be the last of a hook that was replaced meanwhile.
            Some(hook) => contain(move || hook(event)),
            // Not `eprintln!`, which panics where stderr is closed.
            None => drop(writeln!(io::stderr(), "{event}")),
        }
    }
}
