//! The properties of relocations and instructions that the search needs, of every architecture.

/// How the address that a relocation refers to is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reference {
    /// The symbol and the addend.
    Address,
    /// The symbol and the addend, which counts from the end of the instruction.
    FromNextInstruction,
    /// The symbol, by its entry in a table of addresses.
    Entry,
    /// The relocation refers to no function or data: it is the base of the thread-local data, or a part of an address
    /// that another relocation completes.
    Nothing,
}

/// The properties of an instruction that the search needs.
pub(crate) struct Instruction {
    pub at: u64,
    /// The address after it.
    pub next: u64,
    pub flow: Flow,
    /// The locations that it writes.
    pub writes: [Option<Write>; 3],
}

/// Where execution continues after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    Next,
    /// A jump to an address in the instruction itself, if it has one.
    Jump(Option<u64>),
    Call(Option<u64>),
    /// A jump to the address that a register or a slot of the stack holds.
    IndirectJump(Option<Location>),
    IndirectCall(Option<Location>),
    /// A return or a trap.
    Other,
}

/// A place that can hold an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Location {
    Register(u16),
    /// A slot of the stack: the register by which it is addressed, and the distance.
    Slot(u16, u64),
}

/// A change of one location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Write {
    pub to: Location,
    /// The location that it copies; none: a value of another origin.
    pub from: Option<Location>,
}
