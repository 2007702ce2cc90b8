//! A descriptor that a pinned thread keeps beside user code.
//!
//! **Why it is a type of its own:** a body, or a child process that it forks, may close all descriptors that there are
//! (`close_range(2)`). To close the number once more ends a program with debug assertions, and otherwise closes what
//! has been opened there since.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};

use super::descriptor_table::forget;
use super::identity;

/// Closes its descriptor when it is dropped, unless the number is closed, or another file, by then.
#[derive(Debug)]
pub(crate) struct Kept<F: AsFd + Into<OwnedFd>> {
    /// `None` while it is dropped.
    file: Option<F>,
    /// Device and inode.
    identity: (u64, u64),
}

impl<F: AsFd + Into<OwnedFd>> Kept<F> {
    pub(crate) fn new(file: F) -> io::Result<Kept<F>> {
        let identity = identity(&file)?;
        Ok(Kept { file: Some(file), identity })
    }
}

impl<F: AsFd + Into<OwnedFd>> Deref for Kept<F> {
    type Target = F;

    fn deref(&self) -> &F {
        self.file.as_ref().unwrap_or_else(|| unreachable!("it is taken when it is dropped"))
    }
}

impl<F: AsFd + Into<OwnedFd>> Drop for Kept<F> {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if identity(&file) != Ok(self.identity) {
            forget(file.into());
        }
    }
}
