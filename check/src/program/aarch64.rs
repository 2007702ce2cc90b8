//! Relocations and instructions of `aarch64`.
//!
//! Each instruction is a word of 32 bits. The decoder reads branches, and which registers and slots of the stack an
//! instruction writes. The groups are those of the Arm Architecture Reference Manual, section C4.1, "A64 instruction
//! set encoding".

use object::elf::{self, RelocationType};

use crate::program::instruction::{Flow, Instruction, Location, Reference, Write};

/// The zero register as a destination or a source, the stack pointer as the base of an address.
const ZERO_OR_STACK: u32 = 31;
const FRAME: u32 = 29;

/// An address takes two instructions, one for the page and one for the rest, which counts as the reference. Of an
/// address in four parts of 16 bits, the lowest part counts.
pub(crate) fn reference(kind: RelocationType) -> Reference {
    match kind {
        elf::R_AARCH64_ABS64
        | elf::R_AARCH64_ABS32
        | elf::R_AARCH64_PREL64
        | elf::R_AARCH64_PREL32
        | elf::R_AARCH64_PLT32
        | elf::R_AARCH64_LD_PREL_LO19
        | elf::R_AARCH64_ADR_PREL_LO21
        | elf::R_AARCH64_ADD_ABS_LO12_NC
        | elf::R_AARCH64_LDST8_ABS_LO12_NC
        | elf::R_AARCH64_LDST16_ABS_LO12_NC
        | elf::R_AARCH64_LDST32_ABS_LO12_NC
        | elf::R_AARCH64_LDST64_ABS_LO12_NC
        | elf::R_AARCH64_LDST128_ABS_LO12_NC
        | elf::R_AARCH64_MOVW_UABS_G0
        | elf::R_AARCH64_MOVW_UABS_G0_NC
        | elf::R_AARCH64_MOVW_SABS_G0
        | elf::R_AARCH64_MOVW_PREL_G0
        | elf::R_AARCH64_MOVW_PREL_G0_NC
        | elf::R_AARCH64_TLSLE_MOVW_TPREL_G0
        | elf::R_AARCH64_TLSLE_MOVW_TPREL_G0_NC
        | elf::R_AARCH64_TLSLE_ADD_TPREL_LO12
        | elf::R_AARCH64_TLSLE_ADD_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLE_LDST8_TPREL_LO12
        | elf::R_AARCH64_TLSLE_LDST8_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLE_LDST16_TPREL_LO12
        | elf::R_AARCH64_TLSLE_LDST16_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLE_LDST32_TPREL_LO12
        | elf::R_AARCH64_TLSLE_LDST32_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLE_LDST64_TPREL_LO12
        | elf::R_AARCH64_TLSLE_LDST64_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLE_LDST128_TPREL_LO12
        | elf::R_AARCH64_TLSLE_LDST128_TPREL_LO12_NC
        | elf::R_AARCH64_TLSLD_MOVW_DTPREL_G0
        | elf::R_AARCH64_TLSLD_MOVW_DTPREL_G0_NC
        | elf::R_AARCH64_TLSLD_ADD_DTPREL_LO12
        | elf::R_AARCH64_TLSLD_ADD_DTPREL_LO12_NC
        | elf::R_AARCH64_TSTBR14
        | elf::R_AARCH64_CONDBR19
        | elf::R_AARCH64_JUMP26
        | elf::R_AARCH64_CALL26 => Reference::Address,
        elf::R_AARCH64_MOVW_GOTOFF_G0
        | elf::R_AARCH64_MOVW_GOTOFF_G0_NC
        | elf::R_AARCH64_GOT_LD_PREL19
        | elf::R_AARCH64_LD64_GOTOFF_LO15
        | elf::R_AARCH64_LD64_GOT_LO12_NC
        | elf::R_AARCH64_LD64_GOTPAGE_LO15
        | elf::R_AARCH64_TLSGD_ADR_PREL21
        | elf::R_AARCH64_TLSGD_ADD_LO12_NC
        | elf::R_AARCH64_TLSGD_MOVW_G0_NC
        | elf::R_AARCH64_TLSIE_MOVW_GOTTPREL_G0_NC
        | elf::R_AARCH64_TLSIE_LD64_GOTTPREL_LO12_NC
        | elf::R_AARCH64_TLSIE_LD_GOTTPREL_PREL19
        | elf::R_AARCH64_TLSDESC_ADR_PREL21
        | elf::R_AARCH64_TLSDESC_ADD_LO12
        | elf::R_AARCH64_TLSDESC_OFF_G0_NC
        | elf::R_AARCH64_GOTPCREL32 => Reference::Entry,
        // These are pages, upper parts, and the base of the thread-local data. The relocations of the dynamic linker
        // repeat others.
        _ => Reference::Nothing,
    }
}

