//! A worker: a pinned thread that stays in one namespace, for callers that use the namespace often.

use std::fmt;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::call::context::{Context, WorkerRun};
use crate::call::session::{RunBody, SyncBody};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::process_local::ProcessLocal;
use crate::thread::pinned::PinnedThread;
use crate::thread::rendezvous::AssistPoint;
use crate::thread::{Allowance, Attempt, Inspect, Lease, LeaseEnd, Pool, Role, descriptors, start_pending};

/// A pinned thread that lives in one network namespace: [`Worker::run`] costs a hand-over and no `setns`.
///
/// Several threads may share a worker; their closures run one at a time, first come first served. The thread is leased
/// by the first [`Worker::run`]. Dropping the worker returns the thread home and to the pool.
///
/// Between two runs nothing is restored: what one closure changes of its thread, the next one finds. That includes the
/// namespace, if a closure calls `setns(2)` itself. A closure that changed something calls
/// [`retire_current_thread`](crate::retire_current_thread), and the next run gets another thread. So does the next run
/// after the process has changed its user, which takes the capabilities from all threads, if the process has kept
/// `CAP_SYS_ADMIN`.
///
/// ```
/// # in_netns::rootless!();
/// let ns = in_netns::NetNs::new()?;
/// let worker = ns.worker();
/// let listener = worker.run(|| std::net::TcpListener::bind("127.0.0.1:80"))??;
/// let stream = worker.run(|| std::net::TcpStream::connect("127.0.0.1:80"))??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Worker {
    ns: NetNs,
    /// The pool of the process that made this worker.
    pool: &'static Pool,
    seat: Arc<Seat>,
}

/// A worker's thread in one process, and the queue of the callers that wait for it.
#[derive(Default)]
struct Seat {
    tickets: TicketLock,
    /// Only the owner of the ticket locks it, so no thread ever waits for this lock.
    lease: Mutex<Option<Lease>>,
    run: Arc<WorkerRun>,
}

/// The seats of workers that were made in a process from which this one was forked, by the address of the seat there.
static INHERITED: ProcessLocal<Mutex<InheritedSeats>> = ProcessLocal::new();

type InheritedSeats = Vec<(usize, Arc<Seat>)>;

impl NetNs {
    /// A worker for this namespace. Nothing happens until it is used: see [`Worker`].
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker { ns: self.clone(), pool: Pool::of_process(), seat: Arc::default() }
    }
}

impl Worker {
    /// The namespace that the worker lives in.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.ns
    }

    /// Runs a closure inside the namespace, when those that came earlier have run.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), where a thread must be leased and moved in: for the first run, and after a
    /// closure had the thread retired. [`ErrorKind::Unsupported`] on a thread with a table of file descriptors of its
    /// own, and from within a run of this worker, also through other calls of this crate: the inner run would wait for
    /// the outer one. The closure was then never called.
    ///
    /// (In two cases this is not detected, and the run waits forever: where the closure starts a thread or task and
    /// waits for it, as with `NetNs::spawn_async`, and where the closures of two workers run each other from two
    /// threads, as with two mutexes.)
    ///
    /// # Panics
    ///
    /// A panic of the closure is resumed here. The worker goes on.
    pub fn run<F, R>(&self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let seat = self.seat();
        self.check_caller(&seat)?;
        // A subscriber of `tracing`, and the destructor of a body that did not run, are user code and may use this
        // worker. So context and body are made before the turn begins, and dropped after it has ended.
        let context = Context::of_worker_run(Arc::clone(&seat.run));
        // In this frame, since they may be large: see `call::execute`.
        let (mut body, mut outcome) = (SyncBody::Given(Some(|_: &mut PinnedThread| f())), Ok(()));
        let mut job = |thread: &mut PinnedThread| {
            outcome = context.run(&mut || body.run(thread));
            let roster = &Pool::of_process().roster;
            thread.is_retiring().then(|| LeaseEnd::restore(roster, thread, Inspect::Later, None))
        };
        let (ran, left) = seat.take_turn(&self.ns, &mut job);
        // The poison hook is user code too.
        left.into_iter().for_each(EndedLease::report);
        ran?;
        Ok(body.into_result(outcome).unwrap_or_else(|payload| panic::resume_unwind(payload)))
    }

    /// Whether the worker can run a closure for the calling thread.
    fn check_caller(&self, seat: &Seat) -> Result<(), Error> {
        let why = if seat.run.is_current() {
            "this call is part of a run of the same worker, for whose end it would wait; make another worker, or a call"
        } else if descriptors::are_apart(Pool::of_process().home_or_init()?) {
            "the calling thread has a table of file descriptors of its own (unshare(2) with CLONE_FILES), and a worker \
             shares that of the process; use `Call::fresh`"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, format!("run a worker in {}", self.ns), why))
    }

    /// The worker's seat in this process. In a child of the process that made the worker it has a thread of its own.
    fn seat(&self) -> Arc<Seat> {
        if self.pool.is_of_this_process() {
            return Arc::clone(&self.seat);
        }
        let mut inherited = inherited();
        if let Some((_, seat)) = inherited.iter().find(|(address, _)| *address == self.address()) {
            return Arc::clone(seat);
        }
        let seat = Arc::<Seat>::default();
        inherited.push((self.address(), Arc::clone(&seat)));
        seat
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.seat).addr()
    }
}

