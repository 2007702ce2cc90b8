//! The guard: keeps a pinned thread in a network namespace until it is dropped.
//!
//! **Promised:** dropping a [`NetNsGuard`] returns the thread to the namespace in which the guard was created. If that
//! fails, the thread is *poisoned*: it enters no further namespace, and exits when its lease ends.
//!
//! **Why entering takes a [`PinnedThread`]:** on a thread that other code owns, a guard can promise nothing, because
//! that code continues to use the thread after a failed restore. A pinned thread belongs to this crate, so poison can
//! be enforced. The `&mut` lets the borrow checker enforce correct nesting:
//!
//! ```compile_fail,E0505
//! # use in_netns::{pinned, Error, NetNs};
//! # fn main() -> Result<(), Error> {
//! # let (a, b) = (NetNs::new()?, NetNs::new()?);
//! pinned(|thread| {
//!     let mut outer = thread.enter(&a).unwrap();
//!     let inner = outer.enter(&b).unwrap();
//!     drop(outer); // cannot move out of `outer` because it is borrowed
//!     drop(inner);
//! })
//! # }
//! ```
//!
//! A guard cannot leave its thread, so it cannot be held across an `.await` that moves threads (kata-containers
//! #13885):
//!
//! ```compile_fail,E0277
//! # use in_netns::{pinned, NetNs};
//! # fn f(blue: NetNs) {
//! pinned(|thread| {
//!     let guard = thread.enter(&blue).unwrap();
//!     std::thread::scope(|scope| {
//!         scope.spawn(move || drop(guard)); // `NetNsGuard` cannot be sent between threads safely
//!     });
//! });
//! # }
//! ```
//!
//! The pinned thread itself cannot leave its thread either:
//!
//! ```compile_fail,E0277
//! # use in_netns::pinned;
//! pinned(|thread| {
//!     std::thread::scope(|scope| {
//!         scope.spawn(|| thread.retire()); // `PinnedThread` cannot be sent between threads safely
//!     });
//! });
//! ```
//!
//! A guard does not outlive the call, because the pinned thread that it borrows does not:
//!
//! ```compile_fail
//! # use in_netns::{pinned, NetNs};
//! # fn f(blue: NetNs) {
//! let guard = pinned(|thread| thread.enter(&blue).unwrap());
//! # }
//! ```

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::CloneFlags;

use crate::error::{Error, ErrorKind};
use crate::netns::mounts::{EntryError, Mounts, ProcessNamespaces, Recipe, Surroundings};
use crate::netns::{NetNs, Target};
use crate::sys::descriptor_table::TableBound;
use crate::sys::process_local::{ProcessMark, end_child_at_thread_exit};
use crate::sys::{self, Capabilities, OptionalCalls, Tid};
use crate::thread::allowance::{self, Allowance};
use crate::thread::children::Children;
use crate::thread::detached::run_detached;
use crate::thread::exit::ThreadExit;
use crate::thread::files::OwnFiles;
use crate::thread::home::{Change, FromCaller, Home, RestorePath};
#[cfg(feature = "tokio")]
use crate::thread::keeper::{Closer, Keeper};
use crate::thread::pristine::Baseline;

thread_local! {
    /// The calling thread's registration with this crate. It is kept here, and not in the [`PinnedThread`], because
    /// [`retire_current_thread`] is called by code that has no [`PinnedThread`].
    static PIN: Cell<Option<Pin>> = const { Cell::new(None) };
}

/// Marks a thread as pinned.
#[derive(Clone, Copy)]
struct Pin {
    /// The process that the thread belongs to. After a fork inside a body, the child has a copy of the thread, and that
    /// copy does not belong to the child's pool.
    process: ProcessMark,
    /// Whether retirement was requested.
    retiring: bool,
}

impl Pin {
    fn of_current() -> Option<Pin> {
        PIN.get().filter(|pin| pin.process.is_current())
    }

    /// Whether the calling thread's retirement was requested.
    fn is_retiring() -> bool {
        PIN.get().is_some_and(|pin| pin.retiring)
    }
}

