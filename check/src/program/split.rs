//! Debug information beside the program, in one file for each unit of code: `-Csplit-debuginfo=unpacked`.
//!
//! The linker has less to copy, and a search opens the files of the functions that it reports.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use addr2line::gimli::{self, DwoId, EndianSlice, LittleEndian};
use anyhow::{Context as _, Result};
use object::ReadCache;

use crate::program::image::{Image, section};

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
    /// The files that the debug information of a program names. `folders`: where else they may be.
    pub(crate) fn of(image: &Image<'_>, folders: &[PathBuf]) -> Result<Self> {
        let load = |id: gimli::SectionId| image.section(id.name()).map(|bytes| EndianSlice::new(bytes, LittleEndian));
        let dwarf = gimli::Dwarf::load(load)?;
        let mut files = HashMap::new();
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            let unit = dwarf.unit(header)?;
            if let (Some(id), Some(name)) = (unit.dwo_id, unit.dwo_name()?) {
                let text = |name: EndianSlice<'_, LittleEndian>| name.to_string_lossy().into_owned();
                let folder = unit.comp_dir.map(text).unwrap_or_default();
                let path = Path::new(&folder).join(text(dwarf.attr_string(&unit, name)?));
                files.insert(id, Unit { path: found(path, folders), bytes: OnceCell::new() });
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

/// A build directory may have been moved since, or its path may not be in the debug information.
fn found(path: PathBuf, folders: &[PathBuf]) -> PathBuf {
    if path.exists() {
        return path;
    }
    let Some(name) = path.file_name() else { return path };
    folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()).unwrap_or(path)
}
