//! Which crates can name the types of which.

use std::collections::{HashMap, HashSet};

use cargo_metadata::{Metadata, Package};

/// The crates of the workspace and its dependencies.
#[derive(Default)]
pub(crate) struct Crates {
    /// The crates that directly depend on each crate.
    dependents: HashMap<String, HashSet<String>>,
}

impl Crates {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mut dependents: HashMap<String, HashSet<String>> = HashMap::new();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let own = crates_of(&metadata[&node.id]);
            for name in &own {
                // Programs and tests of a package depend on its library.
                dependents.entry(name.clone()).or_default().extend(own.iter().cloned());
            }
            for dependency in &node.deps {
                for name in crates_of(&metadata[&dependency.pkg]) {
                    dependents.entry(name).or_default().extend(own.iter().cloned());
                }
            }
        }
        Self { dependents }
    }

    /// From pairs of a crate and a crate that is compiled with it.
    pub(crate) fn of_pairs<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> Self {
        let mut dependents: HashMap<String, HashSet<String>> = HashMap::new();
        for (name, dependent) in pairs {
            dependents.entry(name.to_owned()).or_default().insert(dependent.to_owned());
        }
        Self { dependents }
    }

    /// The crates in which types of these crates can occur. None: any.
    pub(crate) fn that_can_name<'n>(&self, crates: impl Iterator<Item = &'n str>) -> Option<HashSet<&str>> {
        let mut found: HashSet<&str> = HashSet::new();
        let mut waiting: Vec<&str> = crates.collect();
        while let Some(name) = waiting.pop() {
            let (name, dependents) = self.dependents.get_key_value(name)?;
            if found.insert(name) {
                waiting.extend(dependents.iter().map(String::as_str));
            }
        }
        Some(found)
    }
}

/// The names of the crates of a package.
fn crates_of(package: &Package) -> HashSet<String> {
    package.targets.iter().map(|target| target.name.replace('-', "_")).collect()
}
