//! Escapes: work that leaves the namespace, and threads that stay behind in it. A page of documentation, without code.
//!
//! A call promises that all of its body runs inside, and that nothing of it stays behind. A namespace belongs to a
//! thread, and a body can reach other threads. So the body can break the promise in two ways:
//!
//! - A **hand-over** gives work to threads that exist already: tokio's workers and its blocking pool, rayon's pool, the
//!   receiver of a channel. The work runs where those threads are, which is *not in the namespace*.
//! - A **stray** is a thread that the body started and did not join. It inherits the namespace, stays in it, and keeps
//!   it alive. The worst case is a pool that is started lazily, on first use: it then lives in the namespace of its
//!   first user forever, and the work of all later users runs there.
//!
//! The following are neither: a thread that the body joins, [`std::thread::scope`], a child process, a tokio runtime
//! that the body makes and drops, a socket. Threads and processes that are started inside are inside. A socket stays in
//! its namespace, whichever thread uses it.
//!
//! A third kind is harder to notice: the body stays inside and **reads files that show the network of the process**:
//! see [below](#whose-network-a-path-shows).
//!
//! # Three checks
//!
//! None of them finds everything.
//!
//! | | when | sees | does not see |
//! |---|---|---|---|
//! | the attribute | at compile time | hand-overs by path or method in the text of the body: `tokio::spawn`, `rayon::join`, `.par_iter()`, also in the arguments of macros and through the `use` items of the body; string literals that name the network of the process: `"/proc/net/dev"` | what the functions do that the body calls; `use` items outside of the body (`task::spawn`); values (`handle.spawn(…)`, `pool.install(…)`, the sender of a channel); paths that are built at run time; closures given to [`with_netns`] |
//! | the audit | when the call ends | strays, wherever the thread was started, in any language | hand-overs: no thread appears. Threads that went to another namespace. Threads that start later. Threads that a nested call on a pooled thread, a worker or a runtime of [`NetNs::tokio_builder`] started. Child processes. Anything, where `/proc` is not mounted or no descriptor is left to read it |
//! | `cargo netns-check` | ahead of time | both, through every dependency, of closures given to [`with_netns`] and its variants too | what is known only at run time. For a function or trait object that the body is given it says so (`UNKNOWN`). What was put into a static (a logger, a hook) it does not see, nor a pool that its table does not name. It refuses optimised programs and other architectures than `x86_64` and `aarch64`, and was tried with glibc only |
//!
//! ## The attribute
//!
//! A refusal is an error at the path, and its message says what to do:
//!
//! ```compile_fail
//! use in_netns::in_netns;
//!
//! #[in_netns("blue")]
//! fn total(list: &[u64]) -> u64 {
//!     use rayon::prelude::*; // hands its work to rayon's pool, whose threads need not be in the namespace
//!     list.par_iter().sum()
//! }
//! ```
//!
//! It decides by names. A `mod rayon` or a `fn spawn` in the body is accepted. Another item outside of the body that
//! has such a path is refused, and `#[in_netns(NS, allow(handover))]` overrides that.
//!
//! An async function may use `tokio::spawn` and `tokio::task::spawn_blocking`, and so may a body that makes a tokio
//! runtime itself: the only runtime that they find is inside. This is also the remedy for a synchronous body: make it
//! an `async fn`. All other executors are refused there as well.
//!
//! ## The audit
//!
//! [`Call::audit`] and `#[in_netns(NS, audit)]` make an audit, and so does every attribute in a test build, unless it
//! has `audit = "off"`:
//!
//! ```
//! # in_netns::rootless!();
//! use std::sync::mpsc;
//! use std::thread;
//!
//! use in_netns::{Call, NetNs};
//!
//! let ns = NetNs::new()?;
//! let (end, wait) = mpsc::channel::<()>();
//! let outcome = Call::new(&ns).audit().outcome(|| thread::spawn(move || wait.recv()))?;
//! for stray in &outcome.strays {
//!     println!("thread {} ({}) is still in {}", stray.thread_id, stray.name, stray.netns);
//! }
//! assert_eq!(outcome.strays.len(), 1);
//! // A thread that has ended is no stray.
//! drop(end);
//! let _ = outcome.value.unwrap().join();
//! assert!(Call::new(&ns).audit().outcome(|| thread::spawn(|| ()).join())?.strays.is_empty());
//! # Ok::<(), in_netns::Error>(())
//! ```
//!
//! A stray is reported to the hook of [`set_stray_hook`], by default as a line on stderr. With `audit = "panic"` it is
//! a panic, which fails a test.
//!
//! The kernel does not record which thread started a thread. The audit uses a mark that threads inherit: while the body
//! runs, the timer slack (`PR_SET_TIMERSLACK`) of its thread is a value of this call alone, shorter than before by up
//! to a half. So threads of another call in the same namespace at the same time are not attributed to this one. Reading
//! the mark takes `CAP_SYS_NICE`. A thread that appeared is reported with [`Stray::certain`] `false`, and does not
//! panic, in three cases: without that capability (a container that keeps only `CAP_SYS_ADMIN`), if it has a real-time
//! scheduling policy, and where a sandbox forbids this `prctl(2)`. A body that sets a timer slack of its own before it
//! starts a thread hides that thread.
//!
//! A thread that is awake when the call ends is given 0.1 s to exit. One that takes longer is a stray. So is one that
//! sleeps, although it may be about to wake up and exit. A pool that is dropped and does not join its threads can be
//! reported for that reason.
//!
//! ## The holders of a namespace
//!
//! If a namespace does not go away, [`NetNs::holders`] names the threads, descriptors, sockets, mounts and names that
//! keep it:
//!
//! ```
//! # in_netns::rootless!();
//! use std::net::TcpListener;
//!
//! use in_netns::NetNs;
//!
//! let ns = NetNs::new()?;
//! let listener = ns.run(|| TcpListener::bind("127.0.0.1:80"))??;
//! let holders = ns.holders()?;
//! assert!(holders[0].to_string().starts_with("socket "));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Whose network a path shows
//!
//! `/proc/self` is the process, and a network namespace belongs to a thread. So a body that reads `/proc/net`, as the
//! manual pages say, gets the network of home, without an error.
//!
//! | path | shows the namespace of | in a body |
//! |---|---|---|
//! | `/proc/thread-self/net/…`, `/proc/self/task/TID/net/…` | that thread | **right** |
//! | `/proc/net/…` (a link to `/proc/self/net`), `/proc/self/net/…` | the main thread of the process | home's |
//! | `/proc/PID/net/…` | the main thread of that process | that process's; with one's own id, home's |
//! | `/proc/thread-self/ns/net` | the calling thread | **right** |
//! | `/proc/self/ns/net` | the main thread of the process | home's |
//! | `/proc/sys/net/…` | the calling thread | **right**, for reading and for writing |
//! | `/sys/class/net/…`, `/sys/devices/virtual/net/…` | the thread that mounted this sysfs, when it did | mostly the host's, or the container's; **right** in a [`View`](crate::View) |
//! | any of these in a child process | the same, seen from the child; its main thread is inside | **right**, but for `/sys` |
//! | a netlink socket, an ioctl on a socket | the thread that made the socket, when it did | **right**, if the socket was made inside |
//!
//! ```
//! # in_netns::rootless!();
//! use std::fs;
//!
//! use in_netns::{Call, NetNs};
//!
//! let ns = NetNs::new()?;
//! let table = ns.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
//! assert_eq!(table.lines().count(), 3); // Two lines of heading, and the loopback.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The attribute refuses string literals that begin with one of the wrong paths; `#[in_netns(NS,
//! allow(process_network))]` overrides it. It reads `concat!` and format strings, and lets the arguments of a child
//! process (`.arg("/proc/net/dev")`) and `include_str!` pass.
//!
//! Crates that read these paths:
//!
//! - **`procfs`**: its functions (`procfs::net::tcp()`, `procfs::net::dev_status()`) and `Process::myself()` read the
//!   path of the process, so they show home. Its types read the path that they are given:
//!   `procfs::net::InterfaceDeviceStatus::from_file("/proc/thread-self/net/dev")`, and
//!   `procfs::net::TcpNetEntries::from_file("/proc/thread-self/net/tcp", procfs::current_system_info())`. Or
//!   `procfs::process::Process::new_with_root("/proc/self/task/TID".into())`, with the thread id (`gettid(2)`) for
//!   `TID`, and then its methods `tcp`, `dev_status` and so on.
//! - **`rtnetlink`, `neli` and other netlink crates** show the namespace in which their socket was made. Make the
//!   connection inside; it can be used anywhere after that: `ns.run(rtnetlink::new_connection)`, from within a tokio
//!   runtime, gives a connection that the caller's runtime drives. A connection that was made before the call shows
//!   home, also in the body.
//! - **Crates that read `/sys/class/net`** for names, speeds or statistics of interfaces have no way to be told another
//!   place. Ask netlink, or read `/proc/thread-self/net/dev`.
//! - **Crates that call `getifaddrs(3)` or `if_nametoindex(3)`** make a socket for each call. They are right in a body.
//!
//! # Pools that start lazily
//!
//! rayon's global pool starts on first use, from the thread that uses it first, and inherits that thread's namespace.
//! If a body is first, the parallel work of the whole process runs in that body's namespace from then on. The same
//! holds for any pool behind a `LazyLock`: of smol and async-std, of a database client, of a C library.
//!
//! **Start it at home first**, in `main`, before the first call. Then parallel work that a body does is a hand-over: it
//! runs at home, which is right for work that has nothing to do with the network.
//!
//! ```
//! # in_netns::rootless!();
//! use in_netns::{Call, NetNs};
//!
//! let home = NetNs::current()?;
//! rayon::ThreadPoolBuilder::new().build_global()?;
//! let ns = NetNs::new()?;
//! let outcome = Call::new(&ns).audit().outcome(|| rayon::broadcast(|_| NetNs::current()))?;
//! assert!(outcome.strays.is_empty());
//! for there in outcome.value.unwrap() {
//!     assert_eq!(there?, home);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Or give it a namespace of its own**: a pool that is built inside, on purpose, lives there with all its threads.
//! Its owner can run work in the namespace from any thread, and dropping it releases the namespace. An audit reports
//! its threads as strays, so build it in a call that is not audited.
//!
//! ```
//! # in_netns::rootless!();
//! use in_netns::NetNs;
//!
//! let ns = NetNs::new()?;
//! let pool = ns.run(|| rayon::ThreadPoolBuilder::new().num_threads(2).build())??;
//! for there in pool.broadcast(|_| NetNs::current()) {
//!     assert_eq!(there?, ns);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Or do without it** if the work must be inside: [`std::thread::scope`] starts threads that are inside and joins
//! them, and [`par_walk`] visits many namespaces on several threads.
//!
//! ```
//! # in_netns::rootless!();
//! use std::io;
//! use std::net::UdpSocket;
//! use std::thread;
//!
//! use in_netns::{NetNs, in_netns};
//!
//! #[in_netns(ns)]
//! fn bind_all(ns: &NetNs, ports: &[u16]) -> io::Result<Vec<UdpSocket>> {
//!     thread::scope(|scope| {
//!         let bind = |port: &u16| {
//!             let port = *port;
//!             scope.spawn(move || UdpSocket::bind(("127.0.0.1", port)))
//!         };
//!         let threads: Vec<_> = ports.iter().map(bind).collect();
//!         threads.into_iter().map(|thread| thread.join().unwrap()).collect()
//!     })
//! }
//!
//! let ns = NetNs::new()?;
//! for socket in bind_all(&ns, &[53, 67, 123])? {
//!     assert_eq!(NetNs::of_socket(&socket)?, ns);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The caller's runtime
//!
//! With feature `tokio`, the runtime that is current where a synchronous call is made is current in the body, so that
//! `Handle::current().block_on(…)` works there. The future is polled inside. The runtime's other threads are not: a
//! task, a blocking closure, and so a name look-up of tokio's, run at home. There is one exception: if the runtime has
//! no idle blocking thread at that moment, it starts one from inside. That thread stays there for ten seconds of
//! idleness, and runs closures that have nothing to do with the namespace.
//!
//! `Handle::block_on` polls its future and drives nothing else: the runtime's own threads drive timers, sockets and
//! tasks. The thread that makes a synchronous call waits for the call. **So a body that waits for a timer, a socket or
//! a task of the caller's runtime never ends** if that thread is the one that drives the runtime: always with a
//! current-thread runtime, and with a multi-thread one when all of its workers wait in such calls. On a multi-thread
//! runtime, `tokio::task::block_in_place(|| ns.run(…))` lets another thread drive. An async body works on every
//! runtime.
//!
//! **Make the body async**: a call of an `async fn` has a runtime of its own, all of it inside, which ends with the
//! call.
//!
//! **Or keep the program's runtime at home**: each thread of a runtime that [`NetNs::tokio_builder`] built for home
//! enters home before it runs anything. A runtime or pool with a hook for the start of threads can do the same.
//!
//! ```
//! # in_netns::rootless!();
//! # #[cfg(feature = "tokio")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use in_netns::NetNs;
//!
//! let home = NetNs::current()?;
//! let runtime = home.tokio_builder().build()?;
//! // The same for a pool or a runtime of another kind:
//! let pool = rayon::ThreadPoolBuilder::new().start_handler(move |_| home.join().expect("home is there")).build()?;
//! # drop((runtime, pool));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # What a body shares with the process
//!
//! A body has a network of its own, and shares everything else with the rest of the process and with other bodies.
//!
//! - **Thread-locals.** A pinned thread runs one body after another. The next body on the thread finds the
//!   thread-locals that one body has set: a cached connection, a random number generator, a current span.
//!   [`Call::fresh`] gives a body a thread of its own.
//! - **Name look-ups.** glibc asks `nscd` and `systemd-resolved` through sockets that have a path in the file system.
//!   Such a socket is found from every network namespace, and the daemon answers from its own, which is home's.
//!   Look-ups by the `dns` module of `nsswitch.conf`, and by resolvers written in Rust, go through sockets of the body.
//!   They read `/etc/resolv.conf` of the mount namespace: the one of home.
//! - **Every other Unix socket with a path**: D-Bus, a container runtime, a database on this machine. Abstract Unix
//!   sockets belong to the namespace.
//! - **Pooled connections.** An HTTP client that was used at home has connections of home in its pool. A body that uses
//!   the same client is given one of them. Make the client inside, one for each namespace.
//! - **A lock that the caller holds.** The body runs on another thread while the caller waits. If the caller holds
//!   `stdout().lock()`, or a mutex that the body takes too, the call never returns.
//! - **The stack.** A body runs on a stack of 2 MiB, as threads of the standard library do (`RUST_MIN_STACK` changes
//!   it), even if the caller is the main thread with 8 MiB.
//! - **An async body's runtime** is a current-thread runtime of the call. `tokio::task::block_in_place` panics in it. A
//!   clock that the caller paused (`tokio::time::pause`) is paused in the caller's runtime only; pause it in the body
//!   as well.
//! - **A fork without exec.** Calls in a child that a multi-threaded process forked and that does not exec are best
//!   effort. Such a child has only the thread that forked, and locks that other threads held stay locked in it, such as
//!   those of the standard library and the allocator. A view has a lock too: a call in it waits forever in a child
//!   that was forked while another thread made the mounts of that view again. Start a program, or fork before the
//!   process has threads. A body that forks goes on in the child too, until it returns or, in an async call, waits.
//!   Then the child exits with status zero, because the body has no caller there.
//!
//! # What a forked process shares with its parent
//!
//! With feature `tokio`, the first call of any kind makes tokio create the sockets by which it reports signals. A
//! process that is forked afterwards and does not exec shares them with its parent, and with the other children of its
//! parent. A runtime of one process then reads the report of another one's signal, which the other one misses: a task
//! that waits for `tokio::signal` may wait forever. Without this crate, the same happens after the first runtime of the
//! process. A server that forks its workers does so before its first call, or starts them as programs.

// For the links.
#[cfg(doc)]
use crate::{Call, NetNs, Stray, par_walk, set_stray_hook, with_netns};
