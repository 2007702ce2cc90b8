//! The way in: a thread is found, and goes on by itself, while the caller does something else.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;

use super::stay::{Ending, Leased, Stay};
use crate::call::Options;
use crate::error::Error;
use crate::guard::PinnedThread;
use crate::netns::NetNs;
use crate::thread::{Inspect, Pool, spawn_failed};

/// What a pinned thread is to do: enter, and then `live` with the cargo. If it cannot enter, `live` is told how that ended.
pub(super) struct Work<T, L> {
    pub(super) ns: NetNs,
    pub(super) options: Options,
    pub(super) inspect: Inspect,
    pub(super) cargo: T,
    pub(super) live: L,
}

impl<T, L> Work<T, L>
where
    T: Send + 'static,
    L: FnOnce(Result<Stay<'_>, Ending>, T) + Send + 'static,
{
    /// Has a pinned thread do it, one of the call's own if it is to be fresh. Does not wait for it to begin. Where there is no thread to be
    /// had, the work comes back.
    pub(super) fn begin(self) -> Result<(), (Error, Self)> {
        let pool = match Pool::of_process() {
            Ok(pool) => pool,
            Err(error) => return Err((error, self)),
        };
        if self.options.fresh { self.on_fresh_thread(pool) } else { self.on_leased_thread(pool) }
    }

    fn on_leased_thread(self, pool: &'static Pool) -> Result<(), (Error, Self)> {
        let lease = match pool.lease() {
            Ok(lease) => lease,
            Err(error) => return Err((error, self)),
        };
        lease.give(move |thread, lease| {
            if let Some(thread) = thread {
                return self.run(pool, thread, Leased::Pooled(lease));
            }
            // Somebody's leftovers were found in that one: its last deed is to find another.
            drop(lease);
            if let Err((error, Work { cargo, live, .. })) = self.on_leased_thread(pool) {
                live(Err(Ending::without_thread(error)), cargo);
            }
        });
        Ok(())
    }

    fn on_fresh_thread(self, pool: &'static Pool) -> Result<(), (Error, Self)> {
        let home = match pool.settled_home() {
            Ok(home) => home,
            Err(error) => return Err((error, self)),
        };
        let builder = self.options.builder();
        let (alive, leased) = (pool.count_thread(), pool.count_lease());
        // What a thread that cannot be started was given is lost, so this is given afterwards.
        let (hand_on, work_to_come) = mpsc::sync_channel::<Self>(1);
        let body = move || {
            let _alive = alive;
            let _known = pool.know_current();
            let leased = Leased::Counted(leased);
            if let Ok(work) = work_to_come.recv() {
                work.run(pool, &mut PinnedThread::pin_current(home), leased);
            }
        };
        match builder.spawn(body) {
            Ok(_) => {
                let _ = hand_on.send(self);
                Ok(())
            }
            Err(source) => Err((spawn_failed("a thread for one call", source), self)),
        }
    }

    /// On the pinned thread. It does not unwind.
    fn run(self, pool: &'static Pool, thread: &mut PinnedThread, leased: Leased) {
        let Work { ns, options, inspect, cargo, live } = self;
        // What user code throws is caught where it is run. Should anything else unwind, the stay's destructor has the thread retire,
        // and those who wait for the cargo learn that it is gone.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| {
            let stay = Stay::begin(pool, thread, leased, &ns, &options, inspect);
            // The stay has one of its own.
            drop(ns);
            live(stay, cargo);
        }));
    }
}
