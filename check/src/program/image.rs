//! The program as the linker wrote it: functions, data, imports, and every relocation that the link kept.
//!
//! `--emit-relocs` makes the linker keep the relocations that it resolved, so that each reference from one function or
//! static to another is still there, with its address. This includes the standard library, which is installed as
//! compiled code, and C.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};
use object::elf::{self, FileHeader64, RelocationType};
use object::read::elf::{FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::{LittleEndian, ReadRef, SectionIndex, SymbolIndex};

use crate::program::architecture::Architecture;
use crate::program::instruction::Reference;
use crate::program::processors;

/// The bytes of a program. Zeros stand for what the check does not use.
pub(crate) struct Program {
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl Program {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = read_sparse(path).with_context(|| format!("read the program {}", path.display()))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    pub(crate) fn image(&self) -> Result<Image<'_>> {
        Image::parse(&self.bytes).with_context(|| format!("read the program {}", self.path.display()))
    }
}

/// Reads a file without the relocations of its debug information. They are about half of the file, and the linker has
/// already applied them.
fn read_sparse(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len())?;
    // The kernel allocates no memory for pages that are never written.
    let mut bytes = vec![0; length];
    let mut start = 0;
    let mut wanted = Vec::new();
    for unused in unused_ranges(&file, &mut bytes).unwrap_or_default() {
        if start < unused.start && unused.end <= length {
            wanted.push(start..unused.start);
            start = unused.end;
        }
    }
    wanted.push(start..length);
    read_ranges(&file, &mut bytes, wanted)?;
    Ok(bytes)
}

/// Reads these parts of a file to the same places, on all processors. They are in order, and do not overlap.
fn read_ranges(file: &File, bytes: &mut [u8], ranges: Vec<Range<usize>>) -> io::Result<()> {
    let mut pieces: Vec<(usize, &mut [u8])> = Vec::new();
    let (mut rest, mut position) = (bytes, 0);
    for range in ranges {
        let (_, from) = mem::take(&mut rest).split_at_mut(range.start - position);
        let (part, after) = from.split_at_mut(range.end - range.start);
        let starts = (range.start..).step_by(PIECE);
        pieces.extend(starts.zip(part.chunks_mut(PIECE)));
        (rest, position) = (after, range.end);
    }
    let pieces = Mutex::new(pieces.into_iter());
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let read = || {
        while let Some((start, piece)) = next() {
            file.read_exact_at(piece, start as u64)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..processors()).map(|_| scope.spawn(read)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// How much is read at a time.
const PIECE: usize = 4 << 20;

/// The ranges of the relocations of sections that are not in memory when the program runs, in order. None where the
/// file is not understood.
fn unused_ranges(file: &File, bytes: &mut [u8]) -> Option<Vec<Range<usize>>> {
    file.read_exact_at(bytes.get_mut(..size_of::<Header>())?, 0).ok()?;
    let header = Header::parse(&*bytes).ok()?;
    let start = usize::try_from(header.e_shoff(ENDIAN)).ok()?;
    let size = usize::from(header.e_shnum(ENDIAN)) * usize::from(header.e_shentsize(ENDIAN));
    file.read_exact_at(bytes.get_mut(start..start + size)?, start as u64).ok()?;
    let sections = Header::parse(&*bytes).ok()?.section_headers(ENDIAN, &*bytes).ok()?;
    let unused = sections.iter().filter(|section| {
        let target = sections.get(section.sh_info(ENDIAN) as usize);
        section.sh_type(ENDIAN) == elf::SHT_RELA
            && target.is_some_and(|target| !target.sh_flags(ENDIAN).contains(elf::SHF_ALLOC))
    });
    let mut ranges: Vec<Range<usize>> = unused
        .filter_map(|section| {
            let start = usize::try_from(section.sh_offset(ENDIAN)).ok()?;
            Some(start..start.checked_add(usize::try_from(section.sh_size(ENDIAN)).ok()?)?)
        })
        .collect();
    ranges.sort_by_key(|range| range.start);
    Some(ranges)
}

/// A function, a piece of data, or a symbol that another file defines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node(u32);

impl Node {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A map by node. Nodes are small numbers, which need no protection from collisions.
pub(crate) type NodeMap<T> = rustc_hash::FxHashMap<Node, T>;

/// What a [`Node`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Function,
    /// `vtable`: laid out as the compiler lays one out.
    Data {
        vtable: bool,
    },
    Import,
}

struct Span<'d> {
    start: u64,
    end: u64,
    /// The mangled name. Empty for data without a symbol, such as vtables and constants.
    name: &'d str,
}

struct Import<'d> {
    name: &'d str,
    /// The shared object that it is bound to, where the link recorded one.
    library: Option<&'d str>,
    /// The dynamic linker looks it up; otherwise it is weak and not defined.
    looked_up: bool,
    /// It may be missing, and is zero then.
    weak: bool,
}

/// A reference that the linker resolved.
#[derive(Clone, Copy)]
pub(crate) struct Relocation {
    pub at: u64,
    pub kind: RelocationType,
    pub symbol: Symbol,
    pub addend: i64,
}

#[derive(Clone, Copy)]
pub(crate) enum Symbol {
    Address(u64),
    Import(Node),
}

struct Section<'d> {
    name: &'d [u8],
    start: u64,
    bytes: &'d [u8],
    /// The size in memory, including zeroed data.
    size: u64,
    code: bool,
}