/// Proof that the current thread is pinned. It is required to enter a namespace.
///
/// [`pinned`](crate::pinned) passes one to its closure. It cannot be constructed, kept or sent to another thread.
pub struct PinnedThread {
    home: &'static Home,
    id: u32,
    /// The optional system calls that do not kill on it.
    calls: OptionalCalls,
    /// The state of the thread before its first body.
    baseline: Baseline,
    /// Whether the body of this lease was too short to have made a system call.
    untouched: bool,
    /// The kinds of namespaces that this lease has entered, other than network and mount.
    entered_kinds: CloneFlags,
    /// The time that user code took, where the body is a part of this crate and called some.
    user_code: Option<Duration>,
    /// Whether a body has used `io_uring`. This is never reset.
    used_io_uring: bool,
    /// The path home, where the thread may have a table of descriptors of its own.
    restore_path: Option<Arc<RestorePath>>,
    /// The thread that keeps the table of descriptors of a caller that has one of its own.
    #[cfg(feature = "tokio")]
    keeper: Option<Keeper<PinnedThread>>,
    /// What it inherited from the caller that started it, if that differs from the template.
    from_caller: Option<FromCaller>,
    /// What it no longer shares with the process, once it has entered a view.
    own_files: Option<OwnFiles>,
    /// Its effective user id, before its first body.
    user: u32,
    /// The capabilities that it has adopted for its lease.
    capabilities: Capabilities,
    /// Whether the lease's owner has the same capabilities, as far as is known.
    owner_has_the_same: bool,
    /// The namespaces of the guards, the outermost first. They are kept here, and not in the guards, so that a guard
    /// that is forgotten holds none after the lease.
    entered: Vec<NetNs>,
    /// The processes that it has started for callers, not those that a body has started.
    children: Children,
    /// The error of the first restore that failed.
    poison: Option<Error>,
    state: LeaseState,
    /// A namespace belongs to a thread, so the proof must not leave the thread.
    _not_send: PhantomData<*mut ()>,
}

impl PinnedThread {
    /// Marks the calling thread as pinned. Only for threads that this crate starts.
    pub(crate) fn pin_current(home: &'static Home) -> PinnedThread {
        PinnedThread::pin(home, true)
    }

    fn pin(home: &'static Home, keeps_files: bool) -> PinnedThread {
        end_child_at_thread_exit();
        PIN.set(Some(Pin { process: ProcessMark::current(), retiring: false }));
        let id = sys::current_tid();
        let calls = OptionalCalls::of_current_thread();
        PinnedThread {
            home,
            calls,
            baseline: Baseline::of_current_thread(calls, keeps_files),
            untouched: false,
            entered_kinds: CloneFlags::empty(),
            user_code: None,
            used_io_uring: false,
            id: id.as_raw().unsigned_abs(),
            restore_path: None,
            #[cfg(feature = "tokio")]
            keeper: None,
            from_caller: None,
            own_files: None,
            user: sys::effective_user(),
            capabilities: sys::capabilities_of(id).unwrap_or(home.capabilities()),
            owner_has_the_same: true,
            entered: Vec::new(),
            children: Children::default(),
            poison: None,
            state: LeaseState::Pristine,
            _not_send: PhantomData,
        }
    }

    /// Like [`PinnedThread::pin_current`], for a thread that a caller has started: it shares the caller's descriptor
    /// table, and root and working directory.
    pub(crate) fn pin_current_of_caller(
        home: &'static Home,
        caller: Tid,
        restore_path: Option<Arc<RestorePath>>,
    ) -> PinnedThread {
        let pinned = PinnedThread::pin(home, false);
        PinnedThread { restore_path, from_caller: home.differences_by_caller(caller, pinned.calls), ..pinned }
    }

