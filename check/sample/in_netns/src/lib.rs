//! Stand-in for `in-netns`: the public functions that take a body, with the same generics. Each call runs its body on a
//! thread of its own, as the real crate may, so that a check which blamed the library's own threads on the body would
//! be seen.

use std::future::Future;
use std::io::Error;
use std::marker::PhantomData;
use std::pin::Pin;
use std::thread;

/// What a namespace may be named by.
pub trait IntoNetNs {}

impl IntoNetNs for &str {}
impl IntoNetNs for &NetNs {}

/// A network namespace.
pub struct NetNs(());

impl NetNs {
    /// The namespace of the calling thread.
    pub fn current() -> Result<NetNs, Error> {
        Ok(NetNs(()))
    }

    /// Runs `f` in this namespace.
    pub fn run<F, R>(&self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        with_netns(self, f)
    }
}

/// Runs `f` in `ns`.
pub fn with_netns<N, F, R>(ns: N, f: F) -> Result<R, Error>
where
    N: IntoNetNs,
    F: FnOnce() -> R + Send,
    R: Send,
{
    Call::new(ns).run(f)
}

/// One call, and how it is to be made.
pub struct Call<N>(PhantomData<N>);

impl<N: IntoNetNs> Call<N> {
    /// A call into `ns`.
    pub fn new(_ns: N) -> Self {
        Self(PhantomData)
    }

    /// Runs `f`.
    pub fn run<F, R>(self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        pinned(|_| f())
    }
}

/// Proof of standing on a pinned thread.
pub struct PinnedThread(PhantomData<*mut ()>);

/// Runs `f` on a pinned thread, at home.
pub fn pinned<F, R>(f: F) -> Result<R, Error>
where
    F: FnOnce(&mut PinnedThread) -> R + Send,
    R: Send,
{
    thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, || f(&mut PinnedThread(PhantomData)))?
            .join()
            .map_err(|_| Error::other("the body panicked"))
    })
}

/// Runs the future that `f` makes in `ns`, with all that it spawns on tokio.
pub fn with_netns_async<N, F, Fut>(_ns: N, f: F) -> Pin<Box<dyn Future<Output = Fut::Output>>>
where
    N: IntoNetNs,
    F: FnOnce() -> Fut + 'static,
    Fut: Future,
{
    Box::pin(async move { f().await })
}
