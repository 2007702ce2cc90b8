//! Reads the debug information: the file and line of an address, the variables that a body captured, the parameters of
//! a function, and the values that a future holds while it is suspended.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use addr2line::gimli::{self, AttributeValue, DwoId, EndianSlice, LittleEndian, UnitOffset, UnitRef};
use addr2line::{LookupContinuation, LookupResult, SplitDwarfLoad};
use anyhow::{Context as _, Result, bail};

use crate::program::crates::Crates;
use crate::program::image::{Image, section};
use crate::program::names;
use crate::program::split::Split;

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
    /// The type of the variable, or of the trait object or function pointer that it holds.
    pub r#type: String,
}

/// A value that a future holds while it waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// The function that polls the future.
    pub poll: u64,
    /// The variable, and the fields that lead from it to the value.
    pub variable: String,
    pub r#type: String,
    /// The place where the future waits.
    pub awaits: Option<Place>,
}

/// A unit: its file, where it has one of its own, and where it begins.
type UnitKey = (Option<DwoId>, gimli::UnitSectionOffset);

pub(crate) struct Debug<'d> {
    context: addr2line::Context<Bytes<'d>>,
    dwarf: Arc<gimli::Dwarf<Bytes<'d>>>,
    info: &'d [u8],
    strings: &'d [u8],
    split: &'d Split,
    crates: &'d Crates,
    /// The index of each unit that was looked up.
    units: RefCell<HashMap<UnitKey, Rc<Unit>>>,
    /// The first error of a read.
    failure: OnceCell<anyhow::Error>,
}

/// How deep structures are searched for trait objects and function pointers.
const DEPTH: usize = 4;

/// How deep structures are searched for a value of a certain type.
const VALUE_DEPTH: usize = 16;

/// An index of one unit.
#[derive(Default)]
struct Unit {
    /// The functions, by address.
    functions: HashMap<u64, UnitOffset>,
    /// The functions that poll a future of an `async` function or block.
    polls: Vec<(u64, UnitOffset)>,
    /// The namespace of each type.
    types: HashMap<UnitOffset, u32>,
    namespaces: Vec<String>,
    /// Static variables: address and type.
    statics: Vec<(u64, UnitOffset)>,
}

impl Unit {
    /// The path of a type, with its generic arguments.
    fn path(&self, at: UnitOffset, name: &str) -> String {
        match self.types.get(&at).map(|index| self.namespaces[*index as usize].as_str()) {
            None | Some("") => name.to_owned(),
            Some(namespace) => format!("{namespace}::{name}"),
        }
    }
}

impl<'d> Debug<'d> {
    pub(crate) fn new(image: &Image<'d>, split: &'d Split, crates: &'d Crates) -> Result<Self> {
        let load = |id: gimli::SectionId| image.section(id.name()).map(|bytes| EndianSlice::new(bytes, LittleEndian));
        let dwarf = gimli::Dwarf::load(load).context("read the debug information")?;
        let dwarf = Arc::new(dwarf);
        let context = addr2line::Context::from_arc_dwarf(Arc::clone(&dwarf)).context("read the debug information")?;
        let (info, strings) = (image.section(".debug_info")?, image.section(".debug_str")?);
        if info.is_empty() {
            bail!(
                "it has no debug information, which tells what a future holds and what a body captured: link it \
                 without `--strip-debug`, which a linker flag asks for"
            );
        }
        let (units, failure) = (RefCell::default(), OnceCell::new());
        Ok(Self { context, dwarf, info, strings, split, crates, units, failure })
    }

