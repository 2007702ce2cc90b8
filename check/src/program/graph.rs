//! The graph of references: the edges out of one function or one piece of data.
//!
//! Edges are computed on demand, because a search sees a small part of a program.

use std::collections::HashSet;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use crate::program::image::{Image, Kind, Node, Relocation, Symbol};
use crate::program::instruction::{Flow, Instruction, Location, Reference, Write};

/// One reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub to: Node,
    /// The address of the instruction or of the word of data.
    pub at: u64,
    /// A call or a jump; otherwise the address is taken, and may be called later.
    pub call: bool,
}

/// The edges out of one node.
#[derive(Default)]
pub(crate) struct Edges {
    pub references: Vec<Edge>,
    /// Calls through a register or memory.
    pub indirect_calls: Vec<u64>,
}

pub(crate) struct Graph<'i, 'd> {
    pub image: &'i Image<'d>,
    /// The edges of each node, once they were computed.
    known: Vec<OnceLock<Box<Edges>>>,
}

impl<'i, 'd> Graph<'i, 'd> {
    pub(crate) fn new(image: &'i Image<'d>) -> Self {
        let known = std::iter::repeat_with(OnceLock::new).take(image.nodes()).collect();
        Self { image, known }
    }

    pub(crate) fn edges(&self, node: Node) -> &Edges {
        self.known[node.index()].get_or_init(|| {
            Box::new(match self.image.kind(node) {
                Kind::Function => self.read_code(node),
                Kind::Data { .. } => self.read_data(node),
                Kind::Import => Edges::default(),
            })
        })
    }

    /// The functions that refer to `target`, and where.
    pub(crate) fn callers(&self, target: Node) -> Vec<(Node, u64)> {
        let mut callers: Vec<_> =
            self.references_to(&HashSet::from([target])).into_iter().map(|(caller, edge)| (caller, edge.at)).collect();
        callers.dedup_by_key(|(caller, _)| *caller);
        callers
    }

    /// The functions that refer to one of `targets`, each with every such reference.
    pub(crate) fn references_to(&self, targets: &HashSet<Node>) -> Vec<(Node, Edge)> {
        let mut starts: Vec<u64> = targets.iter().map(|target| self.image.address(*target)).collect();
        starts.sort_unstable();
        // The target of a relocation is exact up to the length of an immediate. The edges are exact.
        let near = |address: u64| {
            let after = starts.partition_point(|start| *start < address.saturating_sub(8));
            starts.get(after).is_some_and(|start| start.abs_diff(address) <= 8)
        };
        let mut callers = Vec::new();
        for relocation in self.image.all_relocations() {
            let possible = match relocation.symbol {
                Symbol::Import(import) => targets.contains(&import),
                Symbol::Address(_) => self.image.approximate_target(relocation).is_some_and(near),
            };
            if possible && let Some(caller) = self.image.function_at(relocation.at) {
                callers.push(caller);
            }
        }
        callers.sort_unstable();
        callers.dedup();
        callers
            .into_iter()
            .flat_map(|caller| {
                let edges = self.edges(caller);
                let found: Vec<_> =
                    edges.references.iter().copied().filter(|edge| targets.contains(&edge.to)).collect();
                found.into_iter().map(move |edge| (caller, edge))
            })
            .collect()
    }

    fn read_code(&self, node: Node) -> Edges {
        let relocations = self.image.relocations(node);
        let mut edges = Edges::default();
        let mut held = Held::default();
        let mut next = 0;
        self.image.architecture.decode(self.image.bytes(node), self.image.address(node), |instruction| {
            let before = edges.references.len();
            let mut resolved = false;
            while let Some(relocation) = relocations.get(next).filter(|relocation| relocation.at < instruction.next) {
                next += 1;
                resolved = true;
                if let Some(to) = self.target_in_code(relocation, instruction.next) {
                    edges.references.push(Edge { to, at: instruction.at, call: instruction.flow != Flow::Next });
                }
            }
            if !resolved {
                if let Some(edge) = self.resolved_in_code(instruction, node) {
                    edges.references.push(edge);
                } else if let Some(loaded) = held.called(instruction) {
                    let loaded = &mut edges.references[loaded];
                    loaded.call = true;
                    loaded.at = instruction.at;
                } else if matches!(instruction.flow, Flow::IndirectCall(_)) {
                    edges.indirect_calls.push(instruction.at);
                }
            }
            held.follow(instruction, (edges.references.len() > before).then_some(before));
        });
        edges
    }