pub(crate) fn decode(bytes: &[u8], address: u64, mut visit: impl FnMut(&Instruction)) {
    let mut at = address;
    for word in words(bytes) {
        let next = at.wrapping_add(4);
        visit(&Instruction { at, next, flow: flow(word, at), writes: writes(word) });
        at = next;
    }
}

/// Visits the constants. A constant is made in steps of 16 bits, by consecutive instructions.
pub(crate) fn constants(bytes: &[u8], mut visit: impl FnMut(u64, Option<Location>)) {
    // The register, and its value so far.
    let mut made: Option<(u32, u64)> = None;
    // The word that is added at the end is no instruction.
    for word in words(bytes).chain([0]) {
        let register = field(word, 0, 5);
        let shift = field(word, 21, 2) * 16;
        let part = u64::from(field(word, 5, 16)) << shift;
        let before = made.take();
        made = match (move_wide(word), before) {
            (Some(MoveWide::Keep), Some((target, value))) if target == register => {
                made = Some((register, value & !(0xffff << shift) | part));
                continue;
            }
            (Some(MoveWide::Zero), _) => Some((register, part)),
            (Some(MoveWide::Not), _) => Some((register, !part)),
            _ => None,
        };
        if let Some((target, value)) = before {
            visit(value & 0xffff_ffff, u16::try_from(target).ok().map(Location::Register));
        }
    }
}

/// Whether a location may hold an argument of a call.
pub(crate) fn is_argument(location: Location) -> bool {
    matches!(location, Location::Register(0..=7))
}

/// The other bits of the register when an instruction moves 16 bits into it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MoveWide {
    Zero,
    /// All bits are inverted.
    Not,
    Keep,
}

fn move_wide(word: u32) -> Option<MoveWide> {
    match (field(word, 23, 6), field(word, 29, 2)) {
        (0b10_0101, 0b00) => Some(MoveWide::Not),
        (0b10_0101, 0b10) => Some(MoveWide::Zero),
        (0b10_0101, 0b11) => Some(MoveWide::Keep),
        _ => None,
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()))
}

/// `length` bits from bit `from` on.
fn field(word: u32, from: u32, length: u32) -> u32 {
    word >> from & ((1 << length) - 1)
}

/// The same, with a sign.
fn signed(word: u32, from: u32, length: u32) -> i64 {
    let unused = 32 - length;
    i64::from((field(word, from, length) << unused).cast_signed() >> unused)
}

fn flow(word: u32, at: u64) -> Flow {
    let to = |from: u32, length: u32| Some(at.wrapping_add_signed(signed(word, from, length) * 4));
    if field(word, 26, 3) != 0b101 {
        return Flow::Next;
    }
    match field(word, 24, 8) {
        0x14..=0x17 => Flow::Jump(to(0, 26)),
        0x94..=0x97 => Flow::Call(to(0, 26)),
        // Branches on a condition, on zero, and on a bit.
        0x54 | 0x34 | 0x35 | 0xb4 | 0xb5 => Flow::Jump(to(5, 19)),
        0x36 | 0x37 | 0xb6 | 0xb7 => Flow::Jump(to(5, 14)),
        0xd6 | 0xd7 => {
            let through = register(field(word, 5, 5));
            // The upper bit stands for authentication of the pointer.
            match field(word, 21, 4) {
                0b0000 | 0b1000 => Flow::IndirectJump(through),
                0b0001 | 0b1001 => Flow::IndirectCall(through),
                _ => Flow::Other,
            }
        }
        // A system call, or a trap.
        0xd4 if word & 0xffe0_001f == 0xd400_0001 => Flow::Call(None),
        0xd4 => Flow::Other,
        _ => Flow::Next,
    }
}

