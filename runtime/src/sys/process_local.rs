//! A value that belongs to this process: its child processes start without it.
//!
//! **Promised:** [`ProcessLocal::get_or_init`] returns the value that this process made, whether the process was
//! started by `fork(2)` or by a `clone(2)` that no library knows of, at any depth. No lock is taken, so a lock that
//! another thread held at the fork does not matter. (A child that shares its parent's memory, as after `vfork(2)`,
//! shares the value.)
//!
//! **Why this mechanism:** handlers of `pthread_atfork(3)` are not called for a raw `clone`, and comparing `getpid(2)`
//! costs a syscall each time. The kernel zeroes a page under `MADV_WIPEONFORK` (Linux 4.14) in the child, so a read of
//! the page shows it. Where that is not available, process ids are compared.
//!
//! **What breaks otherwise:** a child takes its parent's threads for its own, and waits for them without end.

use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::libc;

/// See the [module's documentation](self). It is for statics: its value lives as long as the process.
pub(crate) struct ProcessLocal<T: 'static> {
    /// Where the pointer to the value is kept: on a page of its own, or null before the first use.
    slot: AtomicPtr<Slot<T>>,
}

struct Slot<T> {
    current: AtomicPtr<Owned<T>>,
    /// Whether the kernel leaves the slot as it is in a child process. (All zero is right for a page that the kernel
    /// empties.)
    inherited: bool,
}

struct Owned<T> {
    value: T,
    process: u32,
}

