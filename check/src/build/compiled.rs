//! The crates of each program, and how they were optimised. The wrapper notes both for every crate that it compiles.
//!
//! Cargo reports which packages were built, but not which compilation of a package is linked into a program: without
//! `--target`, its messages do not distinguish one for build scripts from one for the program. And it does not report
//! the flags for `rustc`, which may optimise.
//!
//! A crate that Cargo does not compile again keeps its note.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{DIRECTORY, code_generation, code_generation_options, value_of};
use crate::program::crates::Crates;

/// The folder of the notes, in the build directory.
const FOLDER: &str = "compiled";

/// Writes a note about the crate that `rustc` is about to compile.
pub(super) fn note(arguments: &[OsString]) -> Result<()> {
    let (Some(directory), Some(krate), Some(folder)) =
        (std::env::var_os(DIRECTORY), value_of(arguments, "--crate-name"), value_of(arguments, "--out-dir"))
    else {
        return Ok(());
    };
    let key = format!("{}{}", krate.display(), code_generation(arguments, "extra-filename").unwrap_or_default());
    let notes = Path::new(&directory).join(FOLDER);
    fs::create_dir_all(&notes).with_context(|| format!("create the folder {}", notes.display()))?;
    let program = std::path::absolute(Path::new(folder).join(&key)).context("find the path of what is compiled")?;
    let mut text = format!("{}\n{}\n", level(arguments), program.display());
    for library in externs(arguments) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{library}");
    }
    let file = notes.join(&key);
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// The level of optimisation, which the last flag decides, or a flag that optimises at every level.
fn level(arguments: &[OsString]) -> String {
    let optimises =
        |option: &&str| ["passes=", "llvm-args="].iter().any(|of| option.starts_with(of)) || links_bitcode(option);
    if let Some(option) = code_generation_options(arguments).find(optimises) {
        return format!("-C{option}");
    }
    let levels = arguments.iter().enumerate().rev().find_map(|(index, argument)| {
        let given = &arguments[index.saturating_sub(1)..=index];
        if argument == "-O" { Some("3") } else { code_generation(given, "opt-level") }
    });
    levels.unwrap_or("0").to_owned()
}

/// Whether the linker generates the code, and so optimises it.
fn links_bitcode(option: &str) -> bool {
    option.strip_prefix("linker-plugin-lto").is_some_and(|value| !matches!(value, "=no" | "=n" | "=off" | "=false"))
}

/// The libraries that a crate is compiled with, by the keys of their notes.
fn externs(arguments: &[OsString]) -> impl Iterator<Item = String> {
    let values = arguments.iter().zip(arguments.iter().skip(1)).filter(|(option, _)| *option == "--extern");
    values.filter_map(|(_, value)| Some(key(Path::new(value.to_str()?.split_once('=')?.1))))
}

/// The key of the note about a file.
fn key(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("rlib" | "rmeta" | "so" | "a") => stem.strip_prefix("lib").unwrap_or(&stem).to_owned(),
        _ => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

struct Note {
    level: String,
    /// The file, if it is a program. Cargo gives it a second name by a hard link.
    program: PathBuf,
    libraries: Vec<String>,
}

/// The compilations that the programs are made of.
pub(super) struct Parts {
    levels: HashMap<String, String>,
    /// The libraries that each crate is compiled with.
    libraries: HashMap<String, Vec<String>>,
    /// The programs by their second names.
    programs: HashMap<PathBuf, String>,
}

impl Parts {
    /// The level of optimisation of a file, or the flag that optimises it. None: the file is not in a program.
    pub(super) fn level(&self, file: &Path) -> Option<&str> {
        let key = self.programs.get(file).cloned().unwrap_or_else(|| key(file));
        self.levels.get(&key).map(String::as_str)
    }

    /// The crates, and for each the crates that can name its types.
    pub(super) fn crates(&self) -> Crates {
        let pairs = self.libraries.iter().flat_map(|(key, libraries)| {
            // A program can name its own types.
            std::iter::once(key).chain(libraries).map(|library| (krate(library), krate(key)))
        });
        Crates::of_pairs(pairs)
    }
}

/// The name of the crate in a note's key.
fn krate(key: &str) -> &str {
    key.split('-').next().unwrap_or(key)
}

/// The compilations of these programs. None where a note is missing, because another version of this check compiled it.
pub(super) fn parts<'e>(directory: &Path, executables: impl Iterator<Item = &'e Path>) -> Result<Option<Parts>> {
    let mut notes = read(&directory.join(FOLDER))?;
    let inode = |file: &Path| fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let by_inode: HashMap<_, _> =
        notes.iter().filter_map(|(key, note)| Some((inode(&note.program)?, key.clone()))).collect();
    let mut programs = HashMap::new();
    for executable in executables {
        let Some(key) = inode(executable).and_then(|inode| by_inode.get(&inode)) else { return Ok(None) };
        programs.insert(executable.to_owned(), key.clone());
    }
    let (mut levels, mut libraries) = (HashMap::new(), HashMap::new());
    let mut met: HashSet<String> = HashSet::new();
    let mut waiting: Vec<String> = programs.values().cloned().collect();
    while let Some(key) = waiting.pop() {
        if !met.insert(key.clone()) {
            continue;
        }
        let Some(note) = notes.remove(&key) else { return Ok(None) };
        levels.insert(key.clone(), note.level);
        waiting.extend(note.libraries.iter().cloned());
        libraries.insert(key, note.libraries);
    }
    Ok(Some(Parts { levels, libraries, programs }))
}

