//! What another pinned thread does for an async call: a job in the call's place, for which the calling thread waits,
//! and what tokio keeps for the whole process, where the template could not make it.

use std::panic;
use std::sync::mpsc;

use super::allowance::Allowance;
use super::keeper::Keeper;
use super::pinned::PinnedThread;
use super::pool::{Lease, Pool};
use super::release::{Inspect, LeaseEnd};
use super::role::Role;
use super::tokio_at_home;
use crate::netns::Place;
use crate::unwind::catch;

/// For each call: makes tokio create what it keeps, if the template could not.
pub(super) fn settle_tokio() {
    if !tokio_at_home::is_made() {
        retry();
    }
}

#[cold]
fn retry() {
    let pool = Pool::of_process();
    // Without a home this is the first call, which starts the template.
    if pool.roster.home().is_none() || !tokio_at_home::can_be_made_now() {
        return;
    }
    // The thread exits, as its lease is not ended.
    if let Ok(mut lease) = pool.lease(Role::Bodies).map(Lease::uncounted) {
        let _ = lease.run(Allowance::default(), |_, _| tokio_at_home::settle());
    }
}

/// Runs a job on another pinned thread in `place`, and waits. The place is dropped there too. Returns the job where no
/// thread could enter.
pub(crate) fn run_elsewhere<R: Send, J: FnOnce() -> R + Send>(place: Place, job: J) -> Result<R, J> {
    let pool = Pool::of_process();
    let (role, allowance) = (Role::for_bodies_in(&place), Allowance::of_caller());
    let (mut unrun, mut ended) = (Some((place, job)), None);
    let leased = pool.run_admitted(role, allowance, |thread| {
        if thread.admit(None, || allowance).is_none() {
            return false;
        }
        ended = if unrun.as_ref().is_none_or(|(place, _)| thread.enter_checked(place.as_target()).is_err()) {
            Some((None, LeaseEnd::not_entered(&pool.roster, thread)))
        } else {
            let result = unrun.take().map(|(_place, job)| job());
            Some((result, LeaseEnd::restore(&pool.roster, thread, Inspect::Later, None)))
        };
        true
    });
    let result = match (leased, ended) {
        (Ok(lease), Some((result, lease_end))) => {
            lease_end.return_lease(lease).report();
            result
        }
        _ => None,
    };
    match (result, unrun) {
        (Some(result), _) => Ok(result),
        (None, Some((_place, job))) => Err(job),
        (None, None) => unreachable!("a job that was taken has a result"),
    }
}

/// As [`run_elsewhere`], on the keeper of a call. Returns the job where the keeper could not enter.
pub(crate) fn run_by_keeper<R, J>(keeper: &Keeper<PinnedThread>, place: Place, job: J) -> Result<R, J>
where
    R: Send + 'static,
    J: FnOnce() -> R + Send + 'static,
{
    let (answer, answered) = mpsc::sync_channel(1);
    let work = move |thread: &mut PinnedThread| {
        let roster = &Pool::of_process().roster;
        if thread.enter_checked(place.as_target()).is_err() {
            let lease_end = LeaseEnd::not_entered(roster, thread);
            drop(place);
            let _ = answer.send(Err(job));
            lease_end.report();
            return;
        }
        let result = catch(job);
        drop(place);
        let lease_end = LeaseEnd::restore(roster, thread, Inspect::Later, None);
        let _ = answer.send(Ok(result));
        lease_end.report();
    };
    keeper.submit(work);
    match answered.recv() {
        Ok(Ok(result)) => Ok(result.unwrap_or_else(|payload| panic::resume_unwind(payload))),
        Ok(Err(job)) => Err(job),
        Err(_) => unreachable!("a keeper does its jobs until this one is dropped"),
    }
}