fn writes(word: u32) -> [Option<Write>; 3] {
    match field(word, 25, 4) {
        // Arithmetic with an immediate: `movk` keeps the register's other parts, and with them what it refers to.
        0b1000 | 0b1001 => {
            let keeps = move_wide(word) == Some(MoveWide::Keep);
            let destination = register(field(word, 0, 5));
            [write(destination, destination.filter(|_| keeps)), None, None]
        }
        // System instructions that read into a register; branches write none that holds an address.
        0b1010 | 0b1011 if field(word, 20, 12) == 0xd53 => [write(register(field(word, 0, 5)), None), None, None],
        0b1010 | 0b1011 => [None; 3],
        0b0100 | 0b0110 | 0b1100 | 0b1110 => writes_of_transfer(word),
        // Arithmetic of registers. A conditional comparison writes none.
        0b0101 | 0b1101 if field(word, 21, 8) == 0b1101_0010 => [None; 3],
        0b0101 | 0b1101 => {
            let copies = word & 0xffe0_ffe0 == 0xaa00_03e0;
            let source = register(field(word, 16, 5)).filter(|_| copies);
            [write(register(field(word, 0, 5)), source), None, None]
        }
        // Vectors: some write a general register.
        _ => [write(register(field(word, 0, 5)), None), None, None],
    }
}

/// Loads and stores.
fn writes_of_transfer(word: u32) -> [Option<Write>; 3] {
    let (first, second, base) = (field(word, 0, 5), field(word, 10, 5), field(word, 5, 5));
    let vector = field(word, 26, 1) == 1;
    let size = field(word, 30, 2);
    match (field(word, 27, 3), field(word, 24, 2)) {
        // Two registers.
        (0b101, _) => {
            let loads = field(word, 22, 1) == 1;
            let length = if vector { 4 << size } else { 4 << (size >> 1) };
            let mode = field(word, 23, 2);
            let distance = if mode == 0b01 { 0 } else { signed(word, 15, 7) * length };
            let whole = !vector && size == 0b10;
            let first = transfer(first, slot(base, distance), loads, vector, whole);
            let second = transfer(second, slot(base, distance + length), loads, vector, whole);
            [first, second, write_back(base, matches!(mode, 0b01 | 0b11))]
        }
        // One register, the distance unsigned.
        (0b111, 0b01) => {
            let (loads, scale) = single(word, vector, size);
            let distance = i64::from(field(word, 10, 12)) << scale;
            one(first, base, distance, [loads, vector], scale, false)
        }
        // One register, the distance signed; with the base changed before or after.
        (0b111, 0b00) if field(word, 21, 1) == 0 => {
            let (loads, scale) = single(word, vector, size);
            let mode = field(word, 10, 2);
            let distance = if mode == 0b01 { 0 } else { signed(word, 12, 9) };
            one(first, base, distance, [loads, vector], scale, matches!(mode, 0b01 | 0b11))
        }
        // Transfers with a register as the distance, from a nearby constant, or atomic: the content of their registers
        // is unknown.
        (0b111 | 0b011, _) if vector => [None; 3],
        (0b111 | 0b011, _) => [write(register(first), None), None, None],
        _ => [write(register(first), None), write(register(second), None), write(register(field(word, 16, 5)), None)],
    }
}

/// Whether one register is loaded, and the binary logarithm of its length.
fn single(word: u32, vector: bool, size: u32) -> (bool, u32) {
    let operation = field(word, 22, 2);
    if vector { (operation & 1 == 1, size | (operation & 2) << 1) } else { (operation != 0, size) }
}

fn one(
    transferred: u32,
    base: u32,
    distance: i64,
    [loads, vector]: [bool; 2],
    scale: u32,
    writes_back: bool,
) -> [Option<Write>; 3] {
    let first = transfer(transferred, slot(base, distance), loads, vector, !vector && scale == 3);
    // A vector covers two slots.
    let second =
        if vector && scale == 4 { transfer(transferred, slot(base, distance + 8), loads, vector, false) } else { None };
    [first, second, write_back(base, writes_back)]
}

