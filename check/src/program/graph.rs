//! Who refers to whom: the edges out of one function or one piece of data.
//!
//! Edges are found when they are asked for: a search sees a small part of a program.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::elf::{self, RelocationType};

use crate::program::image::{Image, Kind, Node, NodeMap, Relocation, Symbol};

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
    /// Calls whose target only a register or memory knows.
    pub indirect_calls: Vec<u64>,
}

pub(crate) struct Graph<'i, 'd> {
    pub image: &'i Image<'d>,
    known: RefCell<NodeMap<Rc<Edges>>>,
}

impl<'i, 'd> Graph<'i, 'd> {
    pub(crate) fn new(image: &'i Image<'d>) -> Self {
        Self { image, known: RefCell::default() }
    }

    pub(crate) fn edges(&self, node: Node) -> Rc<Edges> {
        if let Some(edges) = self.known.borrow().get(&node) {
            return Rc::clone(edges);
        }
        let edges = Rc::new(match self.image.kind(node) {
            Kind::Function => self.read_code(node),
            Kind::Data { .. } => self.read_data(node),
            Kind::Import => Edges::default(),
        });
        self.known.borrow_mut().insert(node, Rc::clone(&edges));
        edges
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
        // A relocation tells its target up to the length of an immediate; the edges tell it exactly.
        let near = |address: u64| {
            let after = starts.partition_point(|start| *start < address.saturating_sub(8));
            starts.get(after).is_some_and(|start| start.abs_diff(address) <= 8)
        };
        let mut callers = Vec::new();
        for relocation in self.image.all_relocations() {
            let possible = match relocation.symbol {
                Symbol::Import(import) => targets.contains(&import),
                Symbol::Address(_) => approximate_target(relocation).is_some_and(near),
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

    /// The constants in a function's instructions.
    pub(crate) fn constants(&self, node: Node) -> HashSet<u64> {
        let mut decoder = Decoder::with_ip(64, self.image.bytes(node), self.image.address(node), DecoderOptions::NONE);
        let mut constants = HashSet::new();
        for instruction in &mut decoder {
            for operand in 0..instruction.op_count() {
                if matches!(instruction.op_kind(operand), OpKind::Immediate32 | OpKind::Immediate32to64) {
                    constants.insert(instruction.immediate(operand) & 0xffff_ffff);
                }
            }
        }
        constants
    }

    fn read_code(&self, node: Node) -> Edges {
        let relocations = self.image.relocations(node);
        let bytes = self.image.bytes(node);
        let mut decoder = Decoder::with_ip(64, bytes, self.image.address(node), DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut edges = Edges::default();
        let mut held = Held::default();
        let mut next = 0;
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            let before = edges.references.len();
            let mut resolved = false;
            while let Some(relocation) =
                relocations.get(next).filter(|relocation| relocation.at < instruction.next_ip())
            {
                next += 1;
                resolved = true;
                if let Some(to) = self.target_in_code(relocation, instruction.next_ip()) {
                    let call = instruction.flow_control() != FlowControl::Next;
                    edges.references.push(Edge { to, at: instruction.ip(), call });
                }
            }
            if !resolved {
                if let Some(edge) = self.resolved_in_code(&instruction, node) {
                    edges.references.push(edge);
                } else if let Some(loaded) = held.called(&instruction) {
                    let loaded = &mut edges.references[loaded];
                    loaded.call = true;
                    loaded.at = instruction.ip();
                } else if calls_unknown(&instruction) {
                    edges.indirect_calls.push(instruction.ip());
                }
            }
            held.follow(&instruction, (edges.references.len() > before).then_some(before));
        }
        edges
    }

    fn target_in_code(&self, relocation: &Relocation, next_instruction: u64) -> Option<Node> {
        if is_thread_local(relocation.kind) {
            return None;
        }
        let symbol = match relocation.symbol {
            Symbol::Import(import) => return Some(import),
            Symbol::Address(address) => address,
        };
        let target = match relocation.kind {
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => {
                // The processor counts from the end of the instruction, which is four bytes on, or more where an
                // immediate follows.
                symbol.wrapping_add_signed(relocation.addend).wrapping_add(next_instruction - relocation.at)
            }
            elf::R_X86_64_64 | elf::R_X86_64_32 | elf::R_X86_64_32S => symbol.wrapping_add_signed(relocation.addend),
            // Through the table of addresses: the entry is the symbol's.
            _ => symbol,
        };
        self.image.node_at(target)
    }

    /// A call that the assembler resolved by itself, within one section: it leaves no relocation.
    fn resolved_in_code(&self, instruction: &Instruction, node: Node) -> Option<Edge> {
        let branches = matches!(
            instruction.flow_control(),
            FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
        );
        if !branches || instruction.op0_kind() != OpKind::NearBranch64 {
            return None;
        }
        let to = self.image.function_at(instruction.near_branch_target()).filter(|to| *to != node)?;
        Some(Edge { to, at: instruction.ip(), call: true })
    }

    fn read_data(&self, node: Node) -> Edges {
        let references = self
            .image
            .relocations(node)
            .iter()
            // Tables of jumps hold differences: those are no references.
            .filter(|relocation| relocation.kind == elf::R_X86_64_64)
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
/// Unoptimised code loads the address of a function and then calls the register: that is a plain call, not one whose
/// target only the register knows.
#[derive(Default)]
struct Held {
    registers: HashMap<Register, usize>,
    slots: HashMap<(Register, u64), usize>,
}

impl Held {
    /// The edge that loaded what this instruction calls.
    fn called(&self, instruction: &Instruction) -> Option<usize> {
        let calls = matches!(instruction.flow_control(), FlowControl::IndirectCall | FlowControl::IndirectBranch);
        match instruction.op0_kind() {
            OpKind::Register if calls => self.registers.get(&instruction.op0_register()).copied(),
            OpKind::Memory if calls => self.slots.get(&slot(instruction)?).copied(),
            _ => None,
        }
    }

    fn follow(&mut self, instruction: &Instruction, loaded: Option<usize>) {
        if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            self.registers.clear();
            return;
        }
        let moves = instruction.mnemonic() == Mnemonic::Mov;
        match instruction.op0_kind() {
            OpKind::Register => {
                let register = instruction.op0_register().full_register();
                let from_slot = (moves && instruction.op1_kind() == OpKind::Memory)
                    .then(|| slot(instruction).and_then(|slot| self.slots.get(&slot).copied()))
                    .flatten();
                let from_register = (moves && instruction.op1_kind() == OpKind::Register)
                    .then(|| self.registers.get(&instruction.op1_register()).copied())
                    .flatten();
                match loaded.or(from_slot).or(from_register) {
                    Some(edge) => self.registers.insert(register, edge),
                    None => self.registers.remove(&register),
                };
            }
            OpKind::Memory => {
                let Some(slot) = slot(instruction) else {
                    return;
                };
                match self.registers.get(&instruction.op1_register()) {
                    Some(edge) if moves => self.slots.insert(slot, *edge),
                    _ => self.slots.remove(&slot),
                };
            }
            _ => {}
        }
    }
}

/// The place on the stack that an instruction reads or writes.
fn slot(instruction: &Instruction) -> Option<(Register, u64)> {
    let base = instruction.memory_base();
    let on_stack = matches!(base, Register::RSP | Register::RBP) && instruction.memory_index() == Register::None;
    on_stack.then(|| (base, instruction.memory_displacement64()))
}

fn calls_unknown(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::IndirectCall
        && (instruction.op0_kind() == OpKind::Register || instruction.memory_base() != Register::RIP)
}

fn is_thread_local(kind: RelocationType) -> bool {
    matches!(
        kind,
        elf::R_X86_64_TLSGD
            | elf::R_X86_64_TLSLD
            | elf::R_X86_64_DTPOFF32
            | elf::R_X86_64_DTPOFF64
            | elf::R_X86_64_GOTTPOFF
            | elf::R_X86_64_CODE_4_GOTTPOFF
            | elf::R_X86_64_TPOFF32
            | elf::R_X86_64_TPOFF64
            | elf::R_X86_64_GOTPC32_TLSDESC
            | elf::R_X86_64_CODE_4_GOTPC32_TLSDESC
            | elf::R_X86_64_TLSDESC_CALL
    )
}

/// Where a relocation leads, up to the length of an immediate.
fn approximate_target(relocation: &Relocation) -> Option<u64> {
    let Symbol::Address(symbol) = relocation.symbol else {
        return None;
    };
    Some(match relocation.kind {
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => symbol.wrapping_add_signed(relocation.addend + 4),
        elf::R_X86_64_64 => symbol.wrapping_add_signed(relocation.addend),
        _ => symbol,
    })
}
