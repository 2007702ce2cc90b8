//! The way in: a thread is found, enters, and builds its runtime, while the caller waits. Then it goes on by itself.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread::{self, Builder};

use super::stay::{CallRuntime, Leased, Stay};
use crate::error::Error;
use crate::guard::PinnedThread;
use crate::handover::Halfway;
use crate::netns::NetNs;
use crate::thread::{Farewell, Handed, Inspect, Pool, spawn_failed};

/// Has a pinned thread enter `ns`, and then run `live` with `cargo`, beside the caller. A thread of the call's own if it is to be
/// `fresh`.
///
/// Returns when the thread is inside; or with the cargo, where it could not be.
pub(super) fn begin<T, L>(ns: &NetNs, fresh: bool, cargo: T, live: L) -> Result<(), (Error, T)>
where
    T: Send + 'static,
    L: FnOnce(Stay<'_>, T) + Send + 'static,
{
    let pool = match Pool::of_process() {
        Ok(pool) => pool,
        Err(error) => return Err((error, cargo)),
    };
    let begun = if fresh { on_fresh_thread(pool, ns, cargo, live) } else { on_leased_thread(pool, ns, cargo, live) };
    // The wait may have used up a token that the executor counts on.
    thread::current().unpark();
    begun
}

/// On the pinned thread: inside, with a runtime; or with what is left to settle of a lease that is over again.
fn enter(pool: &Pool, thread: &mut PinnedThread, ns: &NetNs) -> Result<CallRuntime, (Error, Farewell)> {
    thread.go(ns.door()).map_err(|error| (error, Farewell::at_the_door(thread)))?;
    CallRuntime::build(ns).map_err(|error| (error, Farewell::say(pool, thread, Inspect::Later, None)))
}

/// What the thread runs when its caller has gone on. It does not unwind.
fn host<T>(stay: Stay<'_>, cargo: T, live: impl FnOnce(Stay<'_>, T)) {
    // What user code throws is caught where it is run. Should anything else unwind, the stay's destructor has the thread retire,
    // and those who wait for the cargo learn that it is gone.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| live(stay, cargo)));
}

fn on_leased_thread<T, L>(pool: &'static Pool, ns: &NetNs, cargo: T, live: L) -> Result<(), (Error, T)>
where
    T: Send + 'static,
    L: FnOnce(Stay<'_>, T) + Send + 'static,
{
    let mut cargo = Some((cargo, live));
    loop {
        let mut lease = match pool.lease() {
            Ok(lease) => lease,
            Err(error) => return given_back(error, cargo),
        };
        let (hand_on, lease_to_come) = mpsc::sync_channel(1);
        let mut lease_to_come = Some(lease_to_come);
        let mut entered = None;
        let handed = lease.hand_over(&mut |thread: &mut PinnedThread, _: &Halfway<'_>| {
            let runtime = enter(pool, thread, ns);
            entered = Some(runtime.map(|runtime| {
                let (Some((cargo, live)), Some(lease)) = (cargo.take(), lease_to_come.take()) else { return };
                thread.go_on_with(move |thread| {
                    host(Stay::new(pool, thread, runtime, Leased::ToCome(lease)), cargo, live);
                });
            }));
        });
        match entered {
            Some(Ok(())) => {
                // From here on the lease is for the thread itself to end.
                let _ = hand_on.send(lease);
                return Ok(());
            }
            Some(Err((error, farewell))) => {
                let _ = farewell.end(lease, handed).settle();
                return given_back(error, cargo);
            }
            // Somebody's leftovers were found in that one.
            None => debug_assert_eq!(handed, Handed::Declined),
        }
    }
}

fn given_back<T, L>(error: Error, cargo: Option<(T, L)>) -> Result<(), (Error, T)> {
    match cargo {
        Some((cargo, _)) => Err((error, cargo)),
        None => unreachable!("a thread that did not enter took nothing"),
    }
}

fn on_fresh_thread<T, L>(pool: &'static Pool, ns: &NetNs, cargo: T, live: L) -> Result<(), (Error, T)>
where
    T: Send + 'static,
    L: FnOnce(Stay<'_>, T) + Send + 'static,
{
    let home = match pool.settled_home() {
        Ok(home) => home,
        Err(error) => return Err((error, cargo)),
    };
    // Under its caller's name, so that a failing test is named in its panic message.
    let builder = thread::current().name().map_or_else(Builder::new, |name| Builder::new().name(name.to_owned()));
    let (alive, leased) = (pool.count_thread(), pool.count_lease());
    let (tell, told) = mpsc::sync_channel(1);
    let (load, loaded) = mpsc::sync_channel(1);
    let ns = ns.clone();
    let body = move || {
        let _alive = alive;
        let mut thread = PinnedThread::pin_current(home);
        let entered = enter(pool, &mut thread, &ns);
        // The stay has one of its own.
        drop(ns);
        match entered {
            Err((error, farewell)) => {
                drop(leased);
                let _ = tell.send(Err((error, farewell)));
            }
            Ok(runtime) => {
                let _ = tell.send(Ok(()));
                if let Ok((cargo, live)) = loaded.recv() {
                    host(Stay::new(pool, &mut thread, runtime, Leased::Counted(leased)), cargo, live);
                }
            }
        }
    };
    if let Err(source) = builder.spawn(body) {
        return Err((spawn_failed("a thread for one call", source), cargo));
    }
    match told.recv() {
        Ok(Ok(())) => {
            let _ = load.send((cargo, live));
            Ok(())
        }
        Ok(Err((error, farewell))) => {
            let _ = farewell.settle();
            Err((error, cargo))
        }
        Err(mpsc::RecvError) => unreachable!("a thread that was started tells how it went"),
    }
}