impl Section<'_> {
    fn contains(&self, address: u64) -> bool {
        (self.start..self.start + self.size).contains(&address)
    }
}

pub(crate) struct Image<'d> {
    pub architecture: Architecture,
    raw: &'d [u8],
    sections: Vec<Section<'d>>,
    functions: Vec<Span<'d>>,
    /// Other names of functions, by address.
    aliases: HashMap<u64, Vec<&'d str>>,
    data: Vec<Span<'d>>,
    imports: Vec<Import<'d>>,
    /// The shared objects that the program is linked with.
    libraries: Vec<&'d str>,
    /// By address.
    relocations: Vec<Relocation>,
}

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

impl<'d> Image<'d> {
    fn parse(raw: &'d [u8]) -> Result<Self> {
        let header = Header::parse(raw).context("this is not a 64-bit ELF file")?;
        let machine = header.e_machine(ENDIAN);
        let architecture = Architecture::of_machine(machine).filter(|_| header.is_little_endian());
        let Some(architecture) = architecture else {
            bail!(
                "its machine is ELF number {}, and only {} are understood: the check reads relocations and \
                 instructions, which differ by architecture. Check a build for one of them instead; what a body \
                 reaches hardly differs",
                machine.0,
                Architecture::ALL.map(Architecture::name).join(" and ")
            );
        };
        let (sections, kept) = read_sections(header, raw)?;
        let mut image = Self {
            architecture,
            raw,
            sections,
            functions: Vec::new(),
            aliases: HashMap::new(),
            data: Vec::new(),
            imports: Vec::new(),
            libraries: Vec::new(),
            relocations: Vec::new(),
        };
        let meaning = image.read_symbols(header)?;
        image.bind_imports(header)?;
        for also in tidy(&mut image.functions) {
            image.aliases.entry(also.start).or_default().push(also.name);
        }
        image.end_assembly();
        image.read_relocations(header, &kept, &meaning)?;
        image.name_the_rest_of_the_data();
        image.number_imports()?;
        Ok(image)
    }

    /// Sorts symbols into functions, data and imports. Returns the meaning of each symbol for relocations.
    fn read_symbols(&mut self, header: &'d Header) -> Result<Vec<Option<Symbol>>> {
        let table = header.sections(ENDIAN, self.raw)?;
        let symbols = table.symbols(ENDIAN, self.raw, elf::SHT_SYMTAB)?;
        if symbols.is_empty() {
            bail!(
                "it has no symbols: build it without `strip`, which the profile or a linker flag \
                 asks for"
            );
        }
        let thread_local = self.thread_local(header)?;
        let mut meaning = Vec::with_capacity(symbols.len());
        for (index, symbol) in symbols.enumerate() {
            let name = symbols.symbol_name(ENDIAN, symbol)?;
            let name = std::str::from_utf8(name).unwrap_or_default();
            let name = name.split('@').next().unwrap_or(name);
            let mut start = symbol.st_value(ENDIAN);
            if index == SymbolIndex(0) {
                meaning.push(None);
                continue;
            }
            if symbol.is_undefined(ENDIAN) {
                // The final number is assigned when functions and data have theirs.
                let number = u32::try_from(self.imports.len())?;
                let weak = symbol.is_weak();
                self.imports.push(Import { name, library: None, looked_up: false, weak });
                meaning.push(Some(Symbol::Import(Node(number))));
                continue;
            }
            if symbol.st_type() == elf::STT_TLS {
                // The value is an offset in the thread-local data. Zeroed data contains no references.
                if start >= thread_local.end - thread_local.start {
                    meaning.push(None);
                    continue;
                }
                start += thread_local.start;
            }
            if self.is_end_of_section(name) {
                meaning.push(None);
                continue;
            }
            meaning.push(Some(Symbol::Address(start)));
            if let Some(whole) = self.whole_section(name, start) {
                self.data.push(whole);
                continue;
            }
            let end = start + symbol.st_size(ENDIAN);
            let in_code = self.section_at(start).map(|section| section.code);
            match (symbol.st_type(), in_code) {
                _ if self.architecture.is_mark(name) => {}
                (elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE, Some(true)) if !name.is_empty() => {
                    self.functions.push(Span { start, end, name });
                }
                (elf::STT_OBJECT | elf::STT_TLS, Some(false)) if end > start => {
                    self.data.push(Span { start, end, name });
                }
                _ => {}
            }
        }
        Ok(meaning)
    }

