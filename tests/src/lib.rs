//! Helpers that several integration tests share.
#![allow(missing_docs)]
// A test helper may panic, and its result may be ignored.
#![allow(clippy::missing_panics_doc, clippy::must_use_candidate)]

mod kernel;
mod processes;
pub mod profiles;
mod project;
mod semaphore;

pub use kernel::*;
pub use processes::*;
pub use project::Project;
pub use semaphore::Semaphore;
