//! Relocations and instructions of `x86_64`.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind, Register};
use object::elf::{self, RelocationType};

use crate::program::instruction::{Flow, Instruction, Location, Reference, Write};

pub(crate) fn reference(kind: RelocationType) -> Reference {
    match kind {
        // The address is relative to the end of the instruction, which is four bytes on, or more where an immediate
        // follows.
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => Reference::FromNextInstruction,
        elf::R_X86_64_64
        | elf::R_X86_64_32
        | elf::R_X86_64_32S
        | elf::R_X86_64_DTPOFF32
        | elf::R_X86_64_DTPOFF64
        | elf::R_X86_64_TPOFF32
        | elf::R_X86_64_TPOFF64 => Reference::Address,
        // The base of the thread-local data, and the marker of a call.
        elf::R_X86_64_TLSLD | elf::R_X86_64_TLSDESC_CALL => Reference::Nothing,
        _ => Reference::Entry,
    }
}

pub(crate) fn decode(bytes: &[u8], address: u64, mut visit: impl FnMut(&Instruction)) {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut instruction = iced_x86::Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        visit(&Instruction {
            at: instruction.ip(),
            next: instruction.next_ip(),
            flow: flow(&instruction),
            writes: [write(&instruction), None, None],
        });
    }
}

pub(crate) fn constants(bytes: &[u8], mut visit: impl FnMut(u64, Option<Location>)) {
    for instruction in &mut Decoder::new(64, bytes, DecoderOptions::NONE) {
        let moves = instruction.mnemonic() == Mnemonic::Mov && instruction.op0_kind() == OpKind::Register;
        let to = moves.then(|| Location::Register(instruction.op0_register().full_register() as u16));
        for operand in 0..instruction.op_count() {
            if matches!(instruction.op_kind(operand), OpKind::Immediate32 | OpKind::Immediate32to64) {
                visit(instruction.immediate(operand) & 0xffff_ffff, to);
            }
        }
    }
}

/// Whether a location may hold an argument of a call.
pub(crate) fn is_argument(location: Location) -> bool {
    let registers = [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
    registers.iter().any(|register| location == Location::Register(*register as u16))
}

fn flow(instruction: &iced_x86::Instruction) -> Flow {
    let to = || (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target());
    let through = || match instruction.op0_kind() {
        OpKind::Register => Some(Location::Register(instruction.op0_register() as u16)),
        OpKind::Memory => slot(instruction),
        _ => None,
    };
    match instruction.flow_control() {
        FlowControl::Next => Flow::Next,
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => Flow::Jump(to()),
        FlowControl::Call => Flow::Call(to()),
        FlowControl::IndirectBranch => Flow::IndirectJump(through()),
        // A call through an entry at a fixed address.
        FlowControl::IndirectCall
            if instruction.op0_kind() == OpKind::Memory && instruction.memory_base() == Register::RIP =>
        {
            Flow::Call(None)
        }
        FlowControl::IndirectCall => Flow::IndirectCall(through()),
        _ => Flow::Other,
    }
}

fn write(instruction: &iced_x86::Instruction) -> Option<Write> {
    let moves = instruction.mnemonic() == Mnemonic::Mov;
    match instruction.op0_kind() {
        OpKind::Register => {
            let to = Location::Register(instruction.op0_register().full_register() as u16);
            let from = match instruction.op1_kind() {
                OpKind::Memory if moves => slot(instruction),
                OpKind::Register if moves => Some(Location::Register(instruction.op1_register() as u16)),
                _ => None,
            };
            Some(Write { to, from })
        }
        OpKind::Memory => {
            let from = moves.then(|| Location::Register(instruction.op1_register() as u16));
            Some(Write { to: slot(instruction)?, from })
        }
        _ => None,
    }
}

/// The place on the stack that an instruction reads or writes.
fn slot(instruction: &iced_x86::Instruction) -> Option<Location> {
    let base = instruction.memory_base();
    let on_stack = matches!(base, Register::RSP | Register::RBP) && instruction.memory_index() == Register::None;
    on_stack.then(|| Location::Slot(base as u16, instruction.memory_displacement64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_local_data_is_referred_to_by_offsets_and_by_entries() {
        for kind in [elf::R_X86_64_TPOFF32, elf::R_X86_64_DTPOFF32] {
            assert_eq!(reference(kind), Reference::Address);
        }
        for kind in [elf::R_X86_64_TLSGD, elf::R_X86_64_GOTTPOFF, elf::R_X86_64_GOTPC32_TLSDESC] {
            assert_eq!(reference(kind), Reference::Entry);
        }
        assert_eq!(reference(elf::R_X86_64_TLSLD), Reference::Nothing);
    }

    #[test]
    fn a_constant_that_is_an_argument_is_told_from_others() {
        // mov esi, 0x20000; mov dword [rsp+8], 0x200; or edi, 0x20000; mov eax, 0x200
        let bytes = [
            &[0xbe, 0, 0, 2, 0][..],
            &[0xc7, 0x44, 0x24, 8, 0, 2, 0, 0],
            &[0x81, 0xcf, 0, 0, 2, 0],
            &[0xb8, 0, 2, 0, 0],
        ];
        let mut found = Vec::new();
        constants(&bytes.concat(), |constant, to| found.push((constant, to.is_some_and(is_argument))));
        assert_eq!(found, [(0x2_0000, true), (0x200, false), (0x2_0000, false), (0x200, false)]);
    }

    fn decoded(bytes: &[u8]) -> Vec<(Flow, Option<Write>)> {
        let mut found = Vec::new();
        decode(bytes, 0x1000, |instruction| found.push((instruction.flow, instruction.writes[0])));
        found
    }

    #[test]
    fn a_call_has_a_target_or_a_register() {
        // call 0x2000; call rax; call [rip+0x10]
        let flows: Vec<_> = decoded(&[0xe8, 0xfb, 0x0f, 0, 0, 0xff, 0xd0, 0xff, 0x15, 0x10, 0, 0, 0])
            .into_iter()
            .map(|(flow, _)| flow)
            .collect();
        let rax = Location::Register(Register::RAX as u16);
        assert_eq!(flows, [Flow::Call(Some(0x2000)), Flow::IndirectCall(Some(rax)), Flow::Call(None)]);
    }

    #[test]
    fn an_address_moves_through_the_stack() {
        // mov [rsp+8], rax; mov rcx, [rsp+8]
        let writes: Vec<_> = decoded(&[0x48, 0x89, 0x44, 0x24, 8, 0x48, 0x8b, 0x4c, 0x24, 8])
            .into_iter()
            .filter_map(|(_, write)| write)
            .collect();
        let slot = Location::Slot(Register::RSP as u16, 8);
        let (rax, rcx) = (Location::Register(Register::RAX as u16), Location::Register(Register::RCX as u16));
        assert_eq!(writes, [Write { to: slot, from: Some(rax) }, Write { to: rcx, from: Some(slot) }]);
    }
}
