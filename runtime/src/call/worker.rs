//! A worker: a pinned thread that stays in one namespace, for the caller who goes there all day.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::call::context::Context;
use crate::error::Error;
use crate::netns::NetNs;
use crate::thread::pinned::PinnedThread;
use crate::thread::rendezvous::AssistPoint;
use crate::thread::{Handed, Inspect, Lease, LeaseEnd, Pool};

/// A pinned thread that lives in one network namespace: [`Worker::run`] costs a hand-over and no `setns`.
///
/// Several threads may share a worker; their closures run one at a time, first come first served. The thread is leased by
/// the first [`Worker::run`]. Dropping the worker takes the thread home and gives it back.
///
/// Between two runs nothing is restored: what one closure changes of its thread, the next one meets. A closure that changed
/// something calls [`retire_current_thread`](crate::retire_current_thread), and the next run gets another thread.
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
    tickets: TicketLock,
    /// Used by whoever's turn it is, so that nobody ever waits for this lock.
    residence: Mutex<Option<Lease>>,
}

impl NetNs {
    /// A worker for this namespace. Nothing happens until it is used: see [`Worker`].
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker { ns: self.clone(), tickets: TicketLock::default(), residence: Mutex::new(None) }
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
    /// closure had the thread retired. The closure was then never called.
    ///
    /// # Panics
    ///
    /// A panic of the closure is resumed here. The worker goes on.
    pub fn run<F, R>(&self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let turn = self.tickets.queue();
        let mut residence = self.residence.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = match &mut *residence {
            Some(lease) => lease,
            empty => empty.insert(move_in(&self.ns)?),
        };
        let context = Context::of_caller();
        let mut body = Some(|| context.within(f));
        let mut brought = None;
        let mut lease_end = None;
        let handed = lease.run(&mut |thread: &mut PinnedThread, _: &AssistPoint<'_>| {
            brought = body.take().map(|body| panic::catch_unwind(AssertUnwindSafe(body)));
            if thread.is_retiring() {
                lease_end =
                    Pool::of_process().ok().map(|pool| LeaseEnd::restore(&pool.roster, thread, Inspect::Later, None));
            }
        });
        if let Some(lease_end) = lease_end {
            move_out(residence.take(), lease_end, handed);
        }
        drop(residence);
        drop(turn);
        let Some(value) = brought else { unreachable!("a resident declines no job") };
        Ok(value.unwrap_or_else(|payload| panic::resume_unwind(payload)))
    }
}

/// Leases a thread, and has it enter.
fn move_in(ns: &NetNs) -> Result<Lease, Error> {
    let pool = Pool::of_process()?;
    loop {
        let mut lease = pool.lease()?;
        let mut entered = None;
        let handed = lease.run(&mut |thread: &mut PinnedThread, _: &AssistPoint<'_>| {
            entered =
                Some(thread.enter_unguarded(ns.as_target()).map_err(|error| (error, LeaseEnd::not_entered(thread))));
        });
        match entered {
            Some(Ok(())) => return Ok(lease),
            Some(Err((error, lease_end))) => {
                move_out(Some(lease), lease_end, handed);
                return Err(error);
            }
            // Declined: somebody's leftovers were found in that one.
            None => {}
        }
    }
}

fn move_out(lease: Option<Lease>, lease_end: LeaseEnd, handed: Handed) {
    if let Some(lease) = lease {
        // What became of the thread is in the counters, and the poison hook has been told.
        let _ = lease_end.return_lease(lease, handed).report();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let residence = self.residence.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (Some(mut lease), Ok(pool)) = (residence.take(), Pool::of_process()) else { return };
        let mut lease_end = None;
        let handed = lease.run(&mut |thread: &mut PinnedThread, assist_point: &AssistPoint<'_>| {
            lease_end = Some(LeaseEnd::restore(&pool.roster, thread, Inspect::Later, Some(assist_point)));
        });
        if let Some(lease_end) = lease_end {
            move_out(Some(lease), lease_end, handed);
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Worker").field("netns", &self.ns).finish_non_exhaustive()
    }
}

/// First come, first served. (`Mutex` promises no order.)
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
        let somebody_waits = tickets.next != tickets.served;
        drop(tickets);
        if somebody_waits {
            self.0.moved.notify_all();
        }
    }
}
