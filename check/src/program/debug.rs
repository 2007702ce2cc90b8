//! What the debug information says: the file and line of an address, what a body captured, what a function takes.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use addr2line::gimli::{self, AttributeValue, EndianSlice, LittleEndian, UnitOffset, UnitRef};
use anyhow::{Context as _, Result};

use crate::program::image::Image;
use crate::program::names;

type Bytes<'d> = EndianSlice<'d, LittleEndian>;

/// A place in a source file.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub(crate) struct Place {
    pub file: String,
    pub line: u32,
}

/// A variable that a body captured, or a parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Variable {
    pub name: String,
    /// Of the variable, or of what it holds: a trait object or a function pointer.
    pub r#type: String,
}

pub(crate) struct Debug<'d> {
    context: addr2line::Context<Bytes<'d>>,
    /// The functions of each unit that was asked for, by address.
    functions: RefCell<HashMap<gimli::UnitSectionOffset, Rc<HashMap<u64, UnitOffset>>>>,
}

/// How deep structures are looked into for what can be called.
const DEPTH: usize = 4;

impl<'d> Debug<'d> {
    pub(crate) fn new(image: &Image<'d>) -> Result<Self> {
        let load = |id: gimli::SectionId| image.section(id.name()).map(|bytes| EndianSlice::new(bytes, LittleEndian));
        let dwarf = gimli::Dwarf::load(load).context("read the debug information")?;
        let context = addr2line::Context::from_dwarf(dwarf).context("read the debug information")?;
        Ok(Self { context, functions: RefCell::default() })
    }

    /// Where the code at `address` was written.
    pub(crate) fn place(&self, address: u64) -> Option<Place> {
        // Even here some functions are put into others: the outermost is the one whose code this is.
        let mut frames = self.context.find_frames(address).skip_all_loads().ok()?;
        let mut location = None;
        while let Ok(Some(frame)) = frames.next() {
            location = frame.location;
        }
        let location = location?;
        Some(Place { file: location.file?.to_owned(), line: location.line? })
    }

    /// The trait objects and function pointers that a closure captured, out of the function that takes the closure.
    pub(crate) fn captured(&self, receiver: u64) -> Vec<Variable> {
        self.describe(receiver, |unit, entry| {
            let mut found = Vec::new();
            for argument in children(unit, entry, gimli::DW_TAG_template_type_parameter) {
                let Some(closure) = argument.r#type.filter(|_| argument.type_name.contains("{closure_env")) else {
                    continue;
                };
                for field in children(unit, closure, gimli::DW_TAG_member) {
                    let name = field.name.trim_start_matches("_ref__").to_owned();
                    let mut met = HashSet::new();
                    for r#type in callable(unit, &field, DEPTH, &mut met) {
                        found.push(Variable { name: name.clone(), r#type });
                    }
                }
            }
            found
        })
    }

    /// The parameters of a function.
    pub(crate) fn parameters(&self, function: u64) -> Vec<Variable> {
        self.describe(function, |unit, entry| {
            children(unit, entry, gimli::DW_TAG_formal_parameter)
                .into_iter()
                .map(|parameter| Variable { name: parameter.name, r#type: parameter.type_name })
                .collect()
        })
    }

    fn describe(
        &self,
        address: u64,
        describe: impl FnOnce(UnitRef<'_, Bytes<'d>>, UnitOffset) -> Vec<Variable>,
    ) -> Vec<Variable> {
        let Some(unit) = self.context.find_dwarf_and_unit(address).skip_all_loads() else {
            return Vec::new();
        };
        let functions = self.functions.borrow().get(&unit.header.offset()).cloned();
        let functions = functions.unwrap_or_else(|| {
            let functions = Rc::new(functions_of(unit));
            self.functions.borrow_mut().insert(unit.header.offset(), Rc::clone(&functions));
            functions
        });
        functions.get(&address).map(|entry| describe(unit, *entry)).unwrap_or_default()
    }
}

fn functions_of(unit: UnitRef<'_, Bytes<'_>>) -> HashMap<u64, UnitOffset> {
    let mut functions = HashMap::new();
    let mut entries = unit.entries();
    while let Ok(Some(entry)) = entries.next_dfs() {
        if entry.tag() == gimli::DW_TAG_subprogram
            && let Some(low) = entry.attr_value(gimli::DW_AT_low_pc)
            && let Ok(Some(address)) = unit.attr_address(low)
        {
            functions.insert(address, entry.offset());
        }
    }
    functions
}

/// A named thing with a type.
struct Typed {
    name: String,
    r#type: Option<UnitOffset>,
    type_name: String,
}

fn children(unit: UnitRef<'_, Bytes<'_>>, parent: UnitOffset, tag: gimli::DwTag) -> Vec<Typed> {
    let mut found = Vec::new();
    let Ok(mut tree) = unit.entries_tree(Some(parent)) else {
        return found;
    };
    let Ok(root) = tree.root() else { return found };
    let mut nodes = root.children();
    while let Ok(Some(node)) = nodes.next() {
        let entry = node.entry();
        if entry.tag() == tag {
            let r#type = reference(entry, gimli::DW_AT_type);
            found.push(Typed {
                name: name(unit, entry),
                r#type,
                type_name: r#type
                    .and_then(|at| unit.entry(at).ok())
                    .map(|entry| name(unit, &entry))
                    .unwrap_or_default(),
            });
        }
    }
    found
}

fn name<'d>(unit: UnitRef<'_, Bytes<'d>>, entry: &gimli::DebuggingInformationEntry<Bytes<'d>>) -> String {
    entry
        .attr_value(gimli::DW_AT_name)
        .and_then(|value| unit.attr_string(value).ok())
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn reference(entry: &gimli::DebuggingInformationEntry<Bytes<'_>>, attribute: gimli::DwAt) -> Option<UnitOffset> {
    match entry.attr_value(attribute)? {
        AttributeValue::UnitRef(offset) => Some(offset),
        _ => None,
    }
}

/// The types in a field that can be called and that only the field's value tells about.
fn callable(unit: UnitRef<'_, Bytes<'_>>, field: &Typed, depth: usize, met: &mut HashSet<UnitOffset>) -> Vec<String> {
    // A marker holds nothing.
    if field.type_name.contains("PhantomData<") {
        return Vec::new();
    }
    if names::is_indirect(&field.type_name) {
        return vec![field.type_name.clone()];
    }
    let Some(at) = field.r#type.filter(|at| depth > 0 && met.insert(*at)) else {
        return Vec::new();
    };
    let Ok(entry) = unit.entry(at) else {
        return Vec::new();
    };
    if entry.tag() == gimli::DW_TAG_pointer_type {
        let Some(target) = reference(&entry, gimli::DW_AT_type) else {
            return Vec::new();
        };
        let type_name = unit.entry(target).map(|entry| name(unit, &entry)).unwrap_or_default();
        return callable(unit, &Typed { name: String::new(), r#type: Some(target), type_name }, depth, met);
    }
    children(unit, at, gimli::DW_TAG_member).iter().flat_map(|field| callable(unit, field, depth - 1, met)).collect()
}
