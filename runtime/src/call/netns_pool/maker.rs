//! The thread of a pool of namespaces, which makes and prepares them.
//!
//! | what there is | what it does |
//! |---|---|
//! | a caller waits, or fewer are ready than there should be; and there is room | makes one |
//! | a caller waits, and there is no room | looks for namespaces that are dismantled, up to every 16 ms |
//! | no caller waits, and some were released | looks, less and less often; after some 0.5 s, `stats` looks |
//! | the kernel has no room, and namespaces of this pool went lately | looks and tries again, every few ms |
//! | otherwise | sleeps until a namespace is taken or released, or the pool is dropped |
//!
//! **Why it polls:** the kernel reports the end of a namespace only to namespaces that have an id for it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::slot::Slot;
use super::{Life, Shared, State, is_over, is_there};
use crate::call::context::Context;
use crate::call::create::new_with;
use crate::call::dismantle::open_sentinel;
use crate::call::pinned;
use crate::error::Error;
use crate::netns::NetNs;
use crate::sys;
use crate::sys::process_local::in_one_process;
use crate::thread::{Allowance, Lease, Pool, Role, UnfitThreads};
use crate::unwind::{Payload, catch, contain, discard};

/// The first time between two looks for namespaces that are gone. It doubles with each look that finds none.
const FIRST_INTERVAL: Duration = Duration::from_micros(500);

/// The longest time between two looks while a caller is waiting.
const LONGEST_INTERVAL: Duration = Duration::from_millis(16);

/// Without a caller that waits, the last look is after this interval.
const LAST_INTERVAL: Duration = Duration::from_millis(256);

/// The time between two tries while the kernel has no room.
const RETRY_INTERVAL: Duration = Duration::from_millis(4);

/// How long the kernel may take between the ends of two namespaces.
const DISMANTLING: Duration = Duration::from_secs(5);

/// Starts the maker of a pool, with the privileges that the calling thread has.
pub(super) fn start(shared: Arc<Shared>) -> Result<(), Error> {
    let maker = Maker {
        context: Some(Context::of_netns_pool(Arc::clone(&shared.run))),
        allowance: Allowance::of_caller(),
        shared,
        released: Vec::new(),
        interval: FIRST_INTERVAL,
        progress: None,
        retry: None,
        unfit: UnfitThreads::default(),
    };
    maker.shared.process.ensure(maker.allowance)?;
    maker.lease_thread().map_err(|(error, _maker)| error)
}

struct Maker {
    shared: Arc<Shared>,
    /// Current in the user's closure.
    context: Option<Context>,
    allowance: Allowance,
    /// The namespaces whose last handle is gone, and which were not gone at the last look.
    released: Vec<File>,
    interval: Duration,
    /// When a namespace was last released, or was last found to be gone.
    progress: Option<Instant>,
    /// When to try again, after the kernel had no room.
    retry: Option<Instant>,
    unfit: UnfitThreads,
}

impl Maker {
    /// Runs the maker on a pinned thread.
    fn lease_thread(self) -> Result<(), (Error, Box<Maker>)> {
        let lease: Lease = match Pool::of_process().lease(Role::Bodies) {
            Ok(lease) => lease.uncounted(),
            Err(error) => return Err((error, Box::new(self))),
        };
        lease.submit(move |thread, lease| {
            let mut maker = self;
            // The lease ends without a restore, so the thread exits: code of the user's libraries (subscribers) has run
            // on it.
            let _lease = lease;
            let mut may_go_on = Ok(());
            if let Some(thread) = thread {
                if thread.admit(None, || maker.allowance).is_some() {
                    // Best effort: the name is diagnostic only.
                    let _ = sys::name_current_thread(c"in-netns-pool");
                    return maker.run();
                }
                may_go_on = maker.unfit.count();
            }
            // The worker failed its inspection or cannot adopt the capabilities.
            let leased = match may_go_on {
                Ok(()) => maker.lease_thread(),
                Err(error) => Err((error, Box::new(maker))),
            };
            if let Err((error, maker)) = leased {
                maker.end(Some(&error));
            }
        });
        Ok(())
    }

