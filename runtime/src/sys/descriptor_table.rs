//! The table of file descriptors that the threads of the process share, unless one has called `unshare(2)` with
//! `CLONE_FILES`.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Resource, Tid, current_tid, directory_of_thread, identity, identity_of, process_id, restarted, share};

/// The thread whose table it is. 0 stands for the main thread.
static OWNER: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// Whether the calling thread had the table at the last check. It is not cached before the owner is known.
    static SHARES: Cell<bool> = const { Cell::new(false) };
}

/// Closes a file, with this identity, on a thread that has the table of the process.
type CloseElsewhere = fn(OwnedFd, (u64, u64));

static CLOSE_ELSEWHERE: OnceLock<CloseElsewhere> = OnceLock::new();

/// Records that the calling thread's table is that of the process.
pub(crate) fn is_that_of_current_thread(close_elsewhere: CloseElsewhere) {
    let _ = CLOSE_ELSEWHERE.set(close_elsewhere);
    OWNER.store(current_tid().as_raw(), Ordering::Relaxed);
}

/// A descriptor of a handle, which may be given to a thread with another table. There its number is another file. So it
/// is closed in the table that it was opened in: by another thread if that is the table of the process. Otherwise it
/// stays open.
pub(crate) struct TableBound {
    /// `None` while it is dropped.
    fd: Option<OwnedFd>,
    /// Device and inode.
    identity: (u64, u64),
    /// Whether it was opened in the table that the threads of the process share, as far as the kernel tells.
    is_of_process_table: bool,
}

impl TableBound {
    /// To be called on a thread with the table that the descriptor was opened in.
    pub(crate) fn new(fd: OwnedFd) -> nix::Result<TableBound> {
        let identity = identity(&fd)?;
        Ok(TableBound { fd: Some(fd), identity, is_of_process_table: is_shared().unwrap_or(false) })
    }

    /// Device and inode.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether it was opened in the table that the threads of the process share.
    pub(crate) fn is_of_process_table(&self) -> bool {
        self.is_of_process_table
    }

    /// Whether the number is this file on the calling thread.
    pub(crate) fn is_of_this_table(&self) -> bool {
        self.fd.as_ref().is_some_and(|fd| identity(fd) == Ok(self.identity))
    }
}

impl AsFd for TableBound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("it is taken when it is dropped"),
        }
    }
}

impl Drop for TableBound {
    fn drop(&mut self) {
        // No system call tells a thread that has the table of the process, as a rule.
        if self.is_of_process_table && is_shared() == Ok(true) || self.is_of_this_table() {
            return;
        }
        match (self.fd.take(), CLOSE_ELSEWHERE.get()) {
            (Some(fd), Some(close)) if self.is_of_process_table => close(fd, self.identity),
            // No thread that has the table is known.
            (fd, _) => fd.into_iter().for_each(forget),
        }
    }
}

/// Leaves a file open.
pub(crate) fn forget(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}

/// Whether the calling thread has the table of the process. The kernel is asked once for a thread that has it.
pub(crate) fn is_shared() -> nix::Result<bool> {
    if SHARES.get() {
        return Ok(true);
    }
    let owner = OWNER.load(Ordering::Relaxed);
    let shares = is_shared_with(if owner == 0 { process_id() } else { Tid::from_raw(owner) })?;
    SHARES.set(shares && owner != 0);
    Ok(shares)
}

/// Whether the calling thread has the table of file descriptors that another thread of the process has. Where `kcmp(2)`
/// is refused, a new descriptor of the one is looked for in the table of the other (`proc_pid_fd(5)`).
pub(crate) fn is_shared_with(thread: Tid) -> nix::Result<bool> {
    share(Resource::Files, thread, current_tid()).or_else(|_| {
        // No other file has its inode number.
        let (new, _) = restarted(|| nix::unistd::pipe2(OFlag::O_CLOEXEC))?;
        let table = directory_of_thread(thread)?.join("fd");
        match identity_of(&table.join(new.as_raw_fd().to_string())) {
            Ok(found) => Ok(found == identity(&new)?),
            // An error where the table cannot be seen either.
            Err(Errno::ENOENT) => identity_of(&table).map(|_| false),
            Err(errno) => Err(errno),
        }
    })
}
