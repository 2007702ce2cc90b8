//! Async calls: a future that lives in a namespace, on a pinned thread, under any executor.
//!
//! ```text
//! caller: first poll: lease ─ job ─ poll ─ wait │ … │ poll ─ wait │ … │ poll ─ wait ──────────────── value | panic
//! pinned:                   enter ─ build runtime ─ make body, poll │ reactor, children │ poll ─ end runtime ─ restore
//! ```
//!
//! **Promised:** what [`with_netns`](crate::with_netns) promises, for the whole of an async body. The body is made,
//! polled and dropped on a pinned thread inside the namespace, in a tokio runtime of the call's own. What it spawns
//! runs inside too, and has ended before the call's future is ready. The executor's threads never move.
//!
//! **Why a runtime for each call:** a task spawned on the caller's runtime, or a name looked up on its blocking pool,
//! would run in the caller's network. That cannot happen where the only runtime in reach is the call's own.
//!
//! The modules, in the order in which a call meets them: [`launch`] starts a thread; a [`session`] is that thread's
//! time inside, with a [`runtime`] and [`local`] tasks; [`poll_rendezvous`] gives it the polls of a [`body`] that may
//! borrow ([`borrowed`]). A body that borrows nothing runs at its own pace ([`owned`]), and has a handle ([`join`]).
//! Both are polled in the [`table`] of file descriptors that they began in.

mod body;
mod borrowed;
mod budget;
mod command;
mod join;
mod launch;
mod local;
mod owned;
#[allow(unsafe_code)] // A borrowed future is polled on another thread: see the module's documentation.
mod poll_rendezvous;
mod runtime;
mod service;
mod session;
mod sockets;
mod table;
mod walk;
mod watch;

use std::future::Future;

pub(crate) use body::GivenBody;
pub use join::{AbortHandle, JoinError, JoinHandle};
pub(crate) use owned::call as call_owned;
pub use service::{NetNsRuntime, RuntimeBuilder};
pub use sockets::IntoSocketAddrs;
pub use walk::walk_async;

use crate::call::view::View;
use crate::call::{Call, Outcome};
use crate::error::Error;
use crate::netns::{IntoNetNs, NetNs};
use crate::thread::Inspect;

