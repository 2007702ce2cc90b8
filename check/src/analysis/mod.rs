//! From a program and the rules to findings: the roots, the search from each root, and the verdicts.

pub(crate) mod analyze;
pub(crate) mod regions;
pub(crate) mod roots;
pub(crate) mod search;