    /// The addresses of the values that thread-local data begins with.
    fn thread_local(&self, header: &'d Header) -> Result<Range<u64>> {
        let segments = header.program_headers(ENDIAN, self.raw)?;
        let segment = segments.iter().find(|segment| segment.p_type(ENDIAN) == elf::PT_TLS);
        Ok(segment.map_or(0..0, |segment| {
            let start = segment.p_vaddr(ENDIAN);
            start..start + segment.p_filesz(ENDIAN)
        }))
    }

    /// A section of data for whose beginning the linker has defined this symbol: a list whose elements are defined in
    /// many places. A reference to its beginning counts as a reference to all elements.
    fn whole_section(&self, name: &'d str, start: u64) -> Option<Span<'d>> {
        let of = name.strip_prefix("__start_")?.as_bytes();
        let section = self.sections.iter().find(|section| section.name == of && section.start == start)?;
        let whole = !section.code && section.size > 0;
        whole.then(|| Span { start, end: start + section.size, name })
    }

    /// Whether this is the symbol that the linker defines for the end of a section. The data there belongs to another
    /// symbol.
    fn is_end_of_section(&self, name: &str) -> bool {
        let of = name.strip_prefix("__stop_").map(str::as_bytes);
        of.is_some_and(|of| self.sections.iter().any(|section| section.name == of))
    }

    /// Functions in assembly have no size: they end where the next starts.
    fn end_assembly(&mut self) {
        for position in 0..self.functions.len() {
            let start = self.functions[position].start;
            let next = self.functions.get(position + 1).map_or(u64::MAX, |next| next.start);
            let section_end = self.section_at(start).map_or(0, |section| section.start + section.size);
            let function = &mut self.functions[position];
            if function.end == start {
                function.end = next.min(section_end);
            }
        }
    }

    fn read_relocations(&mut self, header: &'d Header, kept: &[bool], meaning: &[Option<Symbol>]) -> Result<()> {
        let sections = header.sections(ENDIAN, self.raw)?;
        let mut of_code = false;
        for section in sections.iter() {
            let Some((relocations, _)) = section.rela(ENDIAN, self.raw)? else {
                continue;
            };
            let applies_to = section.sh_info(ENDIAN) as usize;
            // Zero stands for the relocations of the dynamic linker, which repeat others.
            if applies_to == 0 || !kept.get(applies_to).copied().unwrap_or(false) {
                continue;
            }
            // The relocations of the tables of imports do not need the flag.
            let name = sections.section_name(ENDIAN, sections.section(SectionIndex(applies_to))?)?;
            of_code |= name.starts_with(b".text") && !relocations.is_empty();
            for relocation in relocations {
                let index = relocation.r_sym(ENDIAN, false) as usize;
                let Some(symbol) = meaning.get(index).copied().flatten() else {
                    continue;
                };
                self.relocations.push(Relocation {
                    at: relocation.r_offset(ENDIAN),
                    kind: relocation.r_type(ENDIAN, false),
                    symbol,
                    addend: relocation.r_addend(ENDIAN),
                });
            }
        }
        if !of_code {
            bail!(
                "the link kept no relocations of its code: the linker does not know `--emit-relocs`, or does not get \
                 it. GNU ld and lld do; name one of them in the linker settings for this check"
            );
        }
        self.relocations.sort_by_key(|relocation| relocation.at);
        Ok(())
    }

    /// Notes which shared object each import is bound to.
    fn bind_imports(&mut self, header: &'d Header) -> Result<()> {
        let table = header.sections(ENDIAN, self.raw)?;
        let versions = table.versions(ENDIAN, self.raw)?;
        let dynamic = table.symbols(ENDIAN, self.raw, elf::SHT_DYNSYM)?;
        let mut bound = HashMap::new();
        for (index, symbol) in dynamic.enumerate() {
            let file = match &versions {
                Some(versions) => versions
                    .version(versions.version_index(ENDIAN, index).index())?
                    .and_then(object::read::elf::Version::file),
                None => None,
            };
            bound.insert(dynamic.symbol_name(ENDIAN, symbol)?, file);
        }
        let linked = table.dynamic_table(ENDIAN, self.raw)?;
        for entry in linked.iter().filter(|entry| entry.tag == elf::DT_NEEDED) {
            self.libraries.push(std::str::from_utf8(linked.string(entry)?).unwrap_or_default());
        }
        for import in &mut self.imports {
            let file = bound.get(import.name.as_bytes());
            import.looked_up = file.is_some();
            import.library = file.copied().flatten().and_then(|file| std::str::from_utf8(file).ok());
        }
        Ok(())
    }

    /// Adds the data without symbols, such as vtables and constants. Each starts at an address that a relocation refers
    /// to, and ends where the next starts.
    fn name_the_rest_of_the_data(&mut self) {
        tidy(&mut self.data);
        // The elements of a whole section are parts of it.
        let mut end = 0;
        self.data.retain(|datum| {
            let within = datum.start < end;
            if datum.name.starts_with("__start_") {
                end = end.max(datum.end);
            }
            !within
        });
        let mut starts: Vec<u64> = self
            .relocations
            .iter()
            .filter_map(|relocation| self.approximate_target(relocation))
            .filter(|start| self.section_at(*start).is_some_and(|section| !section.code))
            .filter(|start| find(&self.data, *start).is_none())
            .collect();
        starts.extend(self.sections.iter().filter(|section| !section.code).map(|section| section.start));
        starts.sort_unstable();
        starts.dedup();
        let mut ends: Vec<u64> = self.sections.iter().map(|section| section.start + section.size).collect();
        ends.extend(&starts);
        ends.extend(self.data.iter().map(|datum| datum.start));
        ends.sort_unstable();
        let unnamed = starts.into_iter().map(|start| {
            let end = ends[ends.partition_point(|end| *end <= start)..].first().copied();
            Span { start, end: end.unwrap_or(start), name: "" }
        });
        self.data.extend(unnamed);
        tidy(&mut self.data);
    }

    /// The target of a relocation, exact up to the length of an immediate.
    pub(crate) fn approximate_target(&self, relocation: &Relocation) -> Option<u64> {
        let Symbol::Address(symbol) = relocation.symbol else {
            return None;
        };
        match self.architecture.reference(relocation.kind) {
            Reference::FromNextInstruction => Some(symbol.wrapping_add_signed(relocation.addend + 4)),
            Reference::Address => Some(symbol.wrapping_add_signed(relocation.addend)),
            Reference::Entry => Some(symbol),
            Reference::Nothing => None,
        }
    }

    fn number_imports(&mut self) -> Result<()> {
        let before = u32::try_from(self.functions.len() + self.data.len())?;
        for relocation in &mut self.relocations {
            if let Symbol::Import(Node(number)) = &mut relocation.symbol {
                *number += before;
            }
        }
        Ok(())
    }

    fn section_at(&self, address: u64) -> Option<&Section<'d>> {
        let after = self.sections.partition_point(|section| section.start <= address);
        // An empty section may start at the same address as a full one.
        self.sections[..after].iter().rev().take(4).find(|section| section.contains(address))
    }

