//! A tokio runtime that stays in a namespace, for services.
//!
//! **Promised:** every thread of it is in the namespace before it runs anything, or runs nothing. Workers inherit the
//! namespace: the runtime is built on a pinned thread that is inside. Blocking threads start later, and inherit the
//! namespace of the thread that needs one, so they enter when they start. When a runtime has been dropped, or could not
//! be built, none of its threads is left, and nothing holds the namespace.

use std::cell::Cell;
use std::future::Future;
use std::ops::DerefMut;
use std::pin::{Pin, pin};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{fmt, io, mem, panic, thread};

use scopeguard::ScopeGuard;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::JoinHandle;

use super::runtime::{
    ThreadExits, UntilEnd, end_thread_of_no_runtime, enter_by_birth_or_now, panic_unless_entered, refused_by_tokio,
};
use crate::call::{LARGEST_MOVED, until_nul};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::process_local::{ProcessMark, end_child_at_thread_exit, in_one_process};
use crate::sys::{self, Kind, Numbering, ProcTask};
use crate::thread::{Pool, ThreadExit, tokio_at_home};
use crate::unwind::{Payload, catch};

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
        // The options of the user may replace the two functions.
        builder.enable_all().on_thread_park(end_forked_thread).on_thread_stop(end_forked_thread);
        RuntimeBuilder { ns: self.clone(), builder }
    }
}

thread_local! {
    /// The process in which this thread of a runtime was started.
    static STARTED_IN: Cell<Option<ProcessMark>> = const { Cell::new(None) };
}

/// Ends the calling process where it is a child that was forked on this thread of a runtime. It shares the epoll
/// instance of the parent's runtime, and would take its events.
fn end_forked_thread() {
    STARTED_IN.get().into_iter().for_each(ProcessMark::end_child);
}

/// A future of a runtime. A child process that was forked in a poll of it ends when its copy of that poll returns: the
/// thread has other tasks, and they are the parent's.
struct InOneProcess<P>(Pin<P>);

impl<P: DerefMut<Target: Future> + Unpin> Future for InOneProcess<P> {
    type Output = <P::Target as Future>::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        in_one_process(|| self.0.as_mut().poll(cx))
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
    /// Sets how many threads run tasks: as many as there are CPUs, unless set.
    ///
    /// # Panics
    ///
    /// If `count` is 0, as [`Builder::worker_threads`] does.
    pub fn worker_threads(self, count: usize) -> RuntimeBuilder {
        self.configure(|builder| {
            builder.worker_threads(count);
        })
    }

    /// Sets how many threads run blocking closures at most, as [`Builder::max_blocking_threads`].
    ///
    /// # Panics
    ///
    /// If `count` is 0.
    pub fn max_blocking_threads(self, count: usize) -> RuntimeBuilder {
        self.configure(|builder| {
            builder.max_blocking_threads(count);
        })
    }

    /// Names the threads: what `/proc/PID/task/TID/comm` shows (15 bytes of it), and panic messages. The name ends at
    /// the first NUL byte.
    pub fn thread_name(self, name: impl Into<String>) -> RuntimeBuilder {
        let name = until_nul(name.into());
        self.configure(|builder| {
            builder.thread_name(name);
        })
    }

    /// Enables all drivers, as [`Builder::enable_all`]. They are enabled already: this is for code that was written for
    /// tokio's own builder.
    ///
    /// ```
    /// # in_netns::rootless!();
    /// let blue = in_netns::NetNs::new()?;
    /// let service = blue.tokio_builder().worker_threads(1).enable_all().build()?;
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    pub fn enable_all(self) -> RuntimeBuilder {
        self.configure(|builder| {
            builder.enable_all();
        })
    }

    /// Sets other options of tokio's own builder, a multi-thread one with all drivers enabled. If it is replaced by one
    /// of a current-thread runtime, [`RuntimeBuilder::build`] is an error of kind [`ErrorKind::Unsupported`].
    ///
    /// `on_thread_start` has no effect: it is replaced by the function that enters the namespace. `on_thread_park` and
    /// `on_thread_stop` replace the functions that end forked children: see [`NetNsRuntime`].
    pub fn configure(mut self, configure: impl FnOnce(&mut Builder)) -> RuntimeBuilder {
        configure(&mut self.builder);
        self
    }

