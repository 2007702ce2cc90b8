//! Escapes: work that leaves the namespace, and threads that stay behind in it. A page of documentation, without code.
//!
//! A call promises that all of its body runs inside, and that nothing of it stays behind. The body can break the promise in two ways,
//! for a namespace belongs to a thread, and a body can reach other threads:
//!
//! - A **hand-over** gives work to threads that exist already: tokio's workers and its blocking pool, rayon's pool, a channel
//!   with somebody at the other end. The work runs where those threads are, which is *not in the namespace*.
//! - A **stray** is a thread that the body started and did not join. It inherits the namespace, stays in it, and keeps it
//!   alive. Worst is a pool that is started lazily, on first use: it then lives in the first caller's namespace for ever, and
//!   everybody's later work runs there.
//!
//! What is neither: a thread that the body joins, [`std::thread::scope`], a child process, a tokio runtime that the body
//! makes and drops, a socket. Threads and processes that are started inside are inside; a socket stays what it is, whoever
//! uses it.
//!
//! # Three lines of defence
//!
//! No one of them sees everything.
//!
//! | | when | what it sees | what it cannot see |
//! |---|---|---|---|
//! | the attribute | at compile time | hand-overs by path or method in the body's own text: `tokio::spawn`, `rayon::join`, `.par_iter()`, also in the arguments of macros and through the `use` items of the body | what a function does that the body calls; `use` items outside of the body (`task::spawn`); values (`handle.spawn(…)`, `pool.install(…)`, a channel's sender); closures given to [`with_netns`] |
//! | the audit | when the call ends | strays, wherever the thread was started, in whatever language | hand-overs: no thread appears. Threads that went to another namespace. Threads that do not come to be until later. Child processes. Anything, where `/proc` is not mounted or no descriptor is left to read it |
//! | `cargo netns-check` | ahead of time | both, through every dependency, of closures given to [`with_netns`] and its kin too | what is only known at run time. Of a function or trait object that the body is given it says so (`UNKNOWN`); what somebody put into a static (a logger, a hook) it does not see, nor a pool that its table does not name. Optimised programs and other architectures than `x86_64` it refuses; it was tried with glibc alone |
//!
//! ## The attribute
//!
//! A refusal is an error at the path, with the way out in its message:
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
//! It goes by names. A `mod rayon` or a `fn spawn` of the body's own is left alone; one from outside that happens to have
//! such a path is refused, and `#[in_netns(NS, allow(handover))]` says that you know better.
//!
//! An async function may use `tokio::spawn` and `tokio::task::spawn_blocking`, and so may a body that makes a tokio runtime itself: the
//! only runtime that they find is inside. That is the way out for a synchronous body, too: make it an `async fn`. Everybody else's
//! executors are refused there as well.
//!
//! ## The audit
//!
//! [`Call::audit`], `#[in_netns(NS, audit)]`, and every attribute in a test build unless it says `audit = "off"`:
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
//! // Once it has gone, it is none.
//! drop(end);
//! let _ = outcome.value.unwrap().join();
//! assert!(Call::new(&ns).audit().outcome(|| thread::spawn(|| ()).join())?.strays.is_empty());
//! # Ok::<(), in_netns::Error>(())
//! ```
//!
//! A stray is told to the hook of [`set_stray_hook`], by default as a line on stderr. With `audit = "panic"` it is a
//! panic, which fails a test.
//!
//! Whose thread it is the kernel does not say. The audit knows by a mark that threads inherit: the timer slack (`PR_SET_TIMERSLACK`) of
//! the body's thread is a value of the call's own while the body runs, shorter than before by up to a half. So the threads of
//! another call in the same namespace at the same time are not blamed on this one. Reading the mark takes `CAP_SYS_NICE`. Without it
//! (a container that keeps only `CAP_SYS_ADMIN`), for a thread that is scheduled for real time, and where a sandbox allows no such
//! `prctl(2)`, a thread that appeared is reported with [`Stray::certain`] `false`, and does not panic. A body that sets a
//! timer slack of its own before it starts a thread hides that thread.
//!
//! A thread that is awake when the call ends is given 0.1 s to go. One that takes longer is a stray; so is one that sleeps, although it may
//! be about to wake up and exit. A pool that is dropped and does not join its threads can be reported for that reason.
//!
//! ## Who holds a namespace
//!
//! Where a namespace does not go away, [`NetNs::holders`] names the threads, descriptors, sockets, mounts and names that keep it:
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
//! # The trap of the lazy pool
//!
//! rayon's global pool starts on first use, from whichever thread uses it first, and inherits that thread's namespace. Where a body
//! is first, the whole process's parallel work runs in that body's namespace from then on. The same holds for any pool behind a
//! `LazyLock`: of smol and async-std, of a database client, of a C library.
//!
//! **Start it at home first**, in `main`, before the first call. Then parallel work that a body does is a hand-over: it
//! runs at home, which is what you want for work that has nothing to do with the network.
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
//! **Or give it a namespace of its own**: a pool that is built inside, on purpose, lives there with all its threads. Whoever has the
//! pool can run work in the namespace, from anywhere, and dropping it lets go of the namespace. Its threads are strays to an audit,
//! and rightly so: build it in a call that is not audited.
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
//! **Or do without it** where the work must be inside: [`std::thread::scope`] starts threads that are inside and joins them, and
//! [`par_walk`] visits many namespaces on several threads.
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
//! `Handle::current().block_on(…)` works there. What is polled is inside. What the runtime does on its other threads is not: a task, a blocking
//! closure, and so a name look-up of tokio's, run at home. Unless the runtime has no idle blocking thread at that moment, and starts one: from inside,
//! where it stays for ten seconds of idleness, and runs closures that have nothing to do with the namespace.
//!
//! **Make the body async**: a call of an `async fn` has a runtime of its own, all of it inside, which ends with the call.
//!
//! **Or keep the program's runtime at home**: threads of one that was made by [`NetNs::tokio_builder`] for home see to it that they are there
//! before they run anything; so do those of any runtime or pool that has a hook for it.
//!
//! ```
//! # in_netns::rootless!();
//! use in_netns::NetNs;
//!
//! let home = NetNs::current()?;
//! let runtime = home.tokio_builder().build()?;
//! // By hand, for a pool or a runtime of another kind:
//! let pool = rayon::ThreadPoolBuilder::new().start_handler(move |_| home.join().expect("home is there")).build()?;
//! # drop((runtime, pool));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// For the links.
#[cfg(doc)]
use crate::{Call, NetNs, Stray, par_walk, set_stray_hook, with_netns};
