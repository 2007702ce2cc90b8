//! What a thread has of its own after `unshare(2)` with `CLONE_FS` (root, working directory and umask), and the mounts
//! of its mount namespace.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{self, OFlag};
use nix::mount::{self, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::stat::{self, Mode};
use nix::sys::statvfs::{self, FsFlags};
use nix::unistd;

use super::{ProcTask, Tid, directory_of_thread, identity, mount_of, restarted, setns, unescaped_path};

/// A descriptor for look-ups (`O_PATH`) of what a path leads to, links followed.
pub(crate) fn open_for_lookup(path: &Path) -> nix::Result<OwnedFd> {
    restarted(|| fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()))
}

/// The directory in `/proc` of a thread of this process, for look-ups. It leads to this thread even if something else
/// is mounted on `/proc` later, or the calling thread's root has changed.
pub(crate) fn open_directory_of_thread(thread: Tid) -> nix::Result<OwnedFd> {
    open_for_lookup(&directory_of_thread(thread)?)
}

/// The root of a thread, given its directory in `/proc`.
pub(crate) fn root_of_task(task: impl AsFd) -> nix::Result<OwnedFd> {
    restarted(|| fcntl::openat(task.as_fd(), "root", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()))
}

/// The path of a thread's root as the calling thread sees it, given the directory of that thread in `/proc`.
pub(crate) fn path_of_root_of_task(task: impl AsFd) -> nix::Result<PathBuf> {
    fcntl::readlinkat(task.as_fd(), "root").map(PathBuf::from)
}

/// The calling thread's working directory, where it can be reached from its root.
pub(crate) fn working_directory() -> Option<CString> {
    let path = unistd::getcwd().ok()?;
    // Where it cannot be reached, the kernel puts `(unreachable)` before it.
    if path.is_absolute() { CString::new(path.into_os_string().into_vec()).ok() } else { None }
}

/// Changes the calling thread's working directory.
pub(crate) fn change_directory(path: &CStr) -> nix::Result<()> {
    restarted(|| unistd::chdir(path))
}

/// Makes a directory the calling thread's root and working directory. It takes `CAP_SYS_CHROOT`.
pub(crate) fn change_root(directory: impl AsFd) -> nix::Result<()> {
    restarted(|| unistd::fchdir(directory.as_fd()))?;
    restarted(|| unistd::chroot(c"."))
}

/// Sets the calling thread's umask, and returns the earlier one.
pub(crate) fn set_umask(umask: Mode) -> Mode {
    stat::umask(umask)
}

/// The umask of the process, as its leader has it. `None` where `/proc` does not tell.
pub(crate) fn umask_of_process() -> nix::Result<Option<Mode>> {
    let status = super::unless_short(super::text_of(ProcTask::Leader.proc_path().join("status")))?;
    let umask = status.as_ref().and_then(|status| super::value_of(status, "Umask"));
    let umask = umask.and_then(|umask| u32::from_str_radix(umask, 8).ok());
    Ok(umask.map(Mode::from_bits_truncate))
}

/// Whether two descriptors are on the same file of the same mount.
pub(crate) fn is_same_place(one: &OwnedFd, other: &OwnedFd) -> bool {
    matches!((mount_of(one), mount_of(other)), (Ok(one), Ok(other)) if one == other) && identity(one) == identity(other)
}

/// Moves the calling thread to the root of the mount namespace that it is in already (`setns(2)` sets the root), and
/// calls `act` there. Afterwards the thread has its earlier root again, which is returned where it is a different one
/// (`chroot(2)`).
pub(crate) fn at_root_of_mounts<E: From<nix::Error>>(
    namespace: &OwnedFd,
    act: impl FnOnce() -> Result<(), E>,
) -> Result<Option<OwnedFd>, E> {
    let before = open_for_lookup(Path::new("/"))?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    act()?;
    let now = open_for_lookup(Path::new("/"))?;
    if is_same_place(&before, &now) {
        return Ok(None);
    }
    change_root(&before)?;
    Ok(Some(before))
}

/// Makes every mount below the calling thread's root a slave: what is mounted here does not propagate to other mount
/// namespaces, and what is mounted there still propagates to here.
pub(crate) fn make_mounts_slaves() -> nix::Result<()> {
    let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    restarted(|| mount::mount(Some(""), "/", Some("none"), flags, None::<&str>))
}

/// Mounts a filesystem without a device, with `nosuid`, `nodev` and `noexec`.
pub(crate) fn mount_virtual(kind: &str, target: &Path, read_only: bool, options: Option<&str>) -> nix::Result<()> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    flags.set(MsFlags::MS_RDONLY, read_only);
    restarted(|| mount::mount(Some(kind), target, Some(kind), flags, options))
}

/// Whether the mount that a directory is on is read-only.
pub(crate) fn is_read_only(directory: &Path) -> nix::Result<bool> {
    restarted(|| statvfs::statvfs(directory)).map(|filesystem| filesystem.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether the mount that a descriptor is on is one of the calling thread's mount namespace. An unmounted one is none.
pub(crate) fn is_mounted(file: &OwnedFd) -> io::Result<bool> {
    super::line_of_mount(file).map(|line| line.is_some())
}

/// The visible mounts on the mount that a directory is the root of: the mount point of each, and a descriptor of its
/// root. Of several at one mount point this is the topmost.
pub(crate) fn submounts(root: &OwnedFd) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let parent = mount_of(root)?;
    let table = fs::read("/proc/thread-self/mountinfo")?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok().and_then(|digits| digits.parse::<u64>().ok());
    let mounts: Vec<(u64, u64, PathBuf)> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            // ID PARENT MAJOR:MINOR ROOT POINT …
            let mut fields = line.split(|byte| *byte == b' ');
            Some((number(fields.next()?)?, number(fields.next()?)?, unescaped_path(fields.nth(2)?)))
        })
        .collect();
    let mut seen = Vec::new();
    for (_, _, path) in mounts.iter().filter(|(_, on, _)| *on == parent) {
        // A mount may be covered by another one, on a directory above it: the path then leads elsewhere.
        let Some(found) = super::unless_short(open_for_lookup(path))? else { continue };
        let at = mount_of(&found)?;
        if mounts.iter().any(|(id, _, point)| *id == at && point == path) {
            seen.push((path.clone(), found));
        }
    }
    Ok(seen)
}
