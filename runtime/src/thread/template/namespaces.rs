//! Finds the namespaces of the process, whatever its main thread is doing at this instant.
//!
//! The main thread may be in another namespace for a moment: code of the program, or of a library, moved it there and
//! will move it back. So may the first caller. The namespaces that the process began in ([`at_start`]) are home unless
//! the main thread has moved for good. Where the main thread is in another one, it has moved for good in two cases:
//! more threads are with it than in the namespace of the start; or it is the only thread, and the process holds no
//! descriptor of the namespace of the start, which a thread needs to go back. Where the main thread has exited, the
//! namespaces of the start are home as long as a thread is in them or the process holds a descriptor of them.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::Error;
use crate::sys::{self, Kind, ProcTask, at_start};

/// The kinds of namespace that a thread can be moved back to.
const KINDS: [Kind; 4] = [Kind::Net, Kind::Uts, Kind::Ipc, Kind::Cgroup];

/// Moves the calling thread, which is the template, to the namespaces of the process. `others` are the numbers of the
/// program's threads, except the main thread.
pub(super) fn align(others: &[u32]) -> Result<(), Error> {
    KINDS.into_iter().try_for_each(|kind| {
        align_kind(kind, others).map_err(|errno| {
            let operation = format!("start the template thread, in the {} namespace of the process", kind.file());
            Error::from_errno(operation, errno).explain_making()
        })
    })
}

fn align_kind(kind: Kind, others: &[u32]) -> nix::Result<()> {
    /// A thread may move between the look at its namespace and the opening of its file, so both are tried again.
    const TRIES: u32 = 100;
    // A kernel without this kind.
    let Some(mine) = inode(&kind.file_in(ProcTask::Current.proc_path()))? else { return Ok(()) };
    let mut last = Errno::ENOENT;
    for _ in 0..TRIES {
        let (wanted, places) = match inode(&kind.file_in(ProcTask::Leader.proc_path()))? {
            Some(leaders) => home(kind, leaders, others)?,
            // The main thread has exited.
            None => home_without_leader(kind, others)?.unwrap_or((mine, Vec::new())),
        };
        if mine == wanted {
            return Ok(());
        }
        for place in places {
            match open(&place, wanted).and_then(|namespace| sys::setns(namespace, kind.flag())) {
                Ok(()) => return Ok(()),
                Err(errno) => last = errno,
            }
        }
        std::thread::yield_now();
    }
    Err(last)
}

/// The process's namespace of a kind, and the files to open for it.
fn home(kind: Kind, leaders: u64, others: &[u32]) -> nix::Result<(u64, Vec<PathBuf>)> {
    let of_leader = kind.file_in(ProcTask::Leader.proc_path());
    let start = at_start::namespace(kind);
    let Some(start) = start.filter(|start| *start != leaders) else { return Ok((leaders, vec![of_leader])) };
    let mut with: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    with.entry(leaders).or_default().push(of_leader);
    for thread in others {
        let place = kind.file_in(&sys::directory_of_task(*thread));
        if let Some(at) = inode(&place)? {
            with.entry(at).or_default().push(place);
        }
    }
    let at_start = with.remove(&start).unwrap_or_default();
    let with_leader = with.remove(&leaders).unwrap_or_default();
    if at_start.len() >= with_leader.len() {
        return Ok((start, at_start));
    }
    if others.is_empty() {
        let descriptors = descriptors_of(start)?;
        if !descriptors.is_empty() {
            return Ok((start, descriptors));
        }
    }
    Ok((leaders, with_leader))
}

/// The namespace that the process began in, if a thread or a descriptor leads to it.
fn home_without_leader(kind: Kind, others: &[u32]) -> nix::Result<Option<(u64, Vec<PathBuf>)>> {
    let Some(start) = at_start::namespace(kind) else { return Ok(None) };
    let mut places = descriptors_of(start)?;
    for place in others.iter().map(|thread| kind.file_in(&sys::directory_of_task(*thread))) {
        if inode(&place)? == Some(start) {
            places.push(place);
        }
    }
    Ok((!places.is_empty()).then_some((start, places)))
}

/// The descriptors that the process has of a namespace.
fn descriptors_of(namespace: u64) -> nix::Result<Vec<PathBuf>> {
    let numbers = sys::unless_short(sys::numbered_entries(Path::new("/proc/thread-self/fd")))?.unwrap_or_default();
    let mut places = Vec::new();
    for place in numbers.into_iter().map(|number| PathBuf::from(format!("/proc/thread-self/fd/{number}"))) {
        if inode(&place)? == Some(namespace) && sys::unless_short(open(&place, namespace))?.is_some() {
            places.push(place);
        }
    }
    Ok(places)
}

/// Opens a file of the namespace filesystem, if it is the wanted namespace.
fn open(place: &Path, wanted: u64) -> nix::Result<OwnedFd> {
    let namespace = sys::open_namespace_file(place)?;
    let (_, inode) = sys::identity(namespace.as_fd())?;
    if sys::is_namespace_file(&namespace)? && inode == wanted { Ok(namespace) } else { Err(Errno::ENOENT) }
}

/// The inode number that a file leads to. `None` where it is missing.
fn inode(file: &Path) -> nix::Result<Option<u64>> {
    sys::unless_short(sys::identity_of(file).map(|(_, inode)| inode))
}
