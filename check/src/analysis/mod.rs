//! Makes findings of a program and the rules: the roots, the search from each root, and the verdicts. The canaries
//! check that the rules still hold.

pub(crate) mod analyze;
pub(crate) mod canary;
pub(crate) mod functions;
pub(crate) mod guards;
pub(crate) mod order;
pub(crate) mod regions;
pub(crate) mod root;
pub(crate) mod roots;
pub(crate) mod search;
