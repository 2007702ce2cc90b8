//! What several integration tests share.
#![allow(missing_docs)]
// A helper of tests panics where a test should, and is called for its value or not.
#![allow(clippy::missing_panics_doc, clippy::must_use_candidate)]

mod kernel;
mod processes;
pub mod profiles;
mod project;

pub use kernel::*;
pub use processes::*;
pub use project::Project;