    /// Sets the thread that keeps the table of descriptors which this one began with.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_keeper(&mut self, keeper: Option<Keeper<PinnedThread>>) {
        self.keeper = keeper;
    }

    /// Enters a network namespace, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN` in the user namespace that owns the namespace, and in
    /// the thread's own user namespace. [`ErrorKind::Poisoned`] if an earlier guard failed to restore.
    /// [`ErrorKind::Unsupported`] if the handle was opened in another table of file descriptors. On an error the thread
    /// stays where it is.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::{NetNs, pinned};
    ///
    /// let blue = NetNs::new()?;
    /// pinned(|thread| {
    ///     let guard = thread.enter(&blue)?;
    ///     assert!(blue.is_current()?);
    ///     guard.restore()?;
    ///     assert!(!blue.is_current()?);
    ///     Ok::<_, in_netns::Error>(())
    /// })??;
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `setns(2)`.
    pub fn enter<'t>(&'t mut self, ns: &NetNs) -> Result<NetNsGuard<'t>, Error> {
        self.enter_at(0, ns)
    }

    /// Enters a network namespace from the guard at `depth - 1`, or from home.
    fn enter_at(&mut self, depth: usize, ns: &NetNs) -> Result<NetNsGuard<'_>, Error> {
        self.enter_checked(ns.as_target())?;
        // Guards that were forgotten have left theirs there.
        self.entered.truncate(depth);
        self.entered.push(ns.clone());
        Ok(NetNsGuard { thread: self, depth, restored: false })
    }

    /// Whether a restore has failed on this thread.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Makes the thread exit when its lease ends, instead of being used again.
    ///
    /// Call it after a change that no restore undoes and no inspection detects: [`Change`] lists both kinds.
    pub fn retire(&mut self) {
        retire_current_thread();
    }

    /// Whether the thread will exit when its lease ends.
    pub(crate) fn is_retiring(&self) -> bool {
        self.is_poisoned() || Pin::is_retiring()
    }

    /// Enters a namespace without a guard, if its descriptors are of this thread's table. Returns the mounts that the
    /// thread is in, where the target is a view.
    pub(crate) fn enter_checked(&mut self, target: Target<'_>) -> Result<Option<Arc<Mounts>>, Error> {
        target.check_table()?;
        self.enter_with_mounts(target)
    }

    /// As [`PinnedThread::enter_checked`], where the descriptors are of this thread's table. All user code enters
    /// through this function.
    fn enter_with_mounts(&mut self, target: Target<'_>) -> Result<Option<Arc<Mounts>>, Error> {
        if self.is_poisoned() {
            let why = "an earlier restore failed on this thread, which exits when its lease ends; make a new call";
            return Err(Error::new(ErrorKind::Poisoned, format!("enter {}", target.netns()), why));
        }
        match target.surroundings() {
            None => target.setns().map(|()| None),
            Some((surroundings, directory)) => self.enter_view(target, surroundings, directory).map(Some),
        }
    }

    /// Enters a view whose files are all mounted. On an error the thread is at home, or poisoned.
    fn enter_view(
        &mut self,
        target: Target<'_>,
        surroundings: &Surroundings,
        directory: Option<&CStr>,
    ) -> Result<Arc<Mounts>, Error> {
        /// A third try is needed only where the files are replaced all the time. On a busy machine, mounts take tens of
        /// milliseconds, so a few tries may all fail.
        const TRIES: u32 = 64;
        self.own_files()?;
        for _ in 0..TRIES {
            let Some(mounts) = surroundings.current() else {
                surroundings.renew(None, |recipe| self.make_mounts(recipe))?;
                continue;
            };
            if !mounts.descriptors_are(TableBound::is_of_process_table) {
                target.check_table()?;
            }
            self.entered_kinds |= mounts.other_kinds();
            let entered = mounts
                .enter(target.netns())
                .and_then(|()| target.setns().map_err(|error| EntryError { error, has_moved: true }));
            match entered {
                Ok(()) if mounts.are_in_place() => {
                    // Where there is no such directory, the body begins at the root.
                    let _ = directory.map(sys::files::change_directory);
                    return Ok(mounts);
                }
                Ok(()) => self.go_home_or_poison()?,
                Err(EntryError { error, has_moved: false }) => return Err(error),
                Err(EntryError { error, has_moved: true }) => {
                    self.go_home_or_poison()?;
                    return Err(error);
                }
            }
            surroundings.renew(Some(&mounts), |recipe| self.make_mounts(recipe))?;
        }
        let why = "its files are replaced faster than they can be mounted; call again";
        Err(Error::new(ErrorKind::Busy, format!("enter the view of {}", target.netns()), why))
    }

    /// Makes the mounts of a view. The thread is at home, before and after.
    pub(crate) fn make_mounts(&mut self, recipe: &Recipe) -> Result<Mounts, Error> {
        self.own_files()?.follow()?;
        let made = recipe.make();
        self.go_home_or_poison()?;
        made
    }

    /// Finds out what to enter for the view of a process. The thread is at home.
    pub(crate) fn mounts_of_process(&mut self, namespaces: ProcessNamespaces) -> Result<Mounts, Error> {
        self.own_files()?.follow()?;
        namespaces.into_mounts()
    }

    /// Makes the thread stop sharing root, working directory and umask, if it has not stopped before.
    fn own_files(&mut self) -> Result<&mut OwnFiles, Error> {
        let own = match self.own_files.take() {
            Some(own) => own,
            None => OwnFiles::take(self.home.template())?,
        };
        Ok(self.own_files.insert(own))
    }

    /// Goes home, at the beginning of a lease or during it.
    pub(crate) fn go_home_or_poison(&mut self) -> Result<(), Error> {
        self.go_home().inspect_err(|error| self.poison(error))
    }

    /// Goes home, whatever a body did.
    fn go_home(&self) -> Result<(), Error> {
        let files = self.own_files.as_ref().map_or(Ok(()), OwnFiles::restore);
        let namespaces = match &self.restore_path {
            Some(path) => self.home.restore_by(path),
            // A body that made no system call has left no namespace but those that this crate entered.
            None if self.untouched && self.entered_kinds.is_empty() => self.home.restore_network(),
            None if self.own_files.is_some() => self.home.restore_of_view(),
            None => self.home.restore(),
        };
        files.and(namespaces)
    }

    /// Begins a call on a pooled thread: adopts the current privileges of the process, and enters the target, if there
    /// is one. The caller has checked that its descriptors are of the table that pooled threads have.
    ///
    /// `allowance` is called after the thread has entered.
    ///
    /// Returns `None` if the thread has permanently lost a privilege that the process has. It then exits, and the
    /// caller leases another thread.
    pub(crate) fn admit(
        &mut self,
        target: Option<Target<'_>>,
        allowance: impl FnOnce() -> Allowance,
    ) -> Option<Result<(), Error>> {
        let enter =
            |thread: &mut PinnedThread| target.map_or(Ok(()), |target| thread.enter_with_mounts(target).map(drop));
        let entered = enter(self);
        self.owner_has_the_same = true;
        let Some(callers) = allowance().capabilities() else { return Some(entered) };
        // An admitted thread has the privileges that were recorded. The C library may have changed those of another
        // thread.
        let inside = target.is_some() && entered.is_ok();
        if !inside {
            self.capabilities = sys::capabilities_of(sys::current_tid()).unwrap_or(self.capabilities);
        }
        if callers == self.capabilities {
            return Some(entered);
        }
        let wanted = allowance::of_process(callers);
        self.owner_has_the_same = wanted == callers;
        if wanted == self.capabilities {
            return Some(entered);
        }
        if inside {
            // As with a plain `setns`, the current privileges of the process decide whether the namespace may be
            // entered.
            if let Err(error) = self.go_home_or_poison() {
                return Some(Err(error));
            }
        }
        if sys::set_capabilities(wanted).is_err() {
            self.state = LeaseState::Exiting;
            return None;
        }
        self.capabilities = wanted;
        Some(enter(self))
    }

    /// Records that a restore failed. From now on the thread can only exit.
    fn poison(&mut self, error: &Error) {
        self.poison.get_or_insert_with(|| error.clone());
    }

    /// Records that the thread has started a process for its caller: it exits after that process.
    pub(crate) fn has_started(&mut self, process: u32) {
        self.children.add(process);
    }

    /// The processes that would get a parent-death signal if this thread exited, if they asked for one.
    pub(super) fn running_children(&mut self) -> Children {
        self.children.running()
    }

    /// The processes that it has started for callers. The thread is about to exit.
    pub(super) fn into_children(mut self) -> Children {
        self.close_files();
        self.children
    }

    /// Closes what the thread keeps open, in the table that it was opened in. A body may have left that table: then
    /// another thread closes it there, and the copy goes with the thread.
    pub(crate) fn close_files(&mut self) {
        let files = (self.baseline.take_files(), self.own_files.take());
        if let ((None, None), None) = files {
            return;
        }
        if !self.has_left_table() {
            return drop(files);
        }
        #[cfg(feature = "tokio")]
        if let Some(keeper) = &self.keeper {
            return keeper.drop_later(files);
        }
        run_detached(move || drop(files));
    }

    /// Whether a body has left the table of descriptors that the thread began with, as far as the kernel tells. What
    /// this thread closes then stays open there. The kernel is asked, whatever this thread's inspection found: it may
    /// have been the owner of the lease that found another table.
    ///
    /// `false` where no other thread can close it: a child process has a copy of this thread alone, and a caller that
    /// has a table of its own closes what its synchronous call has opened.
    pub(crate) fn has_left_table(&self) -> bool {
        let keeps_table = |thread| sys::descriptor_table::is_shared_with(thread) == Ok(true);
        is_pinned() && self.keeper_of_table().is_some_and(|thread| !keeps_table(thread))
    }

    /// The thread that keeps the table of descriptors which this one began with.
    fn keeper_of_table(&self) -> Option<Tid> {
        if self.restore_path.is_none() {
            return Some(self.home.template());
        }
        #[cfg(feature = "tokio")]
        if let Some(keeper) = &self.keeper {
            return Some(keeper.thread());
        }
        None
    }

    /// What closes in the table that the thread began with, if a body has left that table.
    #[cfg(feature = "tokio")]
    pub(crate) fn closer(&self) -> Closer<PinnedThread> {
        match (&self.keeper, self.has_left_table()) {
            (_, false) => Closer::ThisThread,
            (Some(keeper), true) => Closer::Keeper(keeper.clone()),
            (None, true) => Closer::AnyPinnedThread,
        }
    }

    /// The kernel's id of the thread.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Whether the lease's owner can do a part of the inspection, and such a part exists.
    pub(crate) fn can_be_assisted(&self) -> bool {
        !self.untouched && self.owner_has_the_same && self.home.can_be_assisted()
    }

    /// The position of the thread in its lease.
    pub(crate) fn state(&self) -> LeaseState {
        self.state
    }

    /// Begins a lease, or continues it.
    pub(crate) fn begin(&mut self) {
        self.state = LeaseState::Leased;
        self.untouched = false;
        self.user_code = None;
    }

    /// Records the time that all user code of this lease took. It is not called if some of the user code was not timed.
    pub(crate) fn body_took(&mut self, time: Duration) {
        self.untouched = self.home.shortest_call().is_longer_than(self.user_code.unwrap_or(time));
    }

    /// Records, from within a body that is a part of this crate, the time that it had user code run. `None`: there was
    /// user code around it.
    ///
    /// **Why:** the body itself makes system calls that change nothing of the thread, such as `socket(2)`, and the next
    /// call would wait for an inspection, which takes 6 µs, twice the time of the call.
    pub(crate) fn user_code_took(&mut self, time: Option<Duration>) {
        self.user_code = time;
    }

    /// Whether the thread must run nothing more in another namespace: the body asked for that, or has started kernel
    /// threads that stay in its own.
    pub(crate) fn must_be_replaced(&self) -> bool {
        Pin::is_retiring() || self.baseline.has_used_io_uring()
    }

    /// Ends a lease: returns the thread home, whatever happened during it (a guard may have been forgotten).
    pub(crate) fn end_lease(&mut self) -> RestoreOutcome {
        self.used_io_uring = !self.untouched && self.baseline.has_used_io_uring();
        let restored = self.go_home();
        self.entered.clear();
        self.entered_kinds = CloneFlags::empty();
        if let Err(error) = &restored {
            self.poison(error);
        }
        let asked = Pin::is_retiring();
        PIN.set(PIN.get().map(|pin| Pin { retiring: false, ..pin }));
        let exits = asked || self.is_poisoned() || self.used_io_uring;
        self.state = if exits { LeaseState::Exiting } else { LeaseState::Restored };
        match self.poison.clone() {
            Some(error) => RestoreOutcome::Poisoned { error, is_home: restored.is_ok() },
            None if asked => RestoreOutcome::Asked,
            None if self.used_io_uring => RestoreOutcome::Changed(Change::IoUring),
            None => RestoreOutcome::Restored,
        }
    }

    /// What to wait for after the lease has ended, before its owner is notified: the thread, or a kernel thread started
    /// for it, is still in a namespace.
    pub(crate) fn exit_to_wait_for(&mut self, outcome: &RestoreOutcome) -> Option<ThreadExit> {
        match outcome {
            _ if self.used_io_uring => Some(ThreadExit::of_current().with_io_workers()),
            // It stays for the processes that it has started, which are in that namespace as well.
            RestoreOutcome::Poisoned { .. } if self.children.is_any_running() => None,
            RestoreOutcome::Poisoned { is_home: false, .. } => Some(ThreadExit::of_current()),
            _ => None,
        }
    }

    /// Ends a lease whose namespace could not be entered. The thread did not move, and ran no user code.
    pub(crate) fn end_lease_not_entered(&mut self) {
        self.state = LeaseState::Pristine;
    }

    /// Ends a lease of a thread that cannot go home, and exits.
    pub(crate) fn end_lease_without_restore(&mut self) {
        self.state = LeaseState::Exiting;
    }

    /// Whether the process has changed its user since the lease began, which has taken `CAP_SYS_ADMIN` from this
    /// thread. `false` where a body has given the capability up.
    pub(crate) fn has_lost_privileges(&self) -> bool {
        // The id is read first, which takes a third of the time.
        let had = self.capabilities.has_permitted(sys::CAP_SYS_ADMIN);
        let has_now = |now: Capabilities| now.has_permitted(sys::CAP_SYS_ADMIN);
        sys::effective_user() != self.user && had && !sys::capabilities_of_current().is_ok_and(has_now)
    }

    /// Records that the lease's owner has done its part of the inspection.
    pub(crate) fn inspected_by_owner(&mut self) {
        if self.state == LeaseState::Restored {
            self.state = LeaseState::HalfInspected;
        }
    }

    /// Compares the thread with the template, after its lease has ended.
    pub(crate) fn inspect(&mut self) -> Result<(), Change> {
        if self.untouched {
            self.baseline.inspect_registers();
            self.state = LeaseState::Pristine;
            return Ok(());
        }
        self.home.shortest_call().measure_again();
        let others = || {
            if self.state == LeaseState::HalfInspected {
                return Ok(());
            }
            let own_files = self.own_files.is_some();
            let from_caller = self.from_caller.as_ref();
            match self.home.inspect_from_anywhere(self.id, self.capabilities, own_files, from_caller, self.calls) {
                // The thread began with the descriptor table of its caller.
                Err(Change::FileTable) if self.restore_path.is_some() => Ok(()),
                found => found,
            }
        };
        // The baseline is checked first: it shows whether the optional calls are still harmless.
        let namespaces = self.baseline.namespaces();
        let within = || self.home.inspect_from_within(self.from_caller.as_ref(), self.calls, namespaces);
        let found = self.baseline.inspect(self.capabilities).and_then(|()| others()).and_then(|()| within());
        self.state = if found.is_ok() { LeaseState::Pristine } else { LeaseState::Exiting };
        found
    }
}