/// Runs an async body inside a network namespace: [`with_netns`](crate::with_netns) for futures.
///
/// `body` makes a future. It is made, polled and dropped on a pinned thread inside the namespace, in a current-thread
/// tokio runtime (with a [`LocalSet`](tokio::task::LocalSet)) of this call. So `tokio::spawn`, `spawn_local`,
/// `spawn_blocking`, timers, sockets and name look-ups are inside as well. Everything spawned has ended when the
/// returned future is ready: tasks are dropped, and blocking closures are waited for (without blocking the executor).
///
/// The returned future can be awaited under any executor. The body may borrow from its surroundings. Only the closure
/// and the output cross threads and must be [`Send`]: the body may hold an `Rc` across an `.await`. The namespace is
/// found when the future is first polled ([`Call::new`] finds it at once).
///
/// - **Dropping** the returned future drops the body on its thread, inside, and waits for that: for one poll at most.
///   What the body had spawned is dropped soon after. Blocking closures that run already are left to end by themselves
///   in the namespace; the thread is counted as leased until then. A panic of the body's destructors is resumed where
///   the future is dropped, unless that thread panics already.
/// - **tokio's I/O objects** belong to the call's runtime and do not work after it: they return errors, and timers
///   panic. To hand a socket out, return the `std` one (`into_std`), and have the caller's runtime take it
///   (`from_std`).
/// - **A handle of the call's runtime** ([`Handle::current`](tokio::runtime::Handle::current)) that the body hands out
///   spawns tasks and blocking closures inside as long as the call lasts. They are cancelled afterwards. Its `block_on`
///   polls a future on the thread that calls it, and so outside.
/// - **Task-locals** of the caller are not visible in the body: it is polled on another thread.
/// - **Children share the thread** with the body: one that does not yield delays the body, and with it the poll of the
///   returned future. A poll waits for that of the body: a timeout around the call fires when the body has yielded.
/// - **The call's runtime is a current-thread one**: `tokio::task::block_in_place` panics in the body; `spawn_blocking`
///   is the way. Where no thread can be started for a blocking closure, tokio panics, and the body with it.
/// - **Cooperation**: a call takes one unit of the budget of the caller's tokio task, as an operation of tokio does
///   ([`tokio::task::coop`]). So a task that makes one call after another yields.
/// - **The clock** is the call's own: `tokio::time::pause` on the caller's runtime does not pause it. The paused clock
///   of the caller does not wait for a call: it goes on to the next timer, such as that of a timeout around the call.
/// - **Wakers** of the executor are called on the call's thread, inside the namespace. An executor that polls its task
///   where it is woken runs the task there, until the task polls this future. That poll returns pending, and the task
///   is woken again on a thread at home; where no thread can be started for this, the poll panics. If the future is
///   dropped there, the body is dropped at once.
///   A waker may block on another call (`block_on`). One that blocks on its own call, or on one that awaits it, panics:
///   that call can go on only when the waker has returned. A task of a call that awaits that call panics as well. An
///   executor must take wakes from other threads than its own: `monoio` does so only with its feature `sync`, and waits
///   forever without it.
/// - **A call under way has** a thread and four descriptors, those of its runtime.
/// - **Forgetting** the returned future ([`std::mem::forget`]) once it was polled leaves the body where it is,
///   untouched, and its thread with it.
///
/// Where the body borrows nothing, [`NetNs::spawn_async`] spares the hand-over of each poll.
///
/// # Errors
///
/// As [`with_netns`](crate::with_netns), and [`LimitReached`](crate::ErrorKind::LimitReached) if no descriptors are
/// left for a runtime. In each case the body was never made.
///
/// # Panics
///
/// A panic of the body is resumed in the caller, with its own payload, after the thread is restored.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{NetNs, with_netns_async};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let blue = NetNs::new()?;
/// let port = 80;
/// let listener = with_netns_async(&blue, || async {
///     let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
///     listener.into_std() // A tokio listener stops working with the call's runtime.
/// })
/// .await??;
/// assert_eq!(NetNs::of_socket(&listener)?, blue);
/// let listener = tokio::net::TcpListener::from_std(listener)?; // The socket stays in `blue`.
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
///
/// A value that is not `Send` cannot cross to another thread:
///
/// ```compile_fail,E0277
/// let text = std::rc::Rc::new("here");
/// let call = in_netns::with_netns_async("blue", || async { println!("{text}") });
/// ```
pub fn with_netns_async<N, F, Fut, R>(ns: N, body: F) -> impl Future<Output = Result<R, Error>>
where
    N: IntoNetNs,
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output = R>,
    R: Send,
{
    let body = Box::new(body);
    async move {
        let (body, value) = GivenBody::new(body);
        Call::new(ns).run_body(body).await.map(|()| value.take())
    }
}

impl NetNs {
    /// Runs an async body inside this namespace: [`with_netns_async`], as a method.
    ///
    /// # Errors
    ///
    /// As [`with_netns_async`].
    ///
    /// # Panics
    ///
    /// As [`with_netns_async`].
    pub fn run_async<F, Fut, R>(&self, body: F) -> impl Future<Output = Result<R, Error>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = R>,
        R: Send,
    {
        with_netns_async(self, body)
    }

    /// Starts an async body inside this namespace that runs independently of the caller. The body must borrow nothing.
    ///
    /// It differs from [`with_netns_async`] in that no poll is passed between threads. The handle behaves like that of
    /// a tokio task: awaiting it returns the output when everything has ended, dropping it detaches the body, and
    /// [`JoinHandle::abort`] drops the body. If the body could not be started, the handle returns the error: see
    /// [`JoinError::entry`]. The handle can be awaited in any runtime. The body goes on after the end of the runtime in
    /// which it was started.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let blue = in_netns::NetNs::new()?;
    /// let inside = blue.clone();
    /// let task = blue.spawn_async(move || async move { inside.is_current() });
    /// assert!(task.await??);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_async<F, Fut, R>(&self, body: F) -> JoinHandle<R>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        Call::new(self).spawn_async(body)
    }
}