    /// Returns the first error of a read, if there was one.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Completes a look-up, and loads the files that it needs.
    fn complete<L: LookupContinuation<Buf = Bytes<'d>>>(&self, mut result: LookupResult<L>) -> L::Output {
        loop {
            match result {
                LookupResult::Output(output) => return output,
                LookupResult::Load { load, continuation } => {
                    result = continuation.resume(self.noted(self.load(&load)).map(Arc::new));
                }
            }
        }
    }

    fn load(&self, load: &SplitDwarfLoad<Bytes<'d>>) -> Result<gimli::Dwarf<Bytes<'d>>> {
        let bytes = self.split.bytes(load.dwo_id)?;
        let read = |id: gimli::SectionId| match id.dwo_name() {
            Some(name) => section(bytes, name).map(|bytes| EndianSlice::new(bytes, LittleEndian)),
            None => Ok(EndianSlice::default()),
        };
        let mut dwarf = gimli::Dwarf::load(read)?;
        dwarf.make_dwo(&load.parent);
        let header = dwarf.units().next()?.context("a file of debug information is empty")?;
        if dwarf.unit(header)?.dwo_id != Some(load.dwo_id) {
            bail!("the program was linked with other debug information: remove the build directory, and check again");
        }
        Ok(dwarf)
    }

    /// Keeps the first error: a look-up cannot return one.
    fn noted<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.failure.get_or_init(|| error)).ok()
    }

    /// The source line of the code at `address`.
    pub(crate) fn place(&self, address: u64) -> Option<Place> {
        // Some functions are inlined even without optimisation: the outermost frame is the function itself.
        let mut frames = self.complete(self.context.find_frames(address)).ok()?;
        let mut location = None;
        while let Ok(Some(frame)) = frames.next() {
            location = frame.location;
        }
        let location = location?;
        Some(Place { file: location.file?.to_owned(), line: location.line? })
    }

    /// The trait objects and function pointers that a closure captured, read from the function that takes the closure.
    pub(crate) fn captured(&self, receiver: u64) -> Vec<Variable> {
        self.describe(receiver, |unit, _, entry| {
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

    /// The trait objects and function pointers that a function is given: as parameters, or as captured variables if it
    /// is the code of a closure or future.
    pub(crate) fn given(&self, function: u64) -> Vec<Variable> {
        self.describe(function, |unit, _, entry| {
            let (mut found, mut held) = (Vec::new(), Vec::new());
            for parameter in children(unit, entry, gimli::DW_TAG_formal_parameter) {
                match parameter.r#type.and_then(|r#type| unresumed(unit, r#type)) {
                    Some(fields) => held.extend(fields),
                    None if names::is_indirect(&parameter.type_name) => {
                        found.push(Variable { name: parameter.name, r#type: parameter.type_name });
                    }
                    None => {}
                }
            }
            // The variables at the top level of a closure are the captured ones. Those of its body are in blocks.
            let own = unit.entry(entry).ok();
            if own.is_some_and(|own| name_bytes(unit, &own).is_some_and(|name| name.starts_with(b"{closure#"))) {
                held.extend(children(unit, entry, gimli::DW_TAG_variable));
            }
            for field in held {
                let name = field.name.trim_start_matches("_ref__").to_owned();
                for r#type in callable(unit, &field, DEPTH, &mut HashSet::new()) {
                    found.push(Variable { name: name.clone(), r#type });
                }
            }
            found
        })
    }

    /// The parameters of a function.
    pub(crate) fn parameters(&self, function: u64) -> Vec<Variable> {
        self.describe(function, |unit, _, entry| {
            children(unit, entry, gimli::DW_TAG_formal_parameter)
                .into_iter()
                .map(|parameter| Variable { name: parameter.name, r#type: parameter.type_name })
                .collect()
        })
    }

    /// The path of the type that a method's `self` refers to.
    pub(crate) fn receiver(&self, method: u64) -> Option<String> {
        self.describe(method, |unit, index, entry| {
            let pointer = parameter_types(unit, entry).next()?;
            let receiver = reference(&unit.entry(pointer).ok()?, gimli::DW_AT_type)?;
            Some(index.path(receiver, &name(unit, &unit.entry(receiver).ok()?)))
        })
    }

    /// Whether a function polls a future of an `async` function or block.
    pub(crate) fn polls(&self, function: u64) -> bool {
        self.describe(function, |_, index, _| index.polls.iter().any(|(poll, _)| *poll == function))
    }

    /// Whether a value that a function takes or returns has a part whose type's path satisfies `is`.
    pub(crate) fn passes(&self, function: u64, what: Passes, is: impl Fn(&str) -> bool) -> bool {
        self.passes_apart_from(function, what, is, |_| false)
    }

    /// The same, without the parts of types whose path satisfies `skips`.
    pub(crate) fn passes_apart_from(
        &self,
        function: u64,
        what: Passes,
        is: impl Fn(&str) -> bool,
        skips: impl Fn(&str) -> bool,
    ) -> bool {
        self.describe(function, |unit, index, entry| {
            let types: Vec<UnitOffset> = match what {
                Passes::Closure => children(unit, entry, gimli::DW_TAG_template_type_parameter)
                    .into_iter()
                    .filter_map(|argument| argument.r#type)
                    .chain(parameter_types(unit, entry))
                    .collect(),
                Passes::Parameter => parameter_types(unit, entry).collect(),
                Passes::Receiver => parameter_types(unit, entry).take(1).collect(),
                Passes::Result => result_type(unit, entry).into_iter().collect(),
            };
            let is = |path: &str, _| is(path);
            let references = matches!(what, Passes::Closure | Passes::Receiver);
            let walk = Walk { skips: &skips, references, ..Walk::of(unit, index, &is) };
            types.into_iter().any(|r#type| walk.find(r#type).is_some())
        })
    }

    /// Whether a function is given a place for a value whose type's path satisfies `is`: behind a mutable reference, or
    /// in a cell behind another.
    pub(crate) fn is_given_place(&self, function: u64, is: impl Fn(&str) -> bool) -> bool {
        self.describe(function, |unit, index, entry| {
            let is = |path: &str, _| is(path);
            let walk = Walk { references: true, ..Walk::of(unit, index, &is) };
            let is_cell = |path: &str, at| path.starts_with("core::cell::UnsafeCell<") && walk.find(at).is_some();
            let cells = Walk { references: true, ..Walk::of(unit, index, &is_cell) };
            children(unit, entry, gimli::DW_TAG_formal_parameter).into_iter().any(|parameter| {
                let through = if parameter.type_name.starts_with("&mut ") { &walk } else { &cells };
                let is_reference = parameter.type_name.starts_with('&');
                parameter.r#type.filter(|_| is_reference).is_some_and(|r#type| through.find(r#type).is_some())
            })
        })
    }

    /// Every value of a type that satisfies `is` and that a future holds across an await. `types`: the paths of all
    /// such types, without generic arguments.
    pub(crate) fn held_across_await(&self, types: &[&str], is: impl Fn(&str) -> bool) -> Vec<Held> {
        let mut held = Vec::new();
        self.each_unit_with(types, |unit, index| {
            for &(poll, function) in &index.polls {
                held.extend(self.held_by(unit, index, poll, function, &is));
            }
        });
        held.sort_by(|a, b| (a.poll, line(a), &a.variable).cmp(&(b.poll, line(b), &b.variable)));
        held.dedup();
        held
    }

    fn held_by(
        &self,
        unit: UnitRef<'_, Bytes<'d>>,
        index: &Unit,
        poll: u64,
        function: UnitOffset,
        is: &dyn Fn(&str) -> bool,
    ) -> Vec<Held> {
        let Some(future) = future_of(unit, function) else { return Vec::new() };
        let is = |path: &str, _| is(path);
        let walk = Walk::of(unit, index, &is);
        let mut held = Vec::new();
        for state in variants(unit, future).into_iter().filter(|state| state.type_name.starts_with("Suspend")) {
            let Some(r#type) = state.r#type else { continue };
            for variable in children(unit, r#type, gimli::DW_TAG_member) {
                let Some(found) = variable.r#type.and_then(|r#type| walk.find(r#type)) else { continue };
                let fields = std::iter::once(variable.name.as_str()).chain(found.fields.iter().map(String::as_str));
                let awaits = state.line.map(|line| {
                    let file = self.place(poll).map(|place| place.file).unwrap_or_default();
                    Place { file, line }
                });
                held.push(Held { poll, variable: fields.collect::<Vec<_>>().join("."), r#type: found.path, awaits });
            }
        }
        held
    }

    /// The addresses of the static variables that have a part of such a type.
    pub(crate) fn statics_holding(&self, types: &[&str], is: impl Fn(&str) -> bool) -> HashSet<u64> {
        let mut found = HashSet::new();
        self.each_unit_with(types, |unit, index| {
            let is = |path: &str, _| is(path);
            let walk = Walk { references: true, ..Walk::of(unit, index, &is) };
            found.extend(index.statics.iter().filter(|(_, r#type)| walk.find(*r#type).is_some()).map(|(at, _)| *at));
        });
        found
    }

    /// Visits the units that name one of these types.
    fn each_unit_with(&self, types: &[&str], mut visit: impl FnMut(UnitRef<'_, Bytes<'d>>, &Unit)) {
        let names: Vec<&str> = types.iter().filter_map(|path| path.rsplit("::").next()).collect();
        let references = self.strings_of(&names);
        let crates = self.crates.that_can_name(types.iter().map(|path| names::krate(path)));
        let mut headers = self.dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Ok(unit) = self.dwarf.unit(header) else { continue };
            let possible = match unit.dwo_id {
                Some(id) => {
                    let krate = self.split.krate(id).unwrap_or_default();
                    crates.as_ref().is_none_or(|crates| crates.contains(krate))
                        && self.noted(self.split.strings(id)).is_some_and(|strings| has_any(&strings, &names))
                }
                // DWARF 5 refers to strings by an index.
                None if header.version() >= 5 => true,
                None => self.has_any_reference(header, &references),
            };
            if !possible {
                continue;
            }
            let Some(address) = self.address_in(&unit) else { continue };
            if let Some(unit) = self.complete(self.context.find_dwarf_and_unit(address)) {
                visit(unit, &self.index(unit));
            }
        }
    }

    fn has_any_reference(&self, header: gimli::UnitHeader<Bytes<'d>>, references: &[[u8; 4]]) -> bool {
        let Some(start) = header.offset().to_debug_info_offset(&header).map(|offset| offset.0) else { return false };
        let bytes = self.info.get(start..start + header.length_including_self()).unwrap_or_default();
        references.iter().any(|string| memchr::memmem::find(bytes, string).is_some())
    }

    /// The references to strings that are one of these names, or such a name and generic arguments.
    fn strings_of(&self, names: &[&str]) -> Vec<[u8; 4]> {
        let mut found = Vec::new();
        for name in names {
            for at in memchr::memmem::find_iter(self.strings, name.as_bytes()) {
                let possible = match self.strings.get(at + name.len()) {
                    // A linker may store a string as the end of a longer one.
                    None | Some(0) => true,
                    Some(b'<') => at == 0 || self.strings[at - 1] == 0,
                    Some(_) => false,
                };
                if let (true, Ok(at)) = (possible, u32::try_from(at)) {
                    found.push(at.to_le_bytes());
                }
            }
        }
        found
    }

    /// An address in a unit.
    fn address_in(&self, unit: &gimli::Unit<Bytes<'d>>) -> Option<u64> {
        let mut ranges = self.dwarf.unit_ranges(unit).ok()?;
        std::iter::from_fn(|| ranges.next().ok().flatten())
            .find(|range| range.begin != 0 && range.begin < range.end)
            .map(|range| range.begin)
    }

    fn index(&self, unit: UnitRef<'_, Bytes<'d>>) -> Rc<Unit> {
        let key = (unit.dwo_id, unit.header.offset());
        if let Some(index) = self.units.borrow().get(&key) {
            return Rc::clone(index);
        }
        let index = Rc::new(index_of(unit));
        self.units.borrow_mut().insert(key, Rc::clone(&index));
        index
    }

    fn describe<R: Default>(
        &self,
        address: u64,
        describe: impl FnOnce(UnitRef<'_, Bytes<'d>>, &Unit, UnitOffset) -> R,
    ) -> R {
        let Some(unit) = self.complete(self.context.find_dwarf_and_unit(address)) else {
            return R::default();
        };
        let index = self.index(unit);
        index.functions.get(&address).map(|entry| describe(unit, &index, *entry)).unwrap_or_default()
    }
}

/// A part of a function's types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passes {
    /// Its generic arguments and its parameters, and what closures among them captured, also by reference.
    Closure,
    /// The parameters that it takes by value.
    Parameter,
    /// Its first parameter, also by reference.
    Receiver,
    Result,
}

fn line(held: &Held) -> u32 {
    held.awaits.as_ref().map_or(0, |place| place.line)
}

fn parameter_types(unit: UnitRef<'_, Bytes<'_>>, function: UnitOffset) -> impl Iterator<Item = UnitOffset> {
    children(unit, function, gimli::DW_TAG_formal_parameter).into_iter().filter_map(|parameter| parameter.r#type)
}

fn result_type(unit: UnitRef<'_, Bytes<'_>>, function: UnitOffset) -> Option<UnitOffset> {
    let function = unit.entry(function).ok()?;
    // A method's code refers to its declaration, which has the type.
    reference(&function, gimli::DW_AT_type).or_else(|| {
        let declaration = unit.entry(reference(&function, gimli::DW_AT_specification)?).ok()?;
        reference(&declaration, gimli::DW_AT_type)
    })
}

fn index_of(unit: UnitRef<'_, Bytes<'_>>) -> Unit {
    let mut index = Unit::default();
    // The namespaces that enclose the entry, each with its depth.
    let mut enclosing: Vec<(isize, u32)> = Vec::new();
    index.namespaces.push(String::new());
    let mut entries = unit.entries();
    while let Ok(Some(entry)) = entries.next_dfs() {
        let depth = entry.depth();
        while enclosing.last().is_some_and(|(outer, _)| *outer >= depth) {
            enclosing.pop();
        }
        let namespace = enclosing.last().map_or(0, |(_, namespace)| *namespace);
        match entry.tag() {
            gimli::DW_TAG_namespace => {
                let outer = index.namespaces[namespace as usize].as_str();
                let name = name(unit, entry);
                let path = if outer.is_empty() { name } else { format!("{outer}::{name}") };
                enclosing.push((depth, u32::try_from(index.namespaces.len()).unwrap_or(0)));
                index.namespaces.push(path);
            }
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type | gimli::DW_TAG_enumeration_type => {
                index.types.insert(entry.offset(), namespace);
            }
            gimli::DW_TAG_subprogram => {
                if let Some(low) = entry.attr_value(gimli::DW_AT_low_pc)
                    && let Ok(Some(address)) = unit.attr_address(low)
                {
                    index.functions.insert(address, entry.offset());
                    if name_bytes(unit, entry).is_some_and(|name| name.starts_with(b"{async_")) {
                        index.polls.push((address, entry.offset()));
                    }
                }
            }
            gimli::DW_TAG_variable => {
                if let (Some(AttributeValue::Exprloc(location)), Some(r#type)) =
                    (entry.attr_value(gimli::DW_AT_location), reference(entry, gimli::DW_AT_type))
                    && let Some(address) = address_of(unit, location)
                {
                    index.statics.push((address, r#type));
                }
            }
            _ => {}
        }
    }
    index
}

/// The address of a location.
fn address_of(unit: UnitRef<'_, Bytes<'_>>, location: gimli::Expression<Bytes<'_>>) -> Option<u64> {
    match location.operations(unit.encoding()).next().ok()?? {
        gimli::Operation::Address { address } => Some(address),
        gimli::Operation::AddressIndex { index } => unit.address(index).ok(),
        _ => None,
    }
}

/// Whether one of these strings, which end in zeros, is such a name, or such a name and generic arguments.
fn has_any(strings: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| {
        memchr::memmem::find_iter(strings, name.as_bytes()).any(|at| {
            let begins = at == 0 || strings[at - 1] == 0;
            begins && matches!(strings.get(at + name.len()), None | Some(0 | b'<'))
        })
    })
}

/// The future that a function polls: its first parameter is a pinned reference to it.
fn future_of(unit: UnitRef<'_, Bytes<'_>>, function: UnitOffset) -> Option<UnitOffset> {
    let pin = parameter_types(unit, function).next()?;
    let pointer = children(unit, pin, gimli::DW_TAG_member).into_iter().next()?.r#type?;
    reference(&unit.entry(pointer).ok()?, gimli::DW_AT_type)
}

/// The members of a future that was not polled yet, if a parameter refers to one.
fn unresumed(unit: UnitRef<'_, Bytes<'_>>, mut at: UnitOffset) -> Option<Vec<Typed>> {
    loop {
        let entry = unit.entry(at).ok()?;
        let own_name = name(unit, &entry);
        if own_name.starts_with("{async_") {
            let first = variants(unit, at).into_iter().find(|state| state.type_name == "Unresumed")?;
            return Some(children(unit, first.r#type?, gimli::DW_TAG_member));
        }
        at = match entry.tag() {
            gimli::DW_TAG_pointer_type => reference(&entry, gimli::DW_AT_type)?,
            _ if own_name.starts_with("Pin<") => children(unit, at, gimli::DW_TAG_member).into_iter().next()?.r#type?,
            _ => return None,
        };
    }
}

/// A search for a part whose type satisfies `is`, through structures, enums, arrays and owning pointers.
struct Walk<'w, 'u, 'd> {
    unit: UnitRef<'u, Bytes<'d>>,
    index: &'w Unit,
    is: &'w dyn Fn(&str, UnitOffset) -> bool,
    /// Types whose parts do not count.
    skips: &'w dyn Fn(&str) -> bool,
    /// Whether references are followed too.
    references: bool,
}

struct Part {
    path: String,
    fields: Vec<String>,
}

impl<'w, 'u, 'd> Walk<'w, 'u, 'd> {
    fn of(unit: UnitRef<'u, Bytes<'d>>, index: &'w Unit, is: &'w dyn Fn(&str, UnitOffset) -> bool) -> Self {
        Self { unit, index, is, skips: &|_| false, references: false }
    }

    fn find(&self, r#type: UnitOffset) -> Option<Part> {
        let mut fields = Vec::new();
        match self.visit(r#type, VALUE_DEPTH, &mut HashMap::new(), &mut fields) {
            ControlFlow::Break(path) => Some(Part { path, fields }),
            ControlFlow::Continue(()) => None,
        }
    }

    /// `met`: the types that were visited, each with the depth that was left for it.
    fn visit(
        &self,
        at: UnitOffset,
        depth: usize,
        met: &mut HashMap<UnitOffset, usize>,
        fields: &mut Vec<String>,
    ) -> ControlFlow<String> {
        let Ok(entry) = self.unit.entry(at) else { return ControlFlow::Continue(()) };
        let own_name = name(self.unit, &entry);
        if own_name.starts_with("PhantomData<") {
            return ControlFlow::Continue(());
        }
        let path = self.index.path(at, &own_name);
        if (self.is)(&path, at) {
            return ControlFlow::Break(path);
        }
        if (self.skips)(&path) || depth == 0 || met.get(&at).is_some_and(|before| *before >= depth) {
            return ControlFlow::Continue(());
        }
        met.insert(at, depth);
        match entry.tag() {
            gimli::DW_TAG_pointer_type if own_name.starts_with('&') && !self.references => ControlFlow::Continue(()),
            gimli::DW_TAG_pointer_type | gimli::DW_TAG_array_type => match reference(&entry, gimli::DW_AT_type) {
                Some(target) => self.visit(target, depth - 1, met, fields),
                None => ControlFlow::Continue(()),
            },
            _ => {
                // Only the values that a future captured are searched. What it holds later is a finding of its own.
                let future = own_name.starts_with("{async_");
                let states = variants(self.unit, at);
                let states = states.into_iter().filter(|state| !future || state.type_name == "Unresumed");
                // A collection refers to its elements by their type alone.
                let owner = ["alloc::", "std::collections::", "std::thread::local::", "hashbrown::"]
                    .iter()
                    .any(|of| path.starts_with(of));
                let arguments =
                    if owner { children(self.unit, at, gimli::DW_TAG_template_type_parameter) } else { Vec::new() };
                for part in children(self.unit, at, gimli::DW_TAG_member).into_iter().chain(states).chain(arguments) {
                    let Some(r#type) = part.r#type else { continue };
                    // Fields of the standard library's own types do not help the reader.
                    let told = !owner && !path.starts_with("core::") && !path.starts_with("std::") && !part.is_index();
                    if told {
                        fields.push(part.name.clone());
                    }
                    self.visit(r#type, depth - 1, met, fields)?;
                    if told {
                        fields.pop();
                    }
                }
                ControlFlow::Continue(())
            }
        }
    }
}

/// A named thing with a type.
struct Typed {
    name: String,
    r#type: Option<UnitOffset>,
    type_name: String,
    line: Option<u32>,
}

impl Typed {
    /// Whether it has no name of its own, as a variant or the value of a smart pointer.
    fn is_index(&self) -> bool {
        self.name.is_empty() || self.name == "T"
    }
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
                line: entry
                    .attr_value(gimli::DW_AT_decl_line)
                    .and_then(|line| line.udata_value())
                    .map(|line| u32::try_from(line).unwrap_or(u32::MAX)),
            });
        }
    }
    found
}

/// The variants of an enum or the states of a future, each with the type of what it holds.
fn variants(unit: UnitRef<'_, Bytes<'_>>, parent: UnitOffset) -> Vec<Typed> {
    offsets(unit, parent, gimli::DW_TAG_variant_part)
        .into_iter()
        .flat_map(|part| offsets(unit, part, gimli::DW_TAG_variant))
        .flat_map(|variant| children(unit, variant, gimli::DW_TAG_member))
        .collect()
}

fn offsets(unit: UnitRef<'_, Bytes<'_>>, parent: UnitOffset, tag: gimli::DwTag) -> Vec<UnitOffset> {
    let mut found = Vec::new();
    let Ok(mut tree) = unit.entries_tree(Some(parent)) else {
        return found;
    };
    let Ok(root) = tree.root() else { return found };
    let mut nodes = root.children();
    while let Ok(Some(node)) = nodes.next() {
        if node.entry().tag() == tag {
            found.push(node.entry().offset());
        }
    }
    found
}

fn name<'d>(unit: UnitRef<'_, Bytes<'d>>, entry: &gimli::DebuggingInformationEntry<Bytes<'d>>) -> String {
    name_bytes(unit, entry).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
}

fn name_bytes<'d>(
    unit: UnitRef<'_, Bytes<'d>>,
    entry: &gimli::DebuggingInformationEntry<Bytes<'d>>,
) -> Option<&'d [u8]> {
    let own = |entry: &gimli::DebuggingInformationEntry<Bytes<'d>>| {
        let value = entry.attr_value(gimli::DW_AT_name)?;
        unit.attr_string(value).ok().map(|name| name.slice())
    };
    // A method's code refers to its declaration, which has the name.
    own(entry).or_else(|| own(&unit.entry(reference(entry, gimli::DW_AT_specification)?).ok()?))
}

fn reference(entry: &gimli::DebuggingInformationEntry<Bytes<'_>>, attribute: gimli::DwAt) -> Option<UnitOffset> {
    match entry.attr_value(attribute)? {
        AttributeValue::UnitRef(offset) => Some(offset),
        _ => None,
    }
}

/// The trait objects and function pointers in a field, for which only the value tells what is called.
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
        return callable(unit, &Typed { name: String::new(), r#type: Some(target), type_name, line: None }, depth, met);
    }
    children(unit, at, gimli::DW_TAG_member).iter().flat_map(|field| callable(unit, field, depth - 1, met)).collect()
}