    fn target_in_code(&self, relocation: &Relocation, next_instruction: u64) -> Option<Node> {
        let reference = self.image.architecture.reference(relocation.kind);
        if reference == Reference::Nothing {
            return None;
        }
        let symbol = match relocation.symbol {
            Symbol::Import(import) => return Some(import),
            Symbol::Address(address) => address,
        };
        let target = match reference {
            Reference::FromNextInstruction => {
                symbol.wrapping_add_signed(relocation.addend).wrapping_add(next_instruction - relocation.at)
            }
            Reference::Address => symbol.wrapping_add_signed(relocation.addend),
            Reference::Entry | Reference::Nothing => symbol,
        };
        self.image.node_at(target)
    }

    /// A call within one section, which the assembler resolved without a relocation.
    fn resolved_in_code(&self, instruction: &Instruction, node: Node) -> Option<Edge> {
        let (Flow::Call(Some(target)) | Flow::Jump(Some(target))) = instruction.flow else {
            return None;
        };
        let to = self.image.function_at(target).filter(|to| *to != node)?;
        Some(Edge { to, at: instruction.at, call: true })
    }

    fn read_data(&self, node: Node) -> Edges {
        let references = self
            .image
            .relocations(node)
            .iter()
            // Tables of jumps hold differences, which are no references.
            .filter(|relocation| relocation.kind == self.image.architecture.word())
            .filter_map(|relocation| {
                let to = match relocation.symbol {
                    Symbol::Import(import) => import,
                    Symbol::Address(address) => self.image.node_at(address.wrapping_add_signed(relocation.addend))?,
                };
                Some(Edge { to, at: relocation.at, call: false })
            })
            .collect();
        Edges { references, indirect_calls: Vec::new() }
    }
}

/// The addresses that registers and stack slots hold, each by the edge that loaded it.
///
/// Unoptimised code loads the address of a function and then calls the register. That counts as a direct call.
#[derive(Default)]
struct Held {
    registers: FxHashMap<Location, usize>,
    slots: FxHashMap<Location, usize>,
}

impl Held {
    fn get(&self, location: Location) -> Option<usize> {
        let held = match location {
            Location::Register(_) => &self.registers,
            Location::Slot(..) => &self.slots,
        };
        held.get(&location).copied()
    }

    /// The edge that loaded what this instruction calls.
    fn called(&self, instruction: &Instruction) -> Option<usize> {
        match instruction.flow {
            Flow::IndirectCall(through) | Flow::IndirectJump(through) => self.get(through?),
            _ => None,
        }
    }

    fn follow(&mut self, instruction: &Instruction, loaded: Option<usize>) {
        if matches!(instruction.flow, Flow::Call(_) | Flow::IndirectCall(_)) {
            self.registers.clear();
            return;
        }
        // An instruction reads its sources before it writes.
        let copied = instruction.writes.map(|write| self.get(write?.from?));
        for (write, copied) in instruction.writes.into_iter().zip(copied) {
            let Some(Write { to, .. }) = write else { continue };
            let (locations, edge) = match to {
                Location::Register(_) => (&mut self.registers, loaded.or(copied)),
                Location::Slot(..) => (&mut self.slots, copied),
            };
            match edge {
                Some(edge) => locations.insert(to, edge),
                None => locations.remove(&to),
            };
        }
    }
}