/// A load or a store of one register. `whole`: of 64 bits, so that it may be an address.
fn transfer(transferred: u32, slot: Option<Location>, loads: bool, vector: bool, whole: bool) -> Option<Write> {
    if !loads {
        return write(slot, register(transferred).filter(|_| whole));
    }
    if vector { None } else { write(register(transferred), slot.filter(|_| whole)) }
}

fn write_back(base: u32, changes: bool) -> Option<Write> {
    write(register(base).filter(|_| changes && base != FRAME), None)
}

fn write(to: Option<Location>, from: Option<Location>) -> Option<Write> {
    Some(Write { to: to?, from })
}

fn register(number: u32) -> Option<Location> {
    (number != ZERO_OR_STACK).then(|| Location::Register(number.try_into().unwrap_or_default()))
}

fn slot(base: u32, distance: i64) -> Option<Location> {
    let on_stack = matches!(base, ZERO_OR_STACK | FRAME);
    on_stack.then(|| Location::Slot(base.try_into().unwrap_or_default(), distance.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const X0: Location = Location::Register(0);
    const X8: Location = Location::Register(8);
    const X9: Location = Location::Register(9);

    fn stack(distance: i64) -> Location {
        Location::Slot(31, distance.cast_unsigned())
    }

    fn written(word: u32) -> Vec<(Location, Option<Location>)> {
        writes(word).into_iter().flatten().map(|write| (write.to, write.from)).collect()
    }

    #[test]
    fn a_branch_has_a_target_or_a_register() {
        for (word, expected) in [
            (0x9400_0400, Flow::Call(Some(0x2000))),     // bl 0x2000
            (0x17ff_fc00, Flow::Jump(Some(0))),          // b 0
            (0x5400_0080, Flow::Jump(Some(0x1010))),     // b.eq 0x1010
            (0xb500_0088, Flow::Jump(Some(0x1010))),     // cbnz x8, 0x1010
            (0x3607_ffe8, Flow::Jump(Some(0x0ffc))),     // tbz w8, #0, 0xffc
            (0xd63f_0100, Flow::IndirectCall(Some(X8))), // blr x8
            (0xd73f_0909, Flow::IndirectCall(Some(X8))), // blraa x8, x9
            (0xd61f_0120, Flow::IndirectJump(Some(X9))), // br x9
            (0xd65f_03c0, Flow::Other),                  // ret
            (0xd400_0001, Flow::Call(None)),             // svc #0
            (0xd420_0020, Flow::Other),                  // brk #1
            (0xd503_201f, Flow::Next),                   // nop
            (0x9100_0108, Flow::Next),                   // add x8, x8, #0
            (0xf940_0108, Flow::Next),                   // ldr x8, [x8]
        ] {
            assert_eq!(flow(word, 0x1000), expected, "{word:#x}");
        }
    }

    #[test]
    fn an_address_moves_between_registers_and_the_stack() {
        for (word, expected) in [
            (0xaa08_03e0, vec![(X0, Some(X8))]),       // mov x0, x8
            (0x2a08_03e0, vec![(X0, None)]),           // mov w0, w8
            (0xf900_07e8, vec![(stack(8), Some(X8))]), // str x8, [sp, #8]
            (0xf940_07e0, vec![(X0, Some(stack(8)))]), // ldr x0, [sp, #8]
            (0xb940_0be0, vec![(X0, None)]),           // ldr w0, [sp, #8]
            (0xf940_0d08, vec![(X8, None)]),           // ldr x8, [x8, #24]
            (0xf900_0d08, vec![]),                     // str x8, [x8, #24]
            (0xf81f_83a8, vec![(Location::Slot(29, (-8_i64).cast_unsigned()), Some(X8))]), // stur x8, [x29, #-8]
            (0xa900_a3e0, vec![(stack(8), Some(X0)), (stack(16), Some(X8))]), // stp x0, x8, [sp, #8]
            (0xa940_a3e0, vec![(X0, Some(stack(8))), (X8, Some(stack(16)))]), // ldp x0, x8, [sp, #8]
            (0x3d80_07e0, vec![(stack(16), None), (stack(24), None)]), // str q0, [sp, #16]
            (0x3dc0_07e0, vec![]),                     // ldr q0, [sp, #16]
            (0xf840_8508, vec![(X8, None), (X8, None)]), // ldr x8, [x8], #8
        ] {
            assert_eq!(written(word), expected, "{word:#x}");
        }
    }

    #[test]
    fn what_is_computed_is_no_copy() {
        for (word, expected) in [
            (0x9000_0008, vec![(X8, None)]),     // adrp x8, 0
            (0x9100_4108, vec![(X8, None)]),     // add x8, x8, #16
            (0xf280_0028, vec![(X8, Some(X8))]), // movk x8, #1
            (0xd280_0028, vec![(X8, None)]),     // mov x8, #1
            (0x8b09_0108, vec![(X8, None)]),     // add x8, x8, x9
            (0xeb09_011f, vec![]),               // cmp x8, x9
            (0xfa49_0100, vec![]),               // ccmp x8, x9, #0, eq
            (0xd53b_d048, vec![(X8, None)]),     // mrs x8, tpidr_el0
            (0xd65f_03c0, vec![]),               // ret
        ] {
            assert_eq!(written(word), expected, "{word:#x}");
        }
    }

    #[test]
    fn a_constant_is_put_together() {
        let found = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut found = Vec::new();
            constants(&bytes, |constant, to| found.push((constant, to.is_some_and(is_argument))));
            found
        };
        // mov w0, #0x40000000
        assert_eq!(found(&[0x52a8_0000]), [(0x4000_0000, true)]);
        // mov w8, #0x40000000
        assert_eq!(found(&[0x52a8_0008]), [(0x4000_0000, false)]);
        // mov w0, #0x200; movk w0, #0x4000, lsl #16; mov w1, #-1
        assert_eq!(found(&[0x5280_4000, 0x72a8_0000, 0x1280_0001]), [(0x4000_0200, true), (0xffff_ffff, true)]);
        assert!(found(&[0xd503_201f]).is_empty());
    }

    #[test]
    fn one_of_the_two_relocations_of_an_address_is_the_reference() {
        for (page, rest, expected) in [
            (elf::R_AARCH64_ADR_PREL_PG_HI21, elf::R_AARCH64_ADD_ABS_LO12_NC, Reference::Address),
            (elf::R_AARCH64_ADR_PREL_PG_HI21, elf::R_AARCH64_LDST64_ABS_LO12_NC, Reference::Address),
            (elf::R_AARCH64_ADR_GOT_PAGE, elf::R_AARCH64_LD64_GOT_LO12_NC, Reference::Entry),
            (elf::R_AARCH64_MOVW_UABS_G3, elf::R_AARCH64_MOVW_UABS_G0_NC, Reference::Address),
            (elf::R_AARCH64_TLSDESC_ADR_PAGE21, elf::R_AARCH64_TLSDESC_ADD_LO12, Reference::Entry),
            (elf::R_AARCH64_TLSDESC_CALL, elf::R_AARCH64_TLSDESC_LD64_LO12, Reference::Nothing),
            (elf::R_AARCH64_TLSLE_ADD_TPREL_HI12, elf::R_AARCH64_TLSLE_ADD_TPREL_LO12_NC, Reference::Address),
            (elf::R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21, elf::R_AARCH64_TLSIE_LD64_GOTTPREL_LO12_NC, Reference::Entry),
            (elf::R_AARCH64_RELATIVE, elf::R_AARCH64_GLOB_DAT, Reference::Nothing),
        ] {
            assert_eq!((reference(page), reference(rest)), (Reference::Nothing, expected), "{rest:?}");
        }
        for kind in [elf::R_AARCH64_CALL26, elf::R_AARCH64_JUMP26, elf::R_AARCH64_ABS64] {
            assert_eq!(reference(kind), Reference::Address, "{kind:?}");
        }
    }
}
