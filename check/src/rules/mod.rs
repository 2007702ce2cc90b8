//! What the check looks for: the tables, the verdicts, and what a project allows.

pub(crate) mod allow;
pub(crate) mod baseline;
pub(crate) mod known;
pub(crate) mod sinks;
pub(crate) mod verdict;
