//! Names that come and go, for async code: [`Watch`] as a stream.
//!
//! **How:** the reactor of tokio waits until the descriptor of the watch is readable, in place of `poll(2)`. A change
//! is reported once, to the reactor or to another wait, so the names are compared before each wait. Each poll registers
//! with the reactor of the runtime that it is made in.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::unconstrained;

use crate::error::{Error, ErrorKind};
use crate::netns::watch::{Watch, WatchEvent};
use crate::sys::process_local::DroppedInProcess;

const OPERATION: &str = "wait for changes of the names of network namespaces (epoll)";

impl Watch {
    /// Waits for the next change, in async code.
    ///
    /// No change is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`Watch::try_next`], and [`ErrorKind::Unsupported`] outside a tokio runtime, and in one that was shut down.
    ///
    /// # Panics
    ///
    /// In a tokio runtime without its I/O driver (`enable_io`).
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::{NetNs, WatchEvent};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), in_netns::Error> {
    /// # let blue = &format!("in-netns-doc-next-async-{}", std::process::id());
    /// let (_, mut watch) = NetNs::watch()?;
    /// NetNs::create_named(blue)?;
    /// loop {
    ///     match watch.next_async().await? {
    ///         WatchEvent::Created { name, .. } if name == *blue => break,
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # NetNs::delete_named(blue)
    /// # }
    /// ```
    pub async fn next_async(&mut self) -> Result<WatchEvent, Error> {
        poll_fn(|context| self.poll_event(context)).await
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent, Error>> {
        // The runtime of the last poll may be another one, and one that is not driven reports nothing.
        self.registration = None;
        loop {
            if let Some(event) = self.look()? {
                return Poll::Ready(Ok(event));
            }
            if self.registration.is_none() {
                self.registration = Some(self.register()?);
                // Registering polls the descriptor, which may consume the report of a change.
                continue;
            }
            let Some(registered) = self.registration.as_ref().and_then(DroppedInProcess::get) else {
                unreachable!("it was made before")
            };
            // Without the budget of the task, for which an executor inside the task would wait forever. A task that
            // does not yield here takes one event after another, and there are few.
            let is_ready = pin!(unconstrained(poll_fn(|context| registered.poll_read_ready(context))));
            match ready!(is_ready.poll(context)) {
                Ok(mut guard) => guard.clear_ready(),
                Err(source) => return Poll::Ready(Err(refused(source))),
            }
        }
    }

    fn register(&self) -> Result<DroppedInProcess<AsyncFd<OwnedFd>>, Error> {
        if Handle::try_current().is_err() {
            let why = "a `Watch` is polled outside a tokio runtime, whose reactor it uses; in other async code, wait \
                       for its descriptor to have an exceptional condition, and call `try_next`";
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, why));
        }
        // The warning is for descriptors that may be closed while they are registered. This one is owned.
        #[allow(deprecated)]
        let register = |descriptor| AsyncFd::with_interest(descriptor, Interest::READABLE);
        let descriptor = self.changes.as_fd().try_clone_to_owned();
        descriptor.and_then(register).map(DroppedInProcess::new).map_err(refused)
    }
}

/// The error of the runtime's reactor. A runtime that has been shut down has no errno.
fn refused(source: io::Error) -> Error {
    if source.raw_os_error().is_some() {
        return Error::from_std(OPERATION, source).explain_no_watch();
    }
    let why = format!("the tokio runtime refused: {source}");
    Error::from_io(ErrorKind::Unsupported, OPERATION, source).explained(why)
}

impl Stream for Watch {
    type Item = Result<WatchEvent, Error>;

    /// Waits for the next change: see [`Watch::next_async`]. The stream does not end.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(context).map(Some)
    }
}