    fn run(mut self) {
        // The user's closure runs in calls of its own. Subscribers of the user's libraries run on this thread.
        if let Some(context) = self.context.take() {
            contain(|| context.within(|| self.run_loop()));
            contain(|| drop(context));
        }
        self.end(None);
    }

    /// Ends the pool: no more namespaces are made. `error` says why, if no thread could be leased.
    fn end(self, error: Option<&Error>) {
        let Maker { shared, released, .. } = self;
        drop(released);
        let mut state = shared.lock();
        state.life = Life::Over;
        state.unwatched.clear();
        state.error = error.cloned();
        let takers = std::mem::take(&mut state.takers);
        drop(state);
        shared.ended.notify_all();
        for taker in takers {
            // One that has left needs no answer.
            let _ = taker.fill(Err(error.cloned().unwrap_or_else(is_over)));
        }
        // This may drop the user's closure, which may panic.
        contain(|| drop(shared));
    }

    fn run_loop(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            // Wakers are user code.
            in_one_process(|| self.give_up_on_late_takers());
            self.look();
            let mut state = shared.lock();
            if state.life != Life::Open {
                return;
            }
            if state.is_news {
                // The namespaces that were released meanwhile must be counted before the next decision.
                state.is_news = false;
                self.interval = FIRST_INTERVAL;
                if !state.released.is_empty() {
                    continue;
                }
            }
            if self.is_wanted(&state) {
                state.held += 1;
                drop(state);
                in_one_process(|| self.make());
            } else {
                self.wait(state);
            }
        }
    }

    /// Whether a namespace must be made, and can be.
    fn is_wanted(&self, state: &State) -> bool {
        let settings = self.shared.settings;
        let is_failing = state.is_paused || matches!(state.ready.back(), Some(Err(_)));
        let is_short = !state.takers.is_empty() || (state.ready.len() < settings.ready && !is_failing);
        let is_room = settings.at_most.is_none_or(|at_most| state.alive() < at_most);
        is_short && is_room && self.retry.is_none_or(|retry| retry <= Instant::now())
    }

    fn wait(&mut self, mut state: MutexGuard<'_, State>) {
        let now = Instant::now();
        // A time that has passed is cleared: no namespace is wanted, or it would have been tried now.
        self.retry = self.retry.filter(|retry| *retry > now);
        let is_awaited = !state.takers.is_empty();
        let mut timeout = self.retry.map(|retry| retry.saturating_duration_since(now));
        if !self.released.is_empty() && (is_awaited || self.interval <= LAST_INTERVAL) {
            let interval = if is_awaited { self.interval.min(LONGEST_INTERVAL) } else { self.interval };
            timeout = Some(timeout.map_or(interval, |timeout| timeout.min(interval)));
            self.interval = self.interval.saturating_mul(2).min(2 * LAST_INTERVAL);
        } else {
            state.dismantling -= self.released.len();
            state.unwatched.append(&mut self.released);
        }
        let deadline = state.takers.iter().filter_map(|taker| taker.deadline).min();
        if let Some(deadline) = deadline {
            let rest = deadline.saturating_duration_since(now);
            timeout = Some(timeout.map_or(rest, |timeout| timeout.min(rest)));
        }
        let changed = &self.shared.changed;
        let is_quiet = |state: &mut State| !state.is_news;
        match timeout {
            Some(timeout) => drop(changed.wait_timeout_while(state, timeout, is_quiet)),
            None => drop(changed.wait_while(state, is_quiet)),
        }
    }

    /// Finds out which namespaces are gone.
    fn look(&mut self) {
        let mut state = self.shared.lock();
        let released = std::mem::take(&mut state.released);
        let unwatched = std::mem::take(&mut state.unwatched);
        state.dismantling += released.len() + unwatched.len();
        drop(state);
        if released.is_empty() && unwatched.is_empty() && self.released.is_empty() {
            return;
        }
        if !released.is_empty() {
            self.progress = Some(Instant::now());
        }
        let before = self.released.len() + unwatched.len() + released.len();
        self.released.extend(unwatched);
        self.released.extend(released.into_iter().flatten());
        self.released.retain(is_there);
        let gone = before - self.released.len();
        if gone > 0 {
            self.progress = Some(Instant::now());
            self.interval = FIRST_INTERVAL;
            self.retry = None;
            let mut state = self.shared.lock();
            state.dismantling -= gone;
            state.is_paused = false;
        }
    }

    /// Makes a namespace, and gives it, or the failure, to a caller. It is counted as held already.
    fn make(&mut self) {
        let (netns, sentinel) = match new_with(|| sys::unless_short(open_sentinel())) {
            Ok((netns, Ok(sentinel))) => (netns, sentinel),
            // Without it, the namespace would not be counted while it is dismantled.
            Ok((_, Err(errno))) => {
                return self.not_made(Error::from_errno("open a file that tells when a namespace is gone", errno));
            }
            Err(error) => return self.not_made(error),
        };
        self.retry = None;
        // From here on the companion counts it until it is gone.
        let netns = netns.with_companion(Slot::new(&self.shared, sentinel));
        let item = match self.prepare(&netns) {
            Ok(()) => Ok(netns),
            Err(error) => {
                // It is released before a caller gets the error.
                drop(netns);
                Err(error)
            }
        };
        self.shared.deliver(item, VecDeque::push_back);
    }

    /// Prepares a namespace with the user's closure, in a call of its own: its changes do not stay on this thread.
    fn prepare(&self, netns: &NetNs) -> Result<(), Error> {
        pinned(|_| {
            // `to_string` and the payload's destructor are user code too.
            let prepared = in_one_process(|| {
                let failure = match catch(|| (self.shared.prepare.0)(netns)) {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(failure)) => failure,
                    Err(payload) => text_of(payload).into(),
                };
                Err((catch(|| failure.to_string()).unwrap_or_else(text_of), failure))
            });
            let Err((message, failure)) = prepared else { return Ok(()) };
            Err(Error::not_prepared(format!("prepare {netns} for a pool"), &message, failure))
        })?
    }

    /// Reports to a caller that no namespace can be made. Where the kernel may soon have room, tries again later.
    fn not_made(&mut self, error: Error) {
        let mut state = self.shared.lock();
        state.held -= 1;
        let is_full = error.raw_os_error() == Some(Errno::ENOSPC as i32);
        let is_going = !state.released.is_empty() || self.progress.is_some_and(|last| last.elapsed() < DISMANTLING);
        if is_full && is_going {
            self.retry = Some(Instant::now() + RETRY_INTERVAL);
            return;
        }
        self.retry = None;
        // Without a caller the error is dropped: there may be room by the time that one comes.
        state.is_paused = true;
        if state.takers.is_empty() {
            return;
        }
        drop(state);
        self.shared.deliver(Err(error), |_, _| ());
    }

    /// Answers the futures whose timeout has passed.
    fn give_up_on_late_takers(&self) {
        let now = Instant::now();
        let mut late = Vec::new();
        self.shared.lock().takers.retain(|taker| {
            let is_late = taker.deadline.is_some_and(|deadline| deadline <= now);
            if is_late {
                late.push(Arc::clone(taker));
            }
            !is_late
        });
        for taker in late {
            let _ = taker.fill(Err(self.shared.timed_out(self.shared.settings.timeout)));
        }
    }
}

/// The message of a panic.
fn text_of(payload: Payload) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => format!("it panicked: {text}"),
        (None, Some(text)) => format!("it panicked: {text}"),
        (None, None) => "it panicked, with a payload that is no text".into(),
    };
    discard(payload);
    text
}
