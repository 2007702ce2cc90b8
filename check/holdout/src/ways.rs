//! Bodies that come to it in other ways than the sample's.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use in_netns::with_netns;
use once_cell::sync::Lazy;
use rayon::slice::ParallelSliceMut;

fn start() -> u32 {
    drop(thread::spawn(|| ()));
    7
}

thread_local! {
    static LOCAL: u32 = start();
}

pub fn thread_local_spawns() {
    println!("{:?}", with_netns("holdout", || LOCAL.with(|value| *value)));
}

static LAZY: Lazy<u32> = Lazy::new(start);

pub fn once_cell_spawns() {
    println!("{:?}", with_netns("holdout", || *LAZY));
}

unsafe extern "C" {
    fn qsort(
        base: *mut c_void,
        count: usize,
        size: usize,
        compare: extern "C" fn(*const c_void, *const c_void) -> c_int,
    );
}

extern "C" fn compare(_: *const c_void, _: *const c_void) -> c_int {
    start().cast_signed()
}

pub fn callback_through_c() {
    let done = with_netns("holdout", || {
        let mut numbers = [2_u32, 1];
        // SAFETY: the array has two elements of four bytes.
        unsafe { qsort(numbers.as_mut_ptr().cast(), 2, 4, compare) };
    });
    println!("{done:?}");
}

pub fn map_of_functions() {
    let done = with_netns("holdout", || {
        let mut steps: HashMap<&str, fn() -> u32> = HashMap::new();
        steps.insert("start", start);
        steps.values().map(|step| step()).sum::<u32>()
    });
    println!("{done:?}");
}

struct Starting(u32);

impl Iterator for Starting {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self.0.checked_sub(1)?;
        Some(start())
    }
}

pub fn iterator_adaptor_spawns() {
    println!(
        "{:?}",
        with_netns("holdout", || Starting(3)
            .skip(1)
            .step_by(2)
            .collect::<Vec<_>>())
    );
}

struct Handle;

impl Deref for Handle {
    type Target = u32;

    fn deref(&self) -> &u32 {
        start();
        &1
    }
}

pub fn deref_spawns() {
    println!("{:?}", with_netns("holdout", || Handle.count_ones()));
}

struct Loud;

impl fmt::Display for Loud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", start())
    }
}

pub fn display_spawns() {
    println!("{:?}", with_netns("holdout", || format!("{Loud}")));
}

enum Message {
    Run(Box<dyn FnOnce() + Send>),
    Stop,
}

pub fn enum_over_channel() {
    let (sender, receiver) = mpsc::channel();
    println!(
        "{:?}",
        with_netns("holdout", || sender
            .send(Message::Run(Box::new(|| ())))
            .is_ok())
    );
    drop(sender.send(Message::Stop));
    for message in receiver {
        match message {
            Message::Run(job) => job(),
            Message::Stop => break,
        }
    }
}

pub fn kanal_closure() {
    let (sender, receiver) = kanal::unbounded::<Box<dyn FnOnce() + Send>>();
    println!(
        "{:?}",
        with_netns("holdout", || sender.send(Box::new(|| ())).is_ok())
    );
    drop(receiver);
}

pub fn tokio_mpsc_closure() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Box<dyn FnOnce() + Send>>();
    println!(
        "{:?}",
        with_netns("holdout", || sender.send(Box::new(|| ())).is_ok())
    );
    drop(receiver);
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub fn local_set() {
    let done = with_netns("holdout", || {
        let set = tokio::task::LocalSet::new();
        set.block_on(&current_thread(), async {
            tokio::task::spawn_local(async { 1 }).await
        })
        .ok()
    });
    println!("{done:?}");
}

pub fn tokio_stdout() {
    let done = with_netns("holdout", || {
        current_thread().block_on(async {
            use tokio::io::AsyncWriteExt as _;
            tokio::io::stdout().write_all(b"hello").await
        })
    });
    println!("{done:?}");
}

pub fn tokio_sleep_and_select() {
    let done = with_netns("holdout", || {
        current_thread().block_on(async {
            let first =
                tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>());
            let second = tokio::time::sleep(Duration::from_millis(2));
            futures::future::select(Box::pin(first), Box::pin(second)).await;
        });
    });
    println!("{done:?}");
}

pub fn tokio_process() {
    let done = with_netns("holdout", || {
        current_thread().block_on(async { tokio::process::Command::new("true").status().await })
    });
    println!("{done:?}");
}

/// An address, not a name: nothing is looked up.
pub fn tokio_resolve_numeric() {
    let done = with_netns("holdout", || {
        let address: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
        current_thread()
            .block_on(async { tokio::net::TcpStream::connect(address).await })
            .is_ok()
    });
    println!("{done:?}");
}

pub fn runtime_new() {
    let done = with_netns("holdout", || {
        tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(async { 1 }))
    });
    println!("{done:?}");
}

pub fn own_rayon_pool() {
    let done = with_netns("holdout", || {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        pool.install(|| 1)
    });
    println!("{done:?}");
}

pub fn par_sort() {
    let done = with_netns("holdout", || {
        let mut numbers = vec![3, 1, 2];
        numbers.par_sort();
        numbers
    });
    println!("{done:?}");
}

pub fn futures_join() {
    println!(
        "{:?}",
        with_netns("holdout", || futures::executor::block_on(async {
            futures::join!(async { 1 }, async { 2 })
        }))
    );
}

pub fn builder_in_scope() {
    let done = with_netns("holdout", || {
        thread::scope(|scope| {
            thread::Builder::new()
                .name("inside".to_owned())
                .spawn_scoped(scope, || 1)
                .map(|handle| handle.join().is_ok())
                .ok()
        })
    });
    println!("{done:?}");
}

pub fn panics() {
    let cell: OnceCell<u32> = OnceCell::new();
    let empty = cell.get().is_none();
    println!(
        "{:?}",
        with_netns("holdout", || assert!(!empty, "it is empty"))
    );
}
