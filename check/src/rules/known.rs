//! What is known of a name, found out once: the programs of one run share most of their functions.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use rustc_hash::FxHashMap;

use crate::program::names;
use crate::rules::sinks::{Contained, Table};

/// What a mangled name means.
pub(crate) struct Known {
    mangled: Arc<str>,
    path: OnceLock<String>,
    identity: OnceLock<Arc<str>>,
    sinks: OnceLock<Vec<usize>>,
    entry: OnceLock<Option<Contained>>,
}

impl Known {
    /// See [`names::path`].
    pub(crate) fn path(&self) -> &str {
        self.path.get_or_init(|| names::path(&self.mangled))
    }

    /// See [`names::identity`].
    pub(crate) fn identity(&self) -> &Arc<str> {
        self.identity.get_or_init(|| names::identity(&self.mangled).into())
    }

    /// The sinks that a function of this name is.
    pub(crate) fn sinks(&self, table: &Table) -> &[usize] {
        self.sinks.get_or_init(|| table.sinks_of(self.path()))
    }

    /// Whether a function of this name takes a body, and then whether it contains what the body spawns.
    pub(crate) fn entry(&self, table: &Table) -> Option<Contained> {
        *self.entry.get_or_init(|| table.entry(self.path()))
    }
}

/// Every name that was asked for.
#[derive(Default)]
pub(crate) struct Names(Mutex<FxHashMap<Arc<str>, Arc<Known>>>);

impl Names {
    /// Finds out the identities of these names, on so many threads.
    pub(crate) fn prepare(&self, mangled: &[&str], threads: usize) -> Vec<Arc<Known>> {
        let new: Vec<&str> = {
            let names = self.names();
            mangled.iter().copied().filter(|mangled| !names.contains_key(*mangled)).collect()
        };
        let chunks = new.chunks(new.len().div_ceil(threads).max(1));
        let identities: Vec<String> = thread::scope(|scope| {
            let identities = |chunk: &[&str]| chunk.iter().map(|mangled| names::identity(mangled)).collect::<Vec<_>>();
            let running: Vec<_> = chunks.map(|chunk| scope.spawn(move || identities(chunk))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        self.names().reserve(new.len());
        for (mangled, identity) in new.into_iter().zip(identities) {
            // Set once: it was not known before.
            let _ = self.get(mangled).identity.set(identity.into());
        }
        mangled.iter().map(|mangled| self.get(mangled)).collect()
    }

    fn names(&self) -> MutexGuard<'_, FxHashMap<Arc<str>, Arc<Known>>> {
        // An entry is complete before it is put in.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, mangled: &str) -> Arc<Known> {
        let mut names = self.names();
        if let Some(known) = names.get(mangled) {
            return Arc::clone(known);
        }
        let mangled: Arc<str> = mangled.into();
        let known = Arc::new(Known {
            mangled: Arc::clone(&mangled),
            path: OnceLock::new(),
            identity: OnceLock::new(),
            sinks: OnceLock::new(),
            entry: OnceLock::new(),
        });
        names.insert(mangled, Arc::clone(&known));
        known
    }
}