    /// Starts the runtime, and returns when its workers are in the namespace.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and [`LimitReached`](ErrorKind::LimitReached) where threads or descriptors
    /// are short, where there is no room for the stack of a thread, or where more than two seconds pass between the
    /// starts of two workers. No worker is left then, and nothing that holds the namespace. In the last case, and where
    /// threads become short while tokio starts them, tokio may keep four descriptors of its own. (The build looks for a
    /// shortage of threads first.)
    ///
    /// # Panics
    ///
    /// As [`Builder::build`], for options that are not those of a multi-thread runtime, such as `start_paused`. A panic
    /// of `thread_name_fn` is resumed here.
    pub fn build(self) -> Result<NetNsRuntime, Error> {
        let RuntimeBuilder { ns, mut builder } = self;
        let (arrive, arrivals) = mpsc::channel();
        let gate = Arc::new(Gate::default());
        let threads = Arc::new(Threads { target: UntilEnd::new(ns.clone()), exits: ThreadExits::default() });
        builder.on_thread_start({
            let (threads, gate) = (Arc::clone(&threads), Arc::clone(&gate));
            move || {
                STARTED_IN.set(Some(ProcessMark::current()));
                end_child_at_thread_exit();
                let target = threads.begin();
                let entered = enter_by_birth_or_now(&target);
                // Only workers are received: the receiver is gone when a blocking thread starts.
                let _ = arrive.send((sys::current_thread_id(), entered.clone()));
                panic_unless_entered(&target, entered);
                drop(target);
                gate.wait();
            }
        });
        let given_up = scopeguard::guard(Arc::clone(&threads), |threads| drop(threads.give_up()));
        let failed = |source: io::Error| refused_by_tokio(format!("build a tokio runtime in {ns}"), source);
        let all_threads = format!("the threads of a tokio runtime in {ns}");
        let not_started =
            |source: io::Error| Error::spawn_failed(&all_threads, source).with_kind(ErrorKind::LimitReached);
        let before = threads_inside(&ns);
        let runtime = ns.run(|| {
            tokio_at_home::check().map_err(failed)?;
            start_threads(workers_of(&builder), stack_size_of(&builder)).map_err(not_started)?;
            let built = catch(|| builder.build());
            let have_waited = gate.open();
            let built = built.map_err(|payload| not_started(no_thread_or_resume(payload)))?.map_err(failed)?;
            if !have_waited {
                // It has no workers, and would run nothing.
                drop(built);
                threads.wait();
                let why = "more than two seconds passed between the starts of two of them, and the first ones have \
                           ended; a function that `configure` has set (`thread_name_fn`) may take that long";
                return Err(Error::new(ErrorKind::LimitReached, format!("start {all_threads}"), why));
            }
            Ok(built)
        });
        let runtime = runtime??;
        if runtime.handle().runtime_flavor() != RuntimeFlavor::MultiThread {
            runtime.shutdown_background();
            let why = "`configure` has replaced the builder by one of a current-thread runtime, which has no threads \
                       of its own that could be in the namespace; an async call has such a runtime";
            return Err(Error::new(ErrorKind::Unsupported, format!("build a tokio runtime in {ns}"), why));
        }
        let workers = runtime.metrics().num_workers();
        let service = NetNsRuntime { ns: ns.clone(), runtime: Some(runtime), threads, pool: Pool::of_process() };
        // On an error the service is dropped, which ends all of its threads.
        wait_for_workers(&ns, &arrivals, workers, before.as_deref())?.map_err(not_started)?;
        drop(ScopeGuard::into_inner(given_up));
        Ok(service)
    }
}

/// Starts threads like those of a runtime, as many at once as it has workers, and waits for their end.
///
/// tokio panics where it cannot start one of its workers, and then leaks its epoll instance. So this is tried first.
fn start_threads(count: usize, stack_size: Option<usize>) -> io::Result<()> {
    let all_started = Mutex::new(());
    let wait = || {
        drop(all_started.lock());
        ThreadExit::of_current()
    };
    let mut exits = Vec::with_capacity(count);
    let result = thread::scope(|scope| {
        let starting = all_started.lock();
        let start = |_| {
            let builder = stack_size.into_iter().fold(thread::Builder::new(), thread::Builder::stack_size);
            builder.spawn_scoped(scope, wait)
        };
        let mut refused = Ok(());
        let started: Vec<_> = (0..count).map_while(|n| start(n).map_err(|error| refused = Err(error)).ok()).collect();
        drop(starting);
        for thread in started {
            exits.push(thread.join().map_err(|_| io::Error::other("a new thread panicked"))?);
        }
        refused
    });
    exits.into_iter().for_each(ThreadExit::wait);
    result
}

