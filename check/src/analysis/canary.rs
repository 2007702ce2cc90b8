//! The canaries: one function for each kind of call that the table knows, compiled against the libraries of the
//! program. If the search does not find the call in one of them, it would not have found it in a body either, so no
//! verdict is given. The same holds for the calls that take a body: a body that is not found is never searched.
//!
//! A build of the canaries takes seconds. It is not repeated if the libraries, the table, the compiler and the check
//! itself are the same as in an earlier run that found them: a stamp in the build directory says so.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::analysis::functions::Functions;
use crate::analysis::root::{Origin, Root};
use crate::analysis::roots::{self, Wanted};
use crate::analysis::search::{Context, Limits, search};
use crate::build::{self, Built, Library};
use crate::program::crates::Crates;
use crate::program::debug::Debug;
use crate::program::graph::Graph;
use crate::program::image::Program;
use crate::program::names;
use crate::program::split::Split;
use crate::rules::known::Contained;
use crate::rules::sinks::{Canary, Table};

/// The beginning of the name of a folder of canaries. The process id follows.
const FOLDER: &str = "canaries-";

const NAME: &str = "__netns_check_canary_";

/// One canary and the library that it is made with.
struct Paired<'a> {
    canary: &'a Canary,
    library: Option<(usize, &'a Library)>,
}

/// Builds the canaries and looks for the call in each of them. Returns how many there are.
pub(crate) fn check(table: &Table, built: &Built) -> Result<usize> {
    let pairs = pair(table, &built.libraries)?;
    let stamp = built.directory.join("canaries");
    // Without a fingerprint they are always built.
    let current = fingerprint(table, built).ok().map(|fingerprint| format!("{fingerprint:016x}\n"));
    if current.is_some() && fs::read_to_string(&stamp).ok() == current {
        return Ok(pairs.len());
    }
    // The folder belongs to this run, because another may run at the same time.
    remove_left(&built.directory);
    let folder = built.directory.join(format!("{FOLDER}{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create the folder {}", folder.display()))?;
    let found = look(table, built, &pairs, &folder.join("canaries.rs"));
    fs::remove_dir_all(&folder).with_context(|| format!("remove the folder {}", folder.display()))?;
    if let (Ok(_), Some(current)) = (&found, current) {
        fs::write(&stamp, current).with_context(|| format!("write {}", stamp.display()))?;
    }
    found
}

/// Removes the folders of processes that were ended while they looked for canaries.
fn remove_left(directory: &Path) {
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = file.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // A failure is ignored: the folder does not disturb this run.
            let _ = fs::remove_dir_all(file.path());
        }
    }
}

/// A hash of everything that decides whether the canaries are found.
fn fingerprint(table: &Table, built: &Built) -> Result<u64> {
    // Cargo reports them in any order.
    let mut libraries: Vec<_> = built.libraries.iter().collect();
    libraries.sort_by_key(|library| &library.rlib);
    let mut hasher = DefaultHasher::new();
    // The file of the check contains the built-in table.
    let check = std::env::current_exe()?;
    for file in std::iter::once(&check).chain(libraries.iter().map(|library| &library.rlib)) {
        let metadata = fs::metadata(file)?;
        (file, metadata.len(), metadata.modified()?).hash(&mut hasher);
    }
    for library in libraries {
        (&library.package, library.version.to_string(), &library.features).hash(&mut hasher);
    }
    // In this file Cargo records the compiler.
    fs::read(built.directory.join(".rustc_info.json"))?.hash(&mut hasher);
    (table.additions(), &built.search, &built.target, std::env::var_os("RUSTC")).hash(&mut hasher);
    Ok(hasher.finish())
}

fn look(table: &Table, built: &Built, pairs: &[Paired<'_>], source: &Path) -> Result<usize> {
    fs::write(source, write(pairs)).with_context(|| format!("write {}", source.display()))?;
    let externs: BTreeSet<_> = pairs
        .iter()
        .filter_map(|paired| paired.library)
        .map(|(number, library)| (format!("canary_library_{number}"), library.rlib.clone()))
        .collect();
    let externs: Vec<_> = externs.into_iter().collect();
    let path = build::compile(source, &externs, built).context(
        "build the canaries: a library that the table of sinks knows has changed, so that nothing can be said about \
         calls of it. Add canaries for its new version in a table of your own (--sinks), or report this",
    )?;
    let program = Program::read(&path)?;
    let image = program.image()?;
    let graph = Graph::new(&image);
    let functions = Functions::new(&graph, table);
    let (split, crates) = (Split::of(&image, &built.folders)?, Crates::default());
    let mut debug = Debug::new(&image, &split, &crates)?;
    let context = Context::new(&graph, &functions, table, &debug);
    let wanted = Wanted { roots: Vec::new(), closures: Vec::new(), regions: false };
    let bodies = roots::find(&graph, &functions, table, &debug, &wanted).roots;
    let mut found = 0;
    for function in image.functions() {
        let name = image.name(function);
        if !name.contains(NAME) {
            continue;
        }
        let path = names::path(name);
        let Some(number) = path.rsplit_once(NAME).and_then(|(_, number)| number.parse::<usize>().ok()) else {
            continue;
        };
        let Some(paired) = pairs.get(number) else {
            continue;
        };
        let within = format!("{path}::");
        let itself = Root::of(&path, vec![function], Contained(false), Origin::Root);
        let root = if paired.canary.body {
            bodies.iter().find(|body| body.name.starts_with(&within)).ok_or_else(|| overlooked(paired))?
        } else {
            &itself
        };
        let reached =
            search(&context, root, &Limits { stops: false, closed: &[], inside: root.contained.0, boxed: true });
        if !reached.hits.iter().any(|(sink, _)| table.sink(*sink).id == paired.canary.sink) {
            return Err(missed(paired));
        }
        found += 1;
    }
    debug.finish()?;
    if found != pairs.len() {
        bail!("{} canaries were built, and {found} are in {}", pairs.len(), program.path.display());
    }
    Ok(found)
}

impl Paired<'_> {
    fn library(&self) -> String {
        let named = |(_, library): (usize, &Library)| format!("{} {}", library.package, library.version);
        self.library.map_or_else(|| "the standard library".to_owned(), named)
    }
}