impl fmt::Debug for PinnedThread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PinnedThread").field("poison", &self.poison).finish_non_exhaustive()
    }
}

/// The position of a pinned thread in its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// It is new, or passed the inspection: it may be leased.
    Pristine,
    /// It is leased.
    Leased,
    /// The lease has ended and the thread is home. It is not inspected yet.
    Restored,
    /// As `Restored`, and the lease's owner does the checks that are possible from another thread.
    HalfInspected,
    /// It will exit: it is poisoned, changed, or was retired by user code.
    Exiting,
}

/// How a lease ended for its thread.
#[derive(Clone, Debug)]
pub(crate) enum RestoreOutcome {
    /// The thread is home, and not inspected yet.
    Restored,
    /// The thread is home, and user code requested its exit.
    Asked,
    /// The thread is home, and a change was found without an inspection.
    Changed(Change),
    /// A restore failed, then or earlier; the last one may have succeeded.
    Poisoned { error: Error, is_home: bool },
}

/// Makes the calling thread exit when its lease ends, from inside [`with_netns`](crate::with_netns) or an attributed
/// function.
///
/// Returns `false` and does nothing if the calling thread is not pinned. See [`PinnedThread::retire`] for when to call
/// it.
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{NetNs, retire_current_thread, with_netns};
///
/// assert!(!retire_current_thread());
/// assert!(with_netns(NetNs::new()?, retire_current_thread)?);
/// # Ok::<(), in_netns::Error>(())
/// ```
#[allow(clippy::must_use_candidate)] // Called for its effect; most callers know where they are.
pub fn retire_current_thread() -> bool {
    let pin = Pin::of_current();
    if let Some(pin) = pin {
        PIN.set(Some(Pin { retiring: true, ..pin }));
    }
    pin.is_some()
}