/// How many workers the runtime of a builder has.
fn workers_of(builder: &Builder) -> usize {
    number_set(builder, "worker_threads")
        .or_else(|| std::env::var("TOKIO_WORKER_THREADS").ok()?.parse().ok())
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
}

/// The stack size that a builder gives to threads.
fn stack_size_of(builder: &Builder) -> Option<usize> {
    number_set(builder, "thread_stack_size")
}

/// A number that was set in a builder. Only the `Debug` form of tokio's builder shows it.
fn number_set(builder: &Builder, field: &str) -> Option<usize> {
    let shown = format!("{builder:?}");
    let (_, rest) = shown.rsplit_once(&format!("{field}: Some("))?;
    rest.split_once(')')?.0.parse().ok()
}

thread_local! {
    /// The address of the [`Threads`] that the calling thread is one of.
    static THREADS: Cell<usize> = const { Cell::new(0) };
}

/// What the threads of a runtime share.
struct Threads {
    target: UntilEnd<NetNs>,
    exits: ThreadExits,
}

impl Threads {
    /// Registers a new thread, on which it is called, and returns the namespace that the thread must enter.
    fn begin(&self) -> NetNs {
        THREADS.set(self.address());
        self.exits.add_current();
        self.target.get().unwrap_or_else(|| end_thread_of_no_runtime())
    }

    fn give_up(&self) -> Option<NetNs> {
        self.target.take()
    }

    /// Returns when all threads have exited. No other one starts: the runtime has ended.
    fn wait(&self) {
        self.exits.wait();
        drop(self.give_up());
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether the calling thread is one of them. An access fails in the destructor of a thread-local.
    fn has_current(&self) -> bool {
        THREADS.try_with(Cell::get).is_ok_and(|threads| threads == self.address())
    }
}

/// The first threads of a runtime wait here until the runtime is built.
///
/// If only some of the threads can be started, tokio panics, and while it unwinds it waits for the threads that it has
/// started, which would never end. Those that wait here end by themselves.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_open: bool,
    is_given_up: bool,
    arrivals: usize,
}

impl Gate {
    /// How often a thread waits, without another one that arrives, before it takes the runtime as not built.
    ///
    /// **Why no point in time:** a process may be stopped meanwhile (`SIGSTOP`, the freezer of a cgroup, a debugger),
    /// and the time goes on.
    const MAX_WAITS: u32 = 40;

    const WAIT: Duration = Duration::from_millis(50);

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the threads go on, and returns whether they have all waited for this.
    fn open(&self) -> bool {
        let mut state = self.state();
        state.is_open = true;
        self.changed.notify_all();
        !state.is_given_up
    }

    /// Waits on a new thread of the runtime. Ends the thread if the runtime is not going to be built.
    fn wait(&self) {
        let mut state = self.state();
        state.arrivals += 1;
        let (mut arrivals, mut waits) = (state.arrivals, 0);
        while !state.is_open && !state.is_given_up {
            if arrivals != state.arrivals {
                (arrivals, waits) = (state.arrivals, 0);
            }
            if waits == Gate::MAX_WAITS {
                state.is_given_up = true;
                self.changed.notify_all();
            } else {
                state = self.changed.wait_timeout(state, Gate::WAIT).unwrap_or_else(PoisonError::into_inner).0;
                waits += 1;
            }
        }
        let is_given_up = state.is_given_up;
        drop(state);
        if is_given_up {
            end_thread_of_no_runtime();
        }
    }
}

/// What the threads of a runtime report when they start: their id, and whether they are in the namespace.
type Arrivals = mpsc::Receiver<(u32, Result<(), Error>)>;

