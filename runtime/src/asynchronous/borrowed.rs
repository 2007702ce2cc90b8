//! The borrowed form: each poll of the call's future is handed over to the body's thread, and waited for.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::entry::Work;
use super::polls::{self, Ended, Invitation, Left, Owner, Patience};
use super::stay::{Ending, Stay};
use super::task::caught;
use crate::call::{Options, Outcome};
use crate::context::Context;
use crate::error::Error;
use crate::netns::NetNs;
use crate::thread::{Inspect, Pool};

/// As much as tokio lets a task do in one poll before it has it yield: 128 operations. A turn takes half a microsecond. Polls that
/// compute end it after the time that two crossings take: whoever awaits waits for one of those, and not for 128.
const PATIENCE: Patience = Patience { polls: 128, turns: 3, time: Duration::from_micros(100) };

thread_local! {
    /// The call that the calling thread is host of: the address of its line.
    static HOST_OF: Cell<usize> = const { Cell::new(0) };
}

/// The life of a call, on the side of whoever awaits it.
pub(crate) async fn call<F, Fut, R>(ns: NetNs, options: Options, inspect: Inspect, body: F) -> Result<Outcome<R>, Error>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = R>,
    R: Send,
{
    let brought = Arc::new(Mutex::new(None));
    let (owner, invitation) = {
        let (brought, context) = (Arc::clone(&brought), Context::of_async_caller());
        let body = move || async move {
            let value = caught(context, body).await;
            *brought.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        };
        polls::pair(Pool::of_process()?.spin_limit().0, PATIENCE, body)
    };
    let cargo = (invitation, owner.address());
    // The call holds no reference to the namespace when it returns: its thread gets this one.
    let work = Work { ns, options: options.clone(), inspect, cargo, live: host };
    if let Err((error, Work { cargo: (invitation, _), .. })) = work.begin() {
        owner.withdraw(invitation);
        return Err(error);
    }
    let mut running = Running { owner };
    let ended = poll_fn(|cx| {
        assert!(
            !running.is_hosted_here(),
            "the future of an async call was polled by a task of that very call, which would wait for itself for ever"
        );
        running.owner.poll(cx.waker())
    })
    .await;
    let Ok(mut ending) = ended else { unreachable!("the thread of an async call was lost") };
    let refused = ending.refused.take();
    let (fate, strays) = ending.settle();
    let value = brought.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (refused, value) {
        (Some(error), _) => Err(error),
        (None, Some(value)) => Ok(Outcome { value, thread: options.fate(fate), strays }),
        (None, None) => unreachable!("a body that has finished brings something back"),
    }
}

/// The same life, on the pinned thread.
fn host(stay: Result<Stay<'_>, Ending>, (invitation, address): (Invitation<Ending>, usize)) {
    let mut stay = match stay {
        Ok(stay) => stay,
        Err(refused) => return invitation.decline(refused),
    };
    HOST_OF.set(address);
    let mut host = invitation.accept();
    let ended = stay.drive(poll_fn(|cx| host.serve(cx)));
    if ended == Ended::Finished && stay.may_take_long_to_end() {
        host.release();
    }
    let ending = stay.end();
    HOST_OF.set(0);
    if let Some(ending) = host.finish(ending) {
        ending.settle_alone();
    }
}

/// A call under way. Dropping it cancels the body.
struct Running<F, Fut> {
    owner: Owner<F, Fut, Ending>,
}

impl<F, Fut> Running<F, Fut> {
    fn is_hosted_here(&self) -> bool {
        HOST_OF.get() == self.owner.address()
    }
}

impl<F, Fut> Drop for Running<F, Fut> {
    fn drop(&mut self) {
        let on_host = self.is_hosted_here();
        let Left { ended, thrown } = self.owner.leave(on_host);
        if let Some(ending) = ended {
            ending.settle();
        }
        if let Some(payload) = thrown {
            if !thread::panicking() {
                // As if the body had been dropped here.
                panic::resume_unwind(payload);
            }
        }
    }
}