fn overlooked(paired: &Paired<'_>) -> anyhow::Error {
    anyhow::anyhow!(
        "the body of `{}`, built with {}, was not found. The table does not know that call any more, and bodies like \
         it would go unchecked: this check is another version than the library, or the table of \
         entries is wrong",
        paired.canary.code,
        paired.library(),
    )
}

fn missed(paired: &Paired<'_>) -> anyhow::Error {
    let library = paired.library();
    anyhow::anyhow!(
        "the canary of `{}` was missed: `{}`, built with {library}, does not lead to that sink. The table does not \
         know the call any more, and no body's verdict can be trusted. If a table of your own removes the sink, put it \
         back and allow bodies instead; else the names in {library} have changed: add them in a table of your own \
         (--sinks, --print-sinks), or report this",
        paired.canary.sink,
        paired.canary.code,
    )
}

/// Pairs every canary with every copy of its library that the programs are built with.
fn pair<'a>(table: &'a Table, libraries: &'a [Library]) -> Result<Vec<Paired<'a>>> {
    let mut pairs = Vec::new();
    for canary in table.canaries() {
        let Some(package) = &canary.library else {
            pairs.push(Paired { canary, library: None });
            continue;
        };
        for (number, library) in libraries.iter().enumerate().filter(|(_, library)| library.package == *package) {
            let fits = |canary: &Canary| {
                canary.library.as_ref() == Some(package)
                    && canary.versions.as_ref().is_none_or(|versions| versions.matches(&library.version))
            };
            if !table.canaries().iter().any(fits) {
                bail!(
                    "the table of sinks knows {package}, but not its version {}: what a body reaches in it cannot be \
                     judged. Add a canary for that version in a table of your own (--sinks, --print-sinks)",
                    library.version
                );
            }
            if fits(canary) && canary.features.iter().all(|feature| library.features.contains(feature)) {
                pairs.push(Paired { canary, library: Some((number, library)) });
            }
        }
    }
    Ok(pairs)
}

/// The program of all canaries.
fn write(pairs: &[Paired<'_>]) -> String {
    let mut source = String::new();
    let mut list = String::new();
    for (number, paired) in pairs.iter().enumerate() {
        let import = paired
            .library
            .map(|(number, library)| format!("use canary_library_{number} as {};", library.name))
            .unwrap_or_default();
        let code = &paired.canary.code;
        // Writing to a string does not fail.
        let _ = writeln!(source, "#[inline(never)] fn {NAME}{number}() {{ {import} {{ {code} }} }}");
        let _ = write!(list, "{NAME}{number}, ");
    }
    // They are never called, but the compiler cannot know that.
    let _ = writeln!(
        source,
        "fn main() {{ let all: &[fn()] = &[{list}]; \
         for canary in all.iter().take(std::env::args().count().saturating_sub(1)) {{ canary() }} }}"
    );
    source
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn library(package: &str, version: &str, features: &[&str]) -> Library {
        Library {
            package: package.to_owned(),
            version: version.parse().unwrap(),
            name: package.replace('-', "_"),
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
            rlib: PathBuf::from("library.rlib"),
        }
    }

    #[test]
    fn a_version_that_no_canary_fits_is_an_error() {
        let table = Table::load(None).unwrap();
        let old = [library("tokio", "0.2.25", &["rt"])];
        let error = pair(&table, &old).err().unwrap().to_string();
        assert!(error.contains("tokio") && error.contains("0.2.25"), "{error}");
    }

    #[test]
    fn a_call_that_the_features_leave_out_has_no_canary() {
        let table = Table::load(None).unwrap();
        let count = |features| {
            let libraries = [library("tokio", "1.47.0", features)];
            pair(&table, &libraries).unwrap().iter().filter(|paired| paired.library.is_some()).count()
        };
        assert_eq!(count(&["time"]), 0);
        assert!(count(&["rt"]) > 0);
        assert!(count(&["rt", "fs"]) > count(&["rt"]));
    }

    #[test]
    fn folders_of_processes_that_ended_are_removed() {
        let top = std::env::temp_dir().join(format!("netns-check-left-{}", std::process::id()));
        let of = |process: u32| top.join(format!("{FOLDER}{process}"));
        // The largest number of a process is 2^22.
        for folder in [of(1 << 23), of(std::process::id()), top.join("canaries-other")] {
            fs::create_dir_all(folder).unwrap();
        }
        remove_left(&top);
        assert!(!of(1 << 23).exists() && of(std::process::id()).exists() && top.join("canaries-other").exists());
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn two_versions_of_a_library_are_two_names() {
        let table = Table::load(None).unwrap();
        let libraries = [library("smol", "1.3.0", &[]), library("smol", "2.0.0", &[])];
        let source = write(&pair(&table, &libraries).unwrap());
        assert!(source.contains("use canary_library_0 as smol;") && source.contains("use canary_library_1 as smol;"));
    }
}