    fn span(&self, node: Node) -> Option<&Span<'d>> {
        let index = node.index();
        self.functions.get(index).or_else(|| self.data.get(index.checked_sub(self.functions.len())?))
    }

    fn import(&self, node: Node) -> Option<&Import<'d>> {
        self.imports.get(node.index().checked_sub(self.functions.len() + self.data.len())?)
    }

    fn node(index: usize) -> Node {
        Node(u32::try_from(index).expect("a symbol table has fewer than 2^32 entries"))
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.functions.len() + self.data.len() + self.imports.len()
    }

    /// Every function, in the order of addresses.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Node> {
        (0..self.functions.len()).map(Self::node)
    }

    /// Every symbol that another file defines.
    pub(crate) fn imports(&self) -> impl Iterator<Item = Node> {
        let before = self.functions.len() + self.data.len();
        (before..before + self.imports.len()).map(Self::node)
    }

    pub(crate) fn function_at(&self, address: u64) -> Option<Node> {
        find(&self.functions, address).map(Self::node)
    }

    /// The function or the data at `address`.
    pub(crate) fn node_at(&self, address: u64) -> Option<Node> {
        self.function_at(address)
            .or_else(|| find(&self.data, address).map(|index| Self::node(self.functions.len() + index)))
    }

    pub(crate) fn kind(&self, node: Node) -> Kind {
        if node.index() < self.functions.len() {
            Kind::Function
        } else if node.index() < self.functions.len() + self.data.len() {
            Kind::Data { vtable: self.is_vtable(node) }
        } else {
            Kind::Import
        }
    }

    /// The mangled name; empty where there is none.
    pub(crate) fn name(&self, node: Node) -> &'d str {
        self.span(node)
            .map(|span| span.name)
            .or_else(|| self.import(node).map(|import| import.name))
            .unwrap_or_default()
    }

    /// Its other names: the C library's functions have several.
    pub(crate) fn aliases(&self, node: Node) -> impl Iterator<Item = &'d str> {
        self.aliases.get(&self.address(node)).into_iter().flatten().copied()
    }

    /// The shared object that defines an imported symbol.
    pub(crate) fn library(&self, node: Node) -> Option<&'d str> {
        self.import(node)?.library
    }

    /// Whether the dynamic linker looks an imported symbol up.
    pub(crate) fn is_looked_up(&self, node: Node) -> bool {
        self.import(node).is_some_and(|import| import.looked_up)
    }

    /// Whether an imported symbol may be missing.
    pub(crate) fn is_weak(&self, node: Node) -> bool {
        self.import(node).is_some_and(|import| import.weak)
    }

    /// The shared objects that the program is linked with.
    pub(crate) fn libraries(&self) -> &[&'d str] {
        &self.libraries
    }

    /// The first address; 0 for an import.
    pub(crate) fn address(&self, node: Node) -> u64 {
        self.span(node).map_or(0, |span| span.start)
    }

    /// The bytes as they are in the file, before the dynamic linker relocates addresses in data.
    pub(crate) fn bytes(&self, node: Node) -> &'d [u8] {
        let Some(span) = self.span(node) else {
            return &[];
        };
        let Some(section) = self.section_at(span.start) else {
            return &[];
        };
        let offset = |address: u64| usize::try_from(address - section.start).unwrap_or(usize::MAX);
        section.bytes.get(offset(span.start)..offset(span.end)).unwrap_or_default()
    }

    /// The bytes of a constant, without texts after it that nothing refers to.
    ///
    /// No reference marks the start of such a text. A linker that keeps or drops whole sections, as GNU ld does, keeps
    /// it with another text of the section. Only texts that end with a zero byte share a section.
    pub(crate) fn constant(&self, node: Node) -> &'d [u8] {
        let bytes = self.bytes(node);
        let named = self.span(node).is_some_and(|span| !span.name.is_empty());
        if named { bytes } else { &bytes[..end_of_text(bytes)] }
    }

    pub(crate) fn relocations(&self, node: Node) -> &[Relocation] {
        let Some(span) = self.span(node) else {
            return &[];
        };
        let from = self.relocations.partition_point(|relocation| relocation.at < span.start);
        let rest = &self.relocations[from..];
        // A node has few relocations: counting them is faster than another binary search.
        &rest[..rest.iter().take_while(|relocation| relocation.at < span.end).count()]
    }

    pub(crate) fn all_relocations(&self) -> &[Relocation] {
        &self.relocations
    }

    /// Whether data looks like a vtable: the address of the drop glue, or zero; size; alignment; then the addresses of
    /// methods.
    fn is_vtable(&self, node: Node) -> bool {
        let Some(span) = self.span(node).filter(|span| span.name.is_empty()) else {
            return false;
        };
        let bytes = self.bytes(node);
        let word = |index: usize| Some(u64::from_le_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?));
        let resolved =
            |index: u64| self.relocations(node).iter().any(|relocation| relocation.at == span.start + index * 8);
        let (Some(drop), Some(_), Some(align)) = (word(0), word(1), word(2)) else {
            return false;
        };
        (drop == 0 || resolved(0)) && !resolved(1) && !resolved(2) && align.is_power_of_two() && align <= 1 << 29
    }

    /// The section of debug information of that name, as `gimli` asks for it.
    pub(crate) fn section(&self, name: &str) -> Result<&'d [u8]> {
        section(self.raw, name)
    }
}