/// Waits until all workers have arrived. The inner error means that some were not started.
///
/// tokio starts its workers on its blocking pool, which goes on with fewer threads where no more can be started.
/// Workers without a thread then wait in its queue, and tokio does not report that. But a thread that was started has
/// inherited the namespace, so one that has yet to arrive can be seen there.
fn wait_for_workers(
    ns: &NetNs,
    arrivals: &Arrivals,
    workers: usize,
    before: Option<&[u32]>,
) -> Result<io::Result<()>, Error> {
    let mut arrived = Vec::with_capacity(workers);
    let (mut looks, mut looks_in_vain) = (0, 0);
    while arrived.len() < workers {
        match arrivals.recv_timeout(LOOK_INTERVAL) {
            Ok((thread, entered)) => {
                entered?;
                arrived.push(thread);
                looks_in_vain = 0;
                continue;
            }
            // The runtime owns every sender, and is gone.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        looks += 1;
        let is_awaited =
            |thread: &u32| !arrived.contains(thread) && before.is_none_or(|before| !before.contains(thread));
        match (before, threads_inside(ns)) {
            (Some(_), Some(now)) if !now.iter().any(is_awaited) => looks_in_vain += 1,
            _ => looks_in_vain = 0,
        }
        // One look may miss a thread that is just starting. A thread of another call may look like a worker.
        if looks_in_vain == 2 || looks == MAX_LOOKS {
            break;
        }
    }
    let missing = workers - arrived.len();
    if missing == 0 {
        return Ok(Ok(()));
    }
    Ok(Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        format!("{missing} of its {workers} worker threads were not started"),
    )))
}

/// The time between two looks at threads that do not arrive.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How many looks a thread may take to start, where it is unknown whether there is one: ten seconds, without those in
/// which the process is stopped.
const MAX_LOOKS: u32 = 500;

/// The ids of the threads of this process that are in a namespace. `None` where `/proc` does not list them.
fn threads_inside(ns: &NetNs) -> Option<Vec<u32>> {
    let net_of = |thread: &u32| sys::identity_of(&Kind::Net.file_in(&sys::directory_of_task(*thread)));
    let is_inside = |thread: &u32| net_of(thread) == Ok(ns.id().device_and_inode());
    let numbering = Numbering::of_proc().ok()?;
    let inside = sys::threads_of(ProcTask::Leader.proc_path()).ok()?.into_iter().filter(is_inside);
    Some(inside.filter_map(|number| numbering.id_of(number)).collect())
}

/// Converts the panic of tokio for a thread that it cannot start into an error. Any other panic is resumed.
pub(super) fn no_thread_or_resume(payload: Payload) -> io::Error {
    match payload.downcast_ref::<String>() {
        Some(message) if message.contains("can't spawn worker thread") => {
            io::Error::new(io::ErrorKind::WouldBlock, message.clone())
        }
        _ => panic::resume_unwind(payload),
    }
}

/// A tokio runtime whose threads all live in one namespace: see [`NetNs::tokio_builder`].
///
/// Its threads are tokio's, and serve one task after another without an inspection. What a task changes of its thread
/// (`setns(2)`, `unshare(2)`, capabilities) stays for later tasks. Such work belongs in a call.
///
/// A blocking thread that cannot enter, because the thread that started it has given up `CAP_SYS_ADMIN`, panics and
/// runs nothing: its closure waits for another thread, and is cancelled at the shutdown.
///
/// Dropping it shuts the runtime down as dropping tokio's own does: tasks are dropped at their next yield, and the drop
/// waits for blocking closures that run. So do not drop it in async code, where tokio panics: use
/// [`NetNsRuntime::shutdown_background`].
/// When the drop returns, the threads have exited and no longer hold the namespace. If the last owner is a task or a
/// blocking closure of the runtime itself, the drop does not wait, as [`NetNsRuntime::shutdown_background`].
///
/// A child process that does not exec (`fork(2)`) has none of its threads. There, [`NetNsRuntime::block_on`] is an
/// error, what is spawned does not run, and a shutdown waits for nothing. A child that was forked in the future of
/// [`NetNsRuntime::spawn`] or [`NetNsRuntime::block_on`] ends when its copy of that poll returns, and one that was
/// forked in the closure of [`NetNsRuntime::spawn_blocking`] when that returns. This crate does not see what was given
/// to tokio's own functions. A child that was forked in a task of [`tokio::spawn`] ends when its copy of the thread has
/// nothing more to do, and may run other tasks before. One that was forked in a closure of
/// [`tokio::task::spawn_blocking`] ends after the keep-alive of blocking threads.
pub struct NetNsRuntime {
    ns: NetNs,
    /// `None` while it is shut down.
    runtime: Option<Runtime>,
    threads: Arc<Threads>,
    /// The pool of the process that built it.
    pool: &'static Pool,
}

