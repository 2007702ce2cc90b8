//! The modules of the library use only modules of their own layer and of lower ones: the table in CONTRIBUTING.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of each module, as the table has it.
fn layers(root: &Path) -> BTreeMap<String, u32> {
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse::<u32>().ok()?, cells.next()?))
    });
    let modules = rows.flat_map(|(layer, modules)| {
        modules.split(", ").map(move |module| (module.trim_matches('`').to_owned(), layer))
    });
    modules.collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The modules that a file names after `crate::`, without those in comments.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split("crate::").skip(1)).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn no_module_uses_a_higher_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (layers, source) = (layers(root), root.join("runtime/src"));
    let mut uses = 0;
    for file in sources(&source) {
        let module = file.strip_prefix(&source).unwrap().with_extension("");
        let module = module.iter().next().unwrap().to_str().unwrap();
        if module == "lib" {
            continue;
        }
        let own = layers.get(module).unwrap_or_else(|| panic!("CONTRIBUTING.md has no layer for `{module}`"));
        for used in named(&fs::read_to_string(&file).unwrap()) {
            if let Some(layer) = layers.get(used) {
                uses += 1;
                assert!(layer <= own, "{}, of layer {own}, uses `{used}`, of layer {layer}", file.display());
            }
        }
    }
    assert!(uses > 100, "{uses} uses");
}
