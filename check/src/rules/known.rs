//! What is known of a name, found out once: the programs of one run share most of their functions.

use std::cell::{OnceCell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::thread;

use rustc_hash::FxHashMap;

use crate::program::{names, processors};
use crate::rules::sinks::{Contained, Table};

/// What a mangled name means.
pub(crate) struct Known {
    mangled: Rc<str>,
    path: OnceCell<String>,
    identity: OnceCell<Rc<str>>,
    sinks: OnceCell<Vec<usize>>,
    entry: OnceCell<Option<Contained>>,
}

impl Known {
    /// See [`names::path`].
    pub(crate) fn path(&self) -> &str {
        self.path.get_or_init(|| names::path(&self.mangled))
    }

    /// See [`names::identity`].
    pub(crate) fn identity(&self) -> &Rc<str> {
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
pub(crate) struct Names(RefCell<FxHashMap<Rc<str>, Rc<Known>>>);

impl Names {
    /// Finds out the identities of these names, on all processors.
    pub(crate) fn prepare(&self, mangled: &[&str]) -> Vec<Rc<Known>> {
        let new: Vec<&str> = {
            let names = self.0.borrow();
            mangled.iter().copied().filter(|mangled| !names.contains_key(*mangled)).collect()
        };
        let chunks = new.chunks(new.len().div_ceil(processors()).max(1));
        let identities: Vec<String> = thread::scope(|scope| {
            let identities = |chunk: &[&str]| chunk.iter().map(|mangled| names::identity(mangled)).collect::<Vec<_>>();
            let running: Vec<_> = chunks.map(|chunk| scope.spawn(move || identities(chunk))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        self.0.borrow_mut().reserve(new.len());
        for (mangled, identity) in new.into_iter().zip(identities) {
            // Set once: it was not known before.
            let _ = self.get(mangled).identity.set(identity.into());
        }
        mangled.iter().map(|mangled| self.get(mangled)).collect()
    }

    pub(crate) fn get(&self, mangled: &str) -> Rc<Known> {
        let mut names = self.0.borrow_mut();
        if let Some(known) = names.get(mangled) {
            return Rc::clone(known);
        }
        let mangled: Rc<str> = mangled.into();
        let known = Rc::new(Known {
            mangled: Rc::clone(&mangled),
            path: OnceCell::new(),
            identity: OnceCell::new(),
            sinks: OnceCell::new(),
            entry: OnceCell::new(),
        });
        names.insert(mangled, Rc::clone(&known));
        known
    }
}
