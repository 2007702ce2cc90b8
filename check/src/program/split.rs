//! Debug information beside the program, in one file for each unit of code: `-Csplit-debuginfo=unpacked`.
//!
//! The linker has less to copy, and a search opens only the files of the functions that it reports.
//!
//! Incremental compilation gives these files new names each time (`<crate>.<unit>.<run>.rcgu.dwo`), but an object that
//! it uses again refers to its file by the name of an earlier run. Such a file is found by the other parts of its name,
//! and contains the number that the object expects.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use addr2line::gimli::{self, DwoId, EndianSlice, LittleEndian};
use anyhow::{Context as _, Result};
use object::ReadCache;

use crate::program::image::{Image, section};

/// The end of the names of the files.
pub(crate) const EXTENSION: &str = ".rcgu.dwo";

/// The files of one program.
#[derive(Default)]
pub(crate) struct Split {
    files: HashMap<DwoId, Unit>,
}

struct Unit {
    path: PathBuf,
    bytes: OnceCell<Vec<u8>>,
}

impl Split {
    /// The files that the debug information of a program names. `folders`: other folders to search.
    pub(crate) fn of(image: &Image<'_>, folders: &[PathBuf]) -> Result<Self> {
        let load = |id: gimli::SectionId| image.section(id.name()).map(|bytes| EndianSlice::new(bytes, LittleEndian));
        let dwarf = gimli::Dwarf::load(load)?;
        let mut files = HashMap::new();
        let mut listed = Listed::default();
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            let unit = dwarf.unit(header)?;
            if let (Some(id), Some(name)) = (unit.dwo_id, unit.dwo_name()?) {
                let text = |name: EndianSlice<'_, LittleEndian>| name.to_string_lossy().into_owned();
                let folder = unit.comp_dir.map(text).unwrap_or_default();
                let path = Path::new(&folder).join(text(dwarf.attr_string(&unit, name)?));
                files.insert(id, Unit { path: found(path, folders, &mut listed), bytes: OnceCell::new() });
            }
        }
        Ok(Self { files })
    }

    /// The crate that a unit belongs to: the name of its file begins with it.
    pub(crate) fn krate(&self, id: DwoId) -> Option<&str> {
        self.files.get(&id)?.path.file_name()?.to_str()?.split(['-', '.']).next()
    }

    /// The bytes of a unit's file.
    pub(crate) fn bytes(&self, id: DwoId) -> Result<&[u8]> {
        let unit = self.unit(id)?;
        if let Some(bytes) = unit.bytes.get() {
            return Ok(bytes);
        }
        let bytes = fs::read(&unit.path).with_context(|| unit.is_missing())?;
        Ok(unit.bytes.get_or_init(|| bytes))
    }

    /// The strings of a unit. Nothing else of its file is read.
    pub(crate) fn strings(&self, id: DwoId) -> Result<Vec<u8>> {
        let unit = self.unit(id)?;
        let file = File::open(&unit.path).with_context(|| unit.is_missing())?;
        Ok(section(&ReadCache::new(file), ".debug_str.dwo")?.to_vec())
    }

    fn unit(&self, id: DwoId) -> Result<&Unit> {
        self.files.get(&id).context("a unit of the debug information names no file")
    }
}

impl Unit {
    fn is_missing(&self) -> String {
        format!("read the debug information {}: remove the build directory, and check again", self.path.display())
    }
}

/// Finds a file of debug information. The build directory may have been moved, its path may not be in the debug
/// information, or the file may have a new name.
fn found(path: PathBuf, folders: &[PathBuf], listed: &mut Listed) -> PathBuf {
    if path.exists() {
        return path;
    }
    let Some(name) = path.file_name() else { return path };
    let moved = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    let renamed = || {
        let unit = unit(name.to_str()?)?;
        path.parent()
            .into_iter()
            .chain(folders.iter().map(PathBuf::as_path))
            .find_map(|folder| listed.file(folder, unit))
    };
    moved.or_else(renamed).unwrap_or(path)
}

/// The name of a file without the part that incremental compilation changes. None: it changes no part.
fn unit(name: &str) -> Option<&str> {
    let (unit, _) = name.strip_suffix(EXTENSION)?.rsplit_once('.')?;
    // Crate and unit; the names of other compilations have a number instead of the part that changes.
    (unit.contains('.') && !unit.ends_with("-cgu")).then_some(unit)
}

/// The files in the folders that were searched, by unit.
#[derive(Default)]
struct Listed(HashMap<PathBuf, HashMap<String, PathBuf>>);

impl Listed {
    fn file(&mut self, folder: &Path, unit: &str) -> Option<PathBuf> {
        if !self.0.contains_key(folder) {
            self.0.insert(folder.to_owned(), list(folder));
        }
        self.0.get(folder)?.get(unit).cloned()
    }
}

fn list(folder: &Path) -> HashMap<String, PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = files.filter_map(|file| Some((unit(file.file_name().to_str()?)?.to_owned(), file.path())));
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_keeps_its_name_in_an_incremental_compilation() {
        let unit_of = "app-81d2.2flkt843lpdriprcuj4pmzopl";
        assert_eq!(unit("app-81d2.2flkt843lpdriprcuj4pmzopl.0x7ragx.rcgu.dwo"), Some(unit_of));
        assert_eq!(unit("app-81d2.2flkt843lpdriprcuj4pmzopl.05ze8le.rcgu.dwo"), Some(unit_of));
    }

    #[test]
    fn names_that_do_not_change_are_left_alone() {
        assert_eq!(unit("bytes-7dd1.bytes.b8a54290aee1a2cb-cgu.0.rcgu.dwo"), None);
        assert_eq!(unit("app-81d2.2flkt843lpdriprcuj4pmzopl.rcgu.dwo"), None);
        assert_eq!(unit("app-81d2.2flkt843lpdriprcuj4pmzopl.0x7ragx.rcgu.o"), None);
    }
}
