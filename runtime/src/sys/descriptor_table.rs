//! The table of file descriptors that the threads of the process share, unless one has called `unshare(2)` with
//! `CLONE_FILES`.

use std::cell::Cell;
use std::os::fd::AsRawFd;
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

/// Records that the calling thread's table is that of the process.
pub(crate) fn is_that_of_current_thread() {
    OWNER.store(current_tid().as_raw(), Ordering::Relaxed);
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
