//! A cache of the meaning of mangled names: the programs of one run share most of their functions, and so do two runs.
//!
//! Names are leaked: the process ends with its only run.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use rustc_hash::FxHashMap;

use crate::program::names;

/// Whether the call has an executor of its own, which ends what the body spawned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contained(pub bool);

/// The meaning of a mangled name.
pub(crate) struct Known {
    mangled: &'static str,
    path: OnceLock<&'static str>,
    identity: OnceLock<&'static str>,
    /// What the table says of this name.
    pub(super) sinks: OnceLock<Vec<usize>>,
    pub(super) entry: OnceLock<Option<Contained>>,
    /// Its meaning was read from the file of an earlier run.
    is_recalled: bool,
    /// This run has a program with this name.
    is_used: AtomicBool,
}

impl Known {
    fn new(mangled: &'static str, is_recalled: bool) -> &'static Known {
        Box::leak(Box::new(Known {
            mangled,
            path: OnceLock::new(),
            identity: OnceLock::new(),
            sinks: OnceLock::new(),
            entry: OnceLock::new(),
            is_recalled,
            is_used: AtomicBool::new(false),
        }))
    }

    /// See [`names::path`].
    pub(crate) fn path(&self) -> &'static str {
        self.path.get_or_init(|| names::path(self.mangled).leak())
    }

    /// See [`names::identity`].
    pub(crate) fn identity(&self) -> &'static str {
        self.identity.get_or_init(|| names::identity(self.mangled).leak())
    }
}

/// Every name that was asked for.
#[derive(Default)]
pub(crate) struct Names(Mutex<FxHashMap<&'static str, &'static Known>>);

impl Names {
    /// Computes the identities of these names, on this number of threads.
    pub(crate) fn prepare(&self, mangled: &[&str], threads: usize) -> Vec<&'static Known> {
        let known: Vec<_> = {
            let mut names = self.names();
            mangled.iter().map(|mangled| get(&mut names, mangled)).collect()
        };
        let new: Vec<_> = known.iter().copied().filter(|known| known.identity.get().is_none()).collect();
        thread::scope(|scope| {
            for chunk in new.chunks(new.len().div_ceil(threads).max(1)) {
                scope.spawn(move || {
                    for known in chunk {
                        known.identity();
                    }
                });
            }
        });
        known
    }

    pub(crate) fn get(&self, mangled: &str) -> &'static Known {
        get(&mut self.names(), mangled)
    }

    fn names(&self) -> MutexGuard<'_, FxHashMap<&'static str, &'static Known>> {
        // An entry is complete before it is inserted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the names of an earlier run of the same check, and completes those whose path is known. A missing file is
    /// ignored.
    pub(crate) fn recall(&self, file: &Path, complete: impl Fn(&Known)) {
        let text = fs::read_to_string(file).unwrap_or_default().leak();
        let Some(lines) = header().and_then(|header| text.strip_prefix(header.as_str())) else { return };
        let mut names = self.names();
        for line in lines.lines() {
            let mut fields = line.split('\t');
            let (Some(mangled), Some(identity), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let known = Known::new(mangled, true);
            let _ = known.identity.set(identity);
            if !path.is_empty() {
                let _ = known.path.set(path);
                complete(known);
            }
            names.insert(mangled, known);
        }
    }

    /// Writes the names of this run for a later one, unless few of them are new. A failure is ignored: it only makes a
    /// later run slower.
    pub(crate) fn remember(&self, file: &Path) {
        let names = self.names();
        let used = || names.values().filter(|known| known.is_used.load(Ordering::Relaxed));
        let found_out = used().filter(|known| !known.is_recalled).count();
        let Some(mut text) = header().filter(|_| found_out * 16 >= used().count()) else { return };
        for known in used() {
            if let Some(identity) = known.identity.get() {
                let path = known.path.get().unwrap_or(&"");
                // Writing to a string does not fail.
                let _ = writeln!(text, "{}\t{identity}\t{path}", known.mangled);
            }
        }
        // Another run may write at the same time.
        let own = file.with_extension(std::process::id().to_string());
        if fs::write(&own, text).and_then(|()| fs::rename(&own, file)).is_err() {
            let _ = fs::remove_file(own);
        }
    }
}

fn get(names: &mut FxHashMap<&'static str, &'static Known>, mangled: &str) -> &'static Known {
    let known = names.get(mangled).copied().unwrap_or_else(|| {
        let known = Known::new(mangled.to_owned().leak(), false);
        names.insert(known.mangled, known);
        known
    });
    known.is_used.store(true, Ordering::Relaxed);
    known
}

/// The first line of the file, which identifies the check that has written it.
fn header() -> Option<String> {
    let check: PathBuf = std::env::current_exe().ok()?;
    let written = fs::metadata(&check).ok()?.modified().ok()?;
    Some(format!("{} {written:?}\n", check.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSURE: &str = "_RNCNvCs1234_1a4main0B3_";
    const FUNCTION: &str = "_RNvCs1234_1a4main";

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("netns-check-known-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_later_run_knows_what_the_names_of_this_one_mean() {
        let file = file("later");
        let names = Names::default();
        let path = names.get(CLOSURE).path();
        names.prepare(&[CLOSURE, FUNCTION], 2);
        names.remember(&file);

        let later = Names::default();
        later.recall(&file, |_| ());
        assert_eq!(later.get(CLOSURE).path.get(), Some(&path));
        assert_eq!(later.get(FUNCTION).path.get(), None);
        for name in [CLOSURE, FUNCTION] {
            assert_eq!(later.get(name).identity.get(), Some(&names.get(name).identity()));
        }
        // Nothing was found out, so the file is as it was.
        fs::remove_file(&file).unwrap();
        later.remember(&file);
        assert!(!file.exists());
    }

    #[test]
    fn names_that_are_gone_are_forgotten() {
        let file = file("gone");
        let names = Names::default();
        names.prepare(&[CLOSURE], 1);
        names.remember(&file);
        let later = Names::default();
        later.recall(&file, |_| ());
        later.prepare(&[FUNCTION], 1);
        later.remember(&file);
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(text.contains(FUNCTION) && !text.contains(CLOSURE), "{text}");
    }

    #[test]
    fn the_file_of_another_check_is_not_read() {
        let file = file("other");
        fs::write(&file, format!("another check\n{CLOSURE}\twrong\twrong\n")).unwrap();
        let names = Names::default();
        names.recall(&file, |_| ());
        fs::remove_file(&file).unwrap();
        assert_eq!(names.get(CLOSURE).identity(), names::identity(CLOSURE));
    }
}