fn read(folder: &Path) -> Result<HashMap<String, Note>> {
    let mut notes = HashMap::new();
    // Without the folder there are no notes.
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = fs::read_to_string(file.path()).with_context(|| format!("read {}", file.path().display()))?;
        let mut lines = text.lines().map(str::to_owned);
        let (Some(level), Some(program)) = (lines.next(), lines.next()) else { continue };
        let key = file.file_name().to_string_lossy().into_owned();
        notes.insert(key, Note { level, program: program.into(), libraries: lines.collect() });
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_last_flag_is_the_level_of_optimisation() {
        for (line, expected) in [
            ("--crate-name app", "0"),
            ("--crate-name app -C opt-level=0 -O", "3"),
            ("--crate-name app -O -C opt-level=0", "0"),
            ("--crate-name app -Copt-level=s", "s"),
            ("--crate-name app -C opt-level=0 --codegen=opt-level=2", "2"),
            ("--crate-name app -C opt-level=0 --codegen opt-level=1", "1"),
            ("--crate-name app -Copt-level=0 -C passes=inline", "-Cpasses=inline"),
            ("--crate-name app -C llvm-args=-inline-threshold=9", "-Cllvm-args=-inline-threshold=9"),
            ("--crate-name app -Clinker-plugin-lto", "-Clinker-plugin-lto"),
            ("--crate-name app -Clinker-plugin-lto=no", "0"),
            ("--crate-name app --extern opt-level=/deps/x.rmeta", "0"),
        ] {
            assert_eq!(level(&arguments(line)), expected, "{line}");
        }
    }

    #[test]
    fn types_of_a_crate_can_be_named_in_what_is_compiled_with_it() {
        let libraries = [("app-1", vec!["a-2", "b-3"]), ("a-2", vec!["b-4"]), ("b-3", vec![]), ("b-4", vec![])];
        let owned = |(key, all): (&str, Vec<&str>)| (key.to_owned(), all.into_iter().map(str::to_owned).collect());
        let parts = Parts {
            levels: HashMap::new(),
            libraries: libraries.into_iter().map(owned).collect(),
            programs: HashMap::new(),
        };
        let crates = parts.crates();
        let can_name = |name: &'static str| crates.that_can_name(std::iter::once(name));
        assert_eq!(can_name("b"), Some(HashSet::from(["app", "a", "b"])));
        assert_eq!(can_name("app"), Some(HashSet::from(["app"])));
        assert_eq!(can_name("core"), None);
    }

    #[test]
    fn a_library_is_known_by_its_name_whatever_file_of_it_is_used() {
        let line = "--extern log=/deps/liblog-1a2b.rmeta --extern noprelude:m=/deps/libm-3c.so --extern proc_macro";
        assert_eq!(externs(&arguments(line)).collect::<Vec<_>>(), ["log-1a2b", "m-3c"]);
        assert_eq!(key(Path::new("/deps/library-1a2b")), "library-1a2b");
    }
}