/// The section of debug information of that name; nothing where there is none.
pub(crate) fn section<'d>(file: impl ReadRef<'d>, name: &str) -> Result<&'d [u8]> {
    let header = Header::parse(file)?;
    let table = header.sections(ENDIAN, file)?;
    let Some((_, section)) = table.section_by_name(ENDIAN, name.as_bytes()) else {
        return Ok(&[]);
    };
    if section.compression(ENDIAN, file)?.is_some() {
        bail!("its debug information is compressed: link it without `--compress-debug-sections`");
    }
    Ok(section.data(ENDIAN, file)?)
}

/// The sections that are in memory when the program runs, by address; and for every section whether it is one.
fn read_sections<'d>(header: &'d Header, raw: &'d [u8]) -> Result<(Vec<Section<'d>>, Vec<bool>)> {
    let table = header.sections(ENDIAN, raw)?;
    let mut sections = Vec::new();
    let mut all = Vec::new();
    for section in table.iter() {
        let flags = section.sh_flags(ENDIAN);
        let name = table.section_name(ENDIAN, section)?;
        // Unwind tables refer to every function, but call none.
        let unwinding = name == b".eh_frame" || name == b".eh_frame_hdr" || name.starts_with(b".gcc_except_table");
        let zeroed = section.sh_type(ENDIAN) == elf::SHT_NOBITS;
        // The addresses of zeroed thread-local data overlap with other sections.
        let shared = zeroed && flags.contains(elf::SHF_TLS);
        let kept = flags.contains(elf::SHF_ALLOC) && !shared && !unwinding;
        all.push(kept);
        if kept {
            sections.push(Section {
                name,
                start: section.sh_addr(ENDIAN),
                bytes: if zeroed { &[] } else { section.data(ENDIAN, raw)? },
                size: section.sh_size(ENDIAN),
                code: flags.contains(elf::SHF_EXECINSTR),
            });
        }
    }
    sections.sort_by_key(|section| section.start);
    Ok((sections, all))
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// Sorts spans by address, and keeps one for each address: the longest, and the first of equals. Returns the others.
fn tidy<'d>(spans: &mut Vec<Span<'d>>) -> Vec<Span<'d>> {
    spans.sort_by(|a, b| (a.start, b.end, a.name.is_empty()).cmp(&(b.start, a.end, b.name.is_empty())));
    let (mut kept, mut others): (Vec<Span<'d>>, _) = (Vec::with_capacity(spans.len()), Vec::new());
    for span in spans.drain(..) {
        match kept.last() {
            Some(last) if last.start == span.start => others.push(span),
            _ => kept.push(span),
        }
    }
    *spans = kept;
    others
}