impl View {
    /// Runs an async body in the view: [`with_netns_async`], with a view.
    ///
    /// Blocking threads of the call's runtime, which look up names, are in the view too.
    ///
    /// # Errors
    ///
    /// As [`with_netns_async`] and [`View::run`].
    ///
    /// # Panics
    ///
    /// As [`with_netns_async`].
    pub fn run_async<F, Fut, R>(&self, body: F) -> impl Future<Output = Result<R, Error>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = R>,
        R: Send,
    {
        with_netns_async(self, body)
    }

    /// Starts an async body in the view that runs independently of the caller: [`NetNs::spawn_async`], with a view.
    pub fn spawn_async<F, Fut, R>(&self, body: F) -> JoinHandle<R>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        Call::new(self).spawn_async(body)
    }
}

impl Call {
    /// Runs an async body, and returns its output: [`with_netns_async`], with options.
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), in_netns::Error> {
    /// use in_netns::{Call, NetNs};
    ///
    /// let call = Call::new(NetNs::new()?).fresh().thread_name("probe");
    /// assert_eq!(call.run_async(|| async { 6 * 7 }).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`with_netns_async`].
    ///
    /// # Panics
    ///
    /// As [`with_netns_async`].
    pub fn run_async<F, Fut, R>(self, body: F) -> impl Future<Output = Result<R, Error>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = R>,
        R: Send,
    {
        let body = Box::new(body);
        async move {
            let (body, value) = GivenBody::new(body);
            self.run_body(body).await.map(|()| value.take())
        }
    }

    /// Runs a body. Its value is in its place then.
    pub(crate) async fn run_body(self, body: GivenBody<'_>) -> Result<(), Error> {
        Call::execute_async(Ok(self), Inspect::Later, body).await.map(Outcome::into_value)
    }

    /// Runs an async body, and returns the full outcome, as [`Call::outcome`] does.
    ///
    /// An audit checks after everything that the body spawned on its runtime has ended. It finds threads that were
    /// started by other means.
    ///
    /// # Errors
    ///
    /// As [`with_netns_async`]. A panic is part of the outcome, and is not resumed.
    pub fn outcome_async<F, Fut, R>(self, body: F) -> impl Future<Output = Result<Outcome<R>, Error>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = R>,
        R: Send,
    {
        let body = Box::new(body);
        async move {
            let (body, value) = GivenBody::new(body);
            let Outcome { value: ended, thread, strays } = Call::execute_async(Ok(self), Inspect::Now, body).await?;
            Ok(Outcome { value: ended.map(|()| value.take()), thread, strays })
        }
    }

    /// Starts an async body that runs independently of the caller: [`NetNs::spawn_async`], with options.
    ///
    /// The hook of [`set_stray_hook`](crate::set_stray_hook) is called for each stray of an audit. If the namespace
    /// cannot be found, the handle returns the error: [`JoinError::entry`].
    pub fn spawn_async<F, Fut, R>(self, body: F) -> JoinHandle<R>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let (body, value) = GivenBody::new(Box::new(body));
        JoinHandle::new(owned::spawn(self, body, value.clone()), value)
    }

    /// Runs a call, or returns the failure to find its place. The outcome has no value: that is in its place then.
    pub(crate) async fn execute_async(
        call: Result<Call, Error>,
        inspect: Inspect,
        body: GivenBody<'_>,
    ) -> Result<Outcome<()>, Error> {
        // The whole call may end in its first poll. In a loop of such calls, the caller's task would never yield.
        budget::take_unit().await;
        let (place, options) = call?.into_parts()?;
        borrowed::call(place, options, inspect, body).await
    }
}
