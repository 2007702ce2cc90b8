//! A tokio runtime that lives in a namespace, for as long as a service does.
//!
//! **Promised:** every thread of it is in the namespace before it runs anything, or runs nothing. Workers are born there: the runtime is
//! built on a pinned thread that is inside. Blocking threads start later and inherit from whoever needs one, so they enter when
//! they start.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use super::session::{enter_by_birth_or_now, panic_unless_entered};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;

impl NetNs {
    /// A tokio runtime whose threads, workers and blocking pool alike, all live in this namespace: for a service.
    ///
    /// ```
    /// # in_netns::rootless!();
    /// let blue = in_netns::NetNs::new()?;
    /// let service = blue.tokio_builder().worker_threads(2).build()?;
    /// let inside = blue.clone();
    /// assert!(service.block_on(async move { inside.is_current() })??);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tokio_builder(&self) -> RuntimeBuilder {
        let mut builder = Builder::new_multi_thread();
        builder.enable_all();
        RuntimeBuilder { ns: self.clone(), builder }
    }
}

/// Builds a [`NetNsRuntime`]: see [`NetNs::tokio_builder`].
#[derive(Debug)]
#[must_use = "nothing is started until `build`"]
pub struct RuntimeBuilder {
    ns: NetNs,
    builder: Builder,
}

impl RuntimeBuilder {
    /// How many threads run tasks: as many as there are CPUs, unless set.
    ///
    /// # Panics
    ///
    /// Where it is none, as [`Builder::worker_threads`] does.
    pub fn worker_threads(self, count: usize) -> RuntimeBuilder {
        self.configure(|builder| {
            builder.worker_threads(count);
        })
    }

    /// How many threads run blocking closures at most, as [`Builder::max_blocking_threads`].
    ///
    /// # Panics
    ///
    /// Where it is none.
    pub fn max_blocking_threads(self, count: usize) -> RuntimeBuilder {
        self.configure(|builder| {
            builder.max_blocking_threads(count);
        })
    }

    /// Names the threads: what `/proc/PID/task/TID/comm` shows (15 bytes of it), and panic messages.
    pub fn thread_name(self, name: impl Into<String>) -> RuntimeBuilder {
        self.configure(|builder| {
            builder.thread_name(name);
        })
    }

    /// Sets whatever else tokio's own builder can. It is a multi-thread one, with all drivers enabled.
    ///
    /// Its `on_thread_start` is taken: that is where the threads are looked after.
    pub fn configure(mut self, configure: impl FnOnce(&mut Builder)) -> RuntimeBuilder {
        configure(&mut self.builder);
        self
    }

    /// Starts the runtime, and returns when its workers stand in the namespace.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and [`LimitReached`](ErrorKind::LimitReached) where threads or descriptors are short.
    /// No worker is left then.
    pub fn build(self) -> Result<NetNsRuntime, Error> {
        let RuntimeBuilder { ns, mut builder } = self;
        let (arrive, arrivals) = mpsc::channel();
        let target = ns.clone();
        builder.on_thread_start(move || {
            let entered = enter_by_birth_or_now(&target);
            // Heard for the workers alone: nobody listens any more when a blocking thread starts.
            let _ = arrive.send(entered.clone());
            panic_unless_entered(&target, entered);
        });
        let failed = |source| Error::from_io(ErrorKind::LimitReached, format!("build a tokio runtime in {ns}"), source);
        let runtime = ns.run(|| builder.build())?.map_err(failed)?;
        let workers = runtime.metrics().num_workers();
        let service = NetNsRuntime { ns, runtime: Some(runtime) };
        for arrival in arrivals.iter().take(workers) {
            // Dropped on an error: with the service, all of it goes.
            arrival?;
        }
        Ok(service)
    }
}

/// A tokio runtime whose threads all live in one namespace: see [`NetNs::tokio_builder`].
///
/// A blocking thread that cannot enter, because what asked for it has given up `CAP_SYS_ADMIN`, panics and runs nothing: its closure
/// waits for another thread, and is cancelled at the shutdown.
///
/// Dropping it shuts the runtime down as dropping tokio's own does: tasks are dropped at their next yield, and blocking closures
/// that run are waited for. So it is not to be dropped in async code; [`NetNsRuntime::shutdown_background`] is for that.
#[derive(Debug)]
pub struct NetNsRuntime {
    ns: NetNs,
    /// `None` while it is shut down.
    runtime: Option<Runtime>,
}

impl NetNsRuntime {
    /// The namespace that its threads live in.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.ns
    }

    /// The handle of the runtime, for spawning onto it from anywhere.
    ///
    /// [`Handle::block_on`] would poll its future on the calling thread, wherever that is: use [`NetNsRuntime::block_on`].
    #[must_use]
    pub fn handle(&self) -> &Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle(),
            None => unreachable!("a runtime that is shut down has no poller"),
        }
    }

    /// Spawns a task, which runs on the workers, inside.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle().spawn(future)
    }

    /// Runs a closure on a blocking thread, inside.
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle().spawn_blocking(f)
    }

    /// Runs a future to its end, on a pinned thread inside, with this runtime's timers and sockets. The calling thread waits.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns). The future was then never polled.
    ///
    /// # Panics
    ///
    /// A panic of the future is resumed here.
    pub fn block_on<F>(&self, future: F) -> Result<F::Output, Error>
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.ns.run(|| self.handle().block_on(future))
    }

    /// Shuts down, and waits for blocking closures for so long.
    pub fn shutdown_timeout(mut self, duration: Duration) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(duration);
        }
    }

    /// Shuts down without waiting: from async code, for instance.
    pub fn shutdown_background(self) {
        self.shutdown_timeout(Duration::ZERO);
    }
}