fn inherited() -> MutexGuard<'static, InheritedSeats> {
    INHERITED.get_or_init(|| Mutex::new(Vec::new())).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Waits for the caller's turn, and runs the job on the worker's thread. Also returns the thread's lease where it
    /// has ended. No user code runs on the calling thread.
    fn take_turn(&self, ns: &NetNs, job: &mut TurnJob<'_>) -> (Result<(), Error>, Option<EndedLease>) {
        let _turn = self.tickets.queue();
        let mut residence = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        self.run.set_outer(WorkerRun::current());
        let _outer = scopeguard::guard((), |()| self.run.set_outer(None));
        // Whether a thread that has lost its privileges runs the job all the same.
        let mut runs_powerless = false;
        loop {
            let lease = match &mut *residence {
                Some(lease) => lease,
                empty => match move_in(ns) {
                    Ok(lease) => empty.insert(lease),
                    Err((error, left)) => return (Err(error), left),
                },
            };
            let mut lease_end = None;
            let attempt = lease.attempt(Allowance::default(), |thread| {
                if thread.has_lost_privileges() && !runs_powerless {
                    return false;
                }
                lease_end = job(thread);
                true
            });
            match attempt {
                Attempt::Ran => {
                    let left = lease_end.and_then(|lease_end| Some(EndedLease { lease: residence.take()?, lease_end }));
                    return (Ok(()), left);
                }
                Attempt::Unfit(_) => {
                    // Without the capability, no other thread could enter.
                    if Allowance::of_caller().may_administer() {
                        residence.take().into_iter().for_each(move_out);
                    } else {
                        runs_powerless = true;
                    }
                }
                // The thread has exited.
                Attempt::Rejected => *residence = None,
            }
        }
    }
}

/// What a turn does on the worker's thread. It returns the end of the lease where the thread has left the namespace.
type TurnJob<'j> = dyn FnMut(&mut PinnedThread) -> Option<LeaseEnd> + Send + 'j;

/// Leases a thread, and makes it enter. It keeps the capabilities that the process has now.
fn move_in(ns: &NetNs) -> Result<Lease, (Error, Option<EndedLease>)> {
    let without_thread = |error| (error, None);
    start_pending();
    ns.as_target().check_process_table().map_err(without_thread)?;
    let pool = Pool::of_process();
    let allowance = Allowance::of_caller();
    let mut entered = Ok(());
    let lease = pool
        .run_admitted(Role::Bodies, allowance, |thread| {
            let Some(admitted) = thread.admit(Some(ns.as_target()), || allowance) else { return false };
            entered = admitted.map_err(|error| (error, LeaseEnd::not_entered(&pool.roster, thread)));
            true
        })
        .map_err(without_thread)?;
    match entered {
        Ok(()) => Ok(lease),
        Err((error, lease_end)) => Err((error, Some(EndedLease { lease, lease_end }))),
    }
}

/// Ends the lease of a thread in the namespace. A thread that has lost its privileges is not restored: it exits.
fn move_out(mut lease: Lease) {
    let roster = &Pool::of_process().roster;
    let restore = |thread: &mut PinnedThread, _: &AssistPoint<'_>| {
        if thread.has_lost_privileges() {
            LeaseEnd::powerless(roster, thread)
        } else {
            LeaseEnd::restore(roster, thread, Inspect::Later, None)
        }
    };
    if let Ok(lease_end) = lease.run(Allowance::default(), restore) {
        EndedLease { lease, lease_end }.report();
    }
}

/// The lease of a thread that is not the worker's any more.
struct EndedLease {
    lease: Lease,
    lease_end: LeaseEnd,
}

impl EndedLease {
    fn report(self) {
        self.lease_end.return_lease(self.lease).report();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let seat = if self.pool.is_of_this_process() {
            Arc::clone(&self.seat)
        } else {
            // The thread of the inherited lease belongs to the parent.
            let mut inherited = inherited();
            let Some(at) = inherited.iter().position(|(address, _)| *address == self.address()) else { return };
            inherited.swap_remove(at).1
        };
        let lease = seat.lease.lock().unwrap_or_else(PoisonError::into_inner).take();
        lease.into_iter().for_each(move_out);
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Worker").field("netns", &self.ns).finish_non_exhaustive()
    }
}

/// A lock that is granted in the order of the requests. (`Mutex` promises no order.)
#[derive(Default)]
struct TicketLock {
    tickets: Mutex<Tickets>,
    moved: Condvar,
}

#[derive(Default)]
struct Tickets {
    next: u64,
    served: u64,
}

impl TicketLock {
    /// Waits for the caller's turn, which lasts until the result is dropped.
    fn queue(&self) -> TicketGuard<'_> {
        let mut tickets = self.tickets();
        let mine = tickets.next;
        tickets.next += 1;
        while tickets.served != mine {
            tickets = self.moved.wait(tickets).unwrap_or_else(PoisonError::into_inner);
        }
        TicketGuard(self)
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TicketGuard<'l>(&'l TicketLock);

impl Drop for TicketGuard<'_> {
    fn drop(&mut self) {
        let mut tickets = self.0.tickets();
        tickets.served += 1;
        let has_waiters = tickets.next != tickets.served;
        drop(tickets);
        if has_waiters {
            self.0.moved.notify_all();
        }
    }
}