impl<T: Sync + 'static> ProcessLocal<T> {
    pub(crate) const fn new() -> ProcessLocal<T> {
        ProcessLocal { slot: AtomicPtr::new(ptr::null_mut()) }
    }

    /// This process's value. Several threads may call `make` at once: one result is kept.
    pub(crate) fn get_or_init(&'static self, make: fn() -> T) -> &'static T {
        let slot = self.slot();
        let found = slot.current.load(Ordering::Acquire);
        // SAFETY: the pointer is null or from `Box::into_raw` below, and what was once stored is never freed.
        let owned = unsafe { found.as_ref() };
        match owned {
            Some(owned) if !slot.inherited || owned.process == std::process::id() => &owned.value,
            _ => slot.replace(found, make),
        }
    }

    fn slot(&'static self) -> &'static Slot<T> {
        let mut slot = self.slot.load(Ordering::Acquire);
        if slot.is_null() {
            let made = Slot::on_wiped_page().unwrap_or_else(Slot::inherited);
            // Where another thread was faster, ours is not used. It is leaked: at most one page for each such race.
            slot = match self.slot.compare_exchange(slot, made, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => made,
                Err(theirs) => theirs,
            };
        }
        // SAFETY: it was made by one of the two functions below, and is never freed.
        unsafe { &*slot }
    }
}

impl<T> Slot<T> {
    /// A slot that is empty in every child process. `None` before Linux 4.14 and where a filter forbids it.
    fn on_wiped_page() -> Option<*mut Slot<T>> {
        let length = size_of::<Slot<T>>();
        // SAFETY: a new anonymous mapping, wherever the kernel has room, touches nothing that exists.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is this function's own.
        if unsafe { libc::madvise(page, length, libc::MADV_WIPEONFORK) } != 0 {
            // SAFETY: as above, and nothing refers to it.
            unsafe { libc::munmap(page, length) };
            return None;
        }
        // All zero, in this process and after the kernel has emptied it, is a null pointer and `false`.
        Some(page.cast())
    }

    /// A slot that child processes inherit.
    fn inherited() -> *mut Slot<T> {
        Box::into_raw(Box::new(Slot { current: AtomicPtr::new(ptr::null_mut()), inherited: true }))
    }

    #[cold]
    fn replace(&'static self, found: *mut Owned<T>, make: fn() -> T) -> &'static T {
        let owned = Box::into_raw(Box::new(Owned { value: make(), process: std::process::id() }));
        let current = match self.current.compare_exchange(found, owned, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => owned,
            Err(theirs) => {
                // SAFETY: it was not stored, so this is its only pointer.
                drop(unsafe { Box::from_raw(owned) });
                theirs
            }
        };
        // SAFETY: only pointers from `Box::into_raw` above are stored, and what was once stored is never freed.
        unsafe { &(*current).value }
    }
}

/// Identifies a process. Processes that were forked from one another have different marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessMark(&'static u8);

static MARK: ProcessLocal<u8> = ProcessLocal::new();

impl ProcessMark {
    pub(crate) fn current() -> ProcessMark {
        ProcessMark(MARK.get_or_init(|| 0))
    }

    /// Whether it is the mark of the process that asks.
    pub(crate) fn is_current(self) -> bool {
        ptr::eq(self.0, ProcessMark::current().0)
    }

    /// After user code: ends the calling process, with status zero, where it is a child that was forked in that code.
    ///
    /// Such a child has one thread, the copy of a thread of this crate, and no caller for what comes next. What it
    /// shares with its parent, such as an epoll instance, is the parent's.
    pub(crate) fn end_child(self) {
        if !self.is_current() {
            process::exit(0);
        }
    }
}

/// A value whose destructor acts on what forked children share with this process. It runs in this process alone.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct DroppedInProcess<T> {
    /// `None` only during the drop.
    value: Option<T>,
    process: ProcessMark,
}

#[cfg(feature = "tokio")]
impl<T> DroppedInProcess<T> {
    pub(crate) fn new(value: T) -> DroppedInProcess<T> {
        DroppedInProcess { value: Some(value), process: ProcessMark::current() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

#[cfg(feature = "tokio")]
impl<T> Drop for DroppedInProcess<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if !self.process.is_current() {
            std::mem::forget(value);
        }
    }
}

/// Runs user code on a thread of this crate. A child that was forked in it ends when its copy of that code returns or
/// panics: see [`ProcessMark::end_child`].
///
/// That must come before the thread uses what it borrows from its caller. The child does not have the caller: the C
/// library gives the stacks of the parent's threads to those that the child starts.
pub(crate) fn in_one_process<R>(run: impl FnOnce() -> R) -> R {
    let process = ProcessMark::current();
    let _ended = scopeguard::guard((), |()| process.end_child());
    run()
}

/// Makes each child end that is forked in a destructor of a thread-local of the calling thread, which is a new one of
/// this crate. The child ends, with status zero, when its copy of these destructors returns.
///
/// Where the child has made calls, it has other threads, which would keep it alive.
///
/// **Why a key of the C library:** its destructors run after those of thread-locals, and when the thread exits alone. A
/// destructor of a thread-local also runs in `exit(3)`, and would replace the status.
pub(crate) fn end_child_at_thread_exit() {
    if let Some(key) = exit_key() {
        // It fails where memory is short. Then the child stays.
        // SAFETY: the key exists, and the value points to a mark, which is never freed.
        unsafe { libc::pthread_setspecific(key, ptr::from_ref(ProcessMark::current().0).cast()) };
    }
}

/// The key whose destructor is [`end_forked_child`]. `None` where there are no more keys.
fn exit_key() -> Option<libc::pthread_key_t> {
    /// The key, plus one. No lock: another thread might hold it at a fork.
    static KEY: AtomicU32 = AtomicU32::new(0);
    let made = KEY.load(Ordering::Acquire);
    if let Some(key) = made.checked_sub(1) {
        return Some(key);
    }
    let mut key = 0;
    // SAFETY: the function has no requirements, and writes the key.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(end_forked_child)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key.checked_add(1)?, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(key),
        Err(theirs) => {
            // SAFETY: no thread has a value for it.
            unsafe { libc::pthread_key_delete(key) };
            theirs.checked_sub(1)
        }
    }
}

/// At the exit of a thread that was started in the process of this mark.
unsafe extern "C" fn end_forked_child(mark: *mut libc::c_void) {
    if !ptr::eq(mark.cast_const().cast(), ProcessMark::current().0) {
        process::exit(0);
    }
}