fn find(spans: &[Span<'_>], address: u64) -> Option<usize> {
    let index = spans.partition_point(|span| span.start <= address).checked_sub(1)?;
    (address < spans[index].end).then_some(index)
}

/// The end of a constant if it is a text: its first zero byte.
///
/// In the compiler's templates of `format_args!` zero bytes may also be within the length of a piece (after `0x80`) and
/// the options of a placeholder (after a byte from `0xc0` on: flags, width, precision, index).
fn end_of_text(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            0 => return at,
            0x80 => 3,
            0xc0.. => {
                let options = [4, 2, 2, 2].into_iter().enumerate();
                1 + options.filter(|(bit, _)| byte >> bit & 1 == 1).map(|(_, size)| size).sum::<usize>()
            }
            _ => 1,
        };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::end_of_text;

    #[test]
    fn a_text_ends_at_its_first_zero_byte() {
        assert_eq!(end_of_text(b"src/lib.rs\0\x0f/sys/class/net/\xc0\0"), 10);
        assert_eq!(end_of_text(b"/proc/net/dev"), 13);
        assert_eq!(end_of_text(b"\x03\0\0\0\0\0\0\0/proc/net"), 1);
    }

    #[test]
    fn zero_bytes_within_a_format_template_do_not_end_it() {
        // `{:>5}`: flags and width.
        let width = b"\x01a\xc3\x20\0\0\x68\x05\0\x09/proc/net\0/sys/class/net";
        assert_eq!(end_of_text(width), 19);
        // A piece of 200 bytes.
        let long = [b"\x80\xc8\0".as_slice(), &[b'a'; 200], b"\x01b\0/proc/net"].concat();
        assert_eq!(end_of_text(&long), 205);
    }
}