impl NetNsRuntime {
    /// The namespace that its threads live in.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.ns
    }

    /// The handle of the runtime, for spawning onto it from anywhere.
    ///
    /// [`Handle::block_on`] would poll its future on the calling thread, wherever that is: use
    /// [`NetNsRuntime::block_on`]. A socket that is made under [`Handle::enter`] is in the namespace of that thread.
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
        self.handle().spawn(InOneProcess(Box::pin(future)))
    }

    /// Runs a closure on a blocking thread, inside.
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle().spawn_blocking(|| in_one_process(f))
    }

    /// Runs a future to its end, on a pinned thread inside, with this runtime's timers and sockets. The calling thread
    /// waits.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns). [`Unsupported`](ErrorKind::Unsupported) in a child process of the one that
    /// built the runtime. The future was then never polled.
    ///
    /// # Panics
    ///
    /// A panic of the future is resumed here.
    pub fn block_on<F>(&self, future: F) -> Result<F::Output, Error>
    where
        F: Future + Send,
        F::Output: Send,
    {
        if !self.pool.is_of_this_process() {
            return Err(Error::of_other_process(format!("block on a runtime in {}", self.ns)));
        }
        if const { size_of::<F>() + size_of::<F::Output>() <= LARGEST_MOVED } {
            return self.ns.run(|| self.handle().block_on(InOneProcess(pin!(future))));
        }
        // The future and its output are boxed, because each of tokio's functions has copies of them.
        let future = InOneProcess(Box::pin(future));
        self.ns.run(|| self.handle().block_on(async { Box::new(future.await) })).map(|value| *value)
    }

    /// Shuts down, and waits at most `duration` for blocking closures. If they end in time, the threads have exited
    /// when this returns; otherwise they stay in the namespace until the closures end. On a thread of the runtime
    /// itself it does not wait.
    ///
    /// # Panics
    ///
    /// In other async code, unless `duration` is zero, as tokio's own.
    pub fn shutdown_timeout(mut self, duration: Duration) {
        if let Some(runtime) = self.take_running() {
            if self.threads.has_current() {
                // It would wait for itself, or tokio would panic.
                return runtime.shutdown_background();
            }
            let start = Instant::now();
            runtime.shutdown_timeout(duration);
            // tokio does not say whether the time was enough, but it returns early where it was.
            if start.elapsed() < duration {
                self.threads.wait();
            }
        }
    }

    /// Takes the runtime, to shut it down. In a child process it leaks: the shutdown would wait for the parent's
    /// threads.
    fn take_running(&mut self) -> Option<Runtime> {
        let runtime = self.runtime.take();
        if self.pool.is_of_this_process() {
            return runtime;
        }
        mem::forget(runtime);
        None
    }

    /// Shuts down without waiting, for use in async code. The threads leave the namespace some time later. Until then,
    /// and as long as there is a handle of the runtime or of one of its tasks, the namespace stays.
    pub fn shutdown_background(self) {
        self.shutdown_timeout(Duration::ZERO);
    }
}

impl Drop for NetNsRuntime {
    fn drop(&mut self) {
        let Some(runtime) = self.take_running() else { return };
        if self.threads.has_current() {
            // It would wait for itself.
            return runtime.shutdown_background();
        }
        // A thread of it may have left the table of descriptors (`unshare(2)`), and what it closes would stay open
        // here. So the last reference is this one.
        let _last = runtime.handle().clone();
        drop(runtime);
        // In async code tokio panics, unless the thread panics already. Then tokio has not waited.
        let has_waited = !thread::panicking() || Handle::try_current().is_err();
        if has_waited {
            self.threads.wait();
        }
    }
}

impl fmt::Debug for NetNsRuntime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NetNsRuntime").field("ns", &self.ns).field("runtime", &self.runtime).finish_non_exhaustive()
    }
}
