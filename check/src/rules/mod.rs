//! What the check looks for: the tables, the verdicts, what a project allows, and the canaries that guard the tables.

pub(crate) mod allow;
pub(crate) mod baseline;
pub(crate) mod canary;
pub(crate) mod sinks;
pub(crate) mod verdict;
