//! Telling somebody: a hook that the user sets, and a line on stderr until then.

use std::fmt::Display;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError, RwLock};

/// What to call when there is a `T` to tell.
pub(crate) struct Hook<T>(RwLock<Option<Told<T>>>);

type Told<T> = Arc<dyn Fn(&T) + Send + Sync>;

impl<T: Display> Hook<T> {
    pub(crate) const fn new() -> Hook<T> {
        Hook(RwLock::new(None))
    }

    pub(crate) fn set(&self, hook: impl Fn(&T) + Send + Sync + 'static) {
        let hook: Told<T> = Arc::new(hook);
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).replace(hook);
        // Its destructor is somebody else's code: not under the lock.
        drop(before);
    }

    pub(crate) fn tell(&self, news: &T) {
        let hook = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        match hook {
            // The call has a value or a panic to deliver, and the hook is not to hide it.
            Some(hook) => drop(panic::catch_unwind(AssertUnwindSafe(|| hook(news)))),
            // Not `eprintln!`, which panics where stderr is closed.
            None => drop(writeln!(io::stderr(), "{news}")),
        }
    }
}