/// Whether the calling thread is a pinned thread of this crate.
pub(crate) fn is_pinned() -> bool {
    Pin::of_current().is_some()
}

/// Keeps a pinned thread in a network namespace until it is dropped.
///
/// Kernel threads that `io_uring(7)` starts for a thread stay in the namespace that it is in then. Requests that they
/// carry out (`IOSQE_ASYNC`, and those that would block) are not in a namespace that the thread enters later. Use a
/// call for each namespace instead.
///
/// Dropping the guard returns the thread to its previous namespace. A failure poisons the thread;
/// [`NetNsGuard::restore`] also returns it. `mem::forget` is harmless: the end of the lease restores the thread in any
/// case, and releases the handle that the guard held.
#[must_use = "dropping the guard at once leaves the namespace at once; bind it: `let _guard = thread.enter(&ns)?`"]
pub struct NetNsGuard<'t> {
    thread: &'t mut PinnedThread,
    /// The place of its namespace among those of the thread's guards.
    depth: usize,
    /// Whether a restore was attempted.
    restored: bool,
}

impl NetNsGuard<'_> {
    /// The namespace that the guard entered.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.thread.entered[self.depth]
    }

    /// Enters another namespace until the inner guard is dropped. The thread then returns to this guard's namespace.
    ///
    /// # Errors
    ///
    /// As [`PinnedThread::enter`].
    pub fn enter<'g>(&'g mut self, ns: &NetNs) -> Result<NetNsGuard<'g>, Error> {
        self.thread.enter_at(self.depth + 1, ns)
    }

    /// Moves to another namespace with a single `setns`. The guard still restores the same previous namespace.
    ///
    /// # Errors
    ///
    /// As [`PinnedThread::enter`]. On an error the guard keeps its namespace.
    pub fn move_to(&mut self, ns: &NetNs) -> Result<(), Error> {
        self.thread.enter_checked(ns.as_target())?;
        self.thread.entered[self.depth] = ns.clone();
        Ok(())
    }

    /// Returns the thread to its previous namespace, as dropping does, and reports the result.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] if the closure gave up `CAP_SYS_ADMIN`, or if the process entered a user
    /// namespace that does not own its home. The thread is then poisoned, and the failure is also reported at the end
    /// of the call.
    pub fn restore(mut self) -> Result<(), Error> {
        self.restore_once()
    }

    /// The namespace to which the guard returns the thread. `None`: home, whose descriptor may be of another table.
    fn previous_guards(&self) -> Option<&NetNs> {
        self.depth.checked_sub(1).map(|outer| &self.thread.entered[outer])
    }

    fn previous(&self) -> &NetNs {
        self.previous_guards().unwrap_or(self.thread.home.net())
    }

    fn restore_once(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.restored, true) {
            return Ok(());
        }
        // Poison does not prevent a restore; it only prevents entering another namespace.
        let restored = match self.previous_guards() {
            Some(previous) => previous.as_target().setns(),
            None => self.thread.home.enter_network(self.thread.restore_path.as_deref()),
        };
        let restored = match restored {
            // The kernel may refuse even where the thread had not moved: see `Home::explain_restore`.
            Err(_) if self.thread.home.is_thread_in(self.previous()) => Ok(()),
            result => result.inspect_err(|error| self.thread.poison(error)),
        };
        self.thread.entered.truncate(self.depth);
        restored
    }
}

impl Drop for NetNsGuard<'_> {
    fn drop(&mut self) {
        // A failure has been recorded as poison, and the end of the lease reports it.
        let _ = self.restore_once();
    }
}

impl fmt::Debug for NetNsGuard<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NetNsGuard")
            .field("netns", self.netns())
            .field("previous", self.previous())
            .finish_non_exhaustive()
    }
}
