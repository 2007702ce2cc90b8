//! The parts that depend on the architecture: the target of a relocation, and the effect of an instruction.

use object::elf::{self, Machine, RelocationType};

use crate::program::instruction::{Instruction, Location, Reference};
use crate::program::{aarch64, x86_64};

/// An architecture whose programs are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The name with which target triples begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The architecture of a target triple.
    pub(crate) fn of_triple(triple: &str) -> Option<Self> {
        let name = triple.split('-').next()?;
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    pub(crate) fn of_machine(machine: Machine) -> Option<Self> {
        match machine {
            elf::EM_X86_64 => Some(Self::X86_64),
            elf::EM_AARCH64 => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Whether a symbol only marks where code and data begin within a section.
    pub(crate) fn is_mark(self, symbol: &str) -> bool {
        self == Self::Aarch64 && matches!(symbol.split('.').next(), Some("$x" | "$d"))
    }

    pub(crate) fn reference(self, kind: RelocationType) -> Reference {
        match self {
            Self::X86_64 => x86_64::reference(kind),
            Self::Aarch64 => aarch64::reference(kind),
        }
    }

    /// The relocation of a word of data that holds an address.
    pub(crate) fn word(self) -> RelocationType {
        match self {
            Self::X86_64 => elf::R_X86_64_64,
            Self::Aarch64 => elf::R_AARCH64_ABS64,
        }
    }

    /// Decodes the instructions of a function at `address`, in their order.
    pub(crate) fn decode(self, bytes: &[u8], address: u64, visit: impl FnMut(&Instruction)) {
        match self {
            Self::X86_64 => x86_64::decode(bytes, address, visit),
            Self::Aarch64 => aarch64::decode(bytes, address, visit),
        }
    }

    /// Visits the constants of 32 bits in a function's instructions, each with the register that it is loaded into.
    pub(crate) fn constants(self, bytes: &[u8], visit: impl FnMut(u64, Option<Location>)) {
        match self {
            Self::X86_64 => x86_64::constants(bytes, visit),
            Self::Aarch64 => aarch64::constants(bytes, visit),
        }
    }

    /// Whether a location may hold an argument of a call.
    pub(crate) fn is_argument(self, location: Location) -> bool {
        match self {
            Self::X86_64 => x86_64::is_argument(location),
            Self::Aarch64 => aarch64::is_argument(location),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triple_names_its_architecture() {
        assert_eq!(Architecture::of_triple("x86_64-unknown-linux-gnu"), Some(Architecture::X86_64));
        assert_eq!(Architecture::of_triple("aarch64-unknown-linux-musl"), Some(Architecture::Aarch64));
        assert_eq!(Architecture::of_triple("aarch64_be-unknown-linux-gnu"), None);
        assert_eq!(Architecture::of_triple("riscv64gc-unknown-linux-gnu"), None);
    }

    #[test]
    fn a_mark_is_no_function() {
        assert!(Architecture::Aarch64.is_mark("$x") && Architecture::Aarch64.is_mark("$d.12"));
        assert!(!Architecture::Aarch64.is_mark("$xyz") && !Architecture::X86_64.is_mark("$x"));
    }
}
