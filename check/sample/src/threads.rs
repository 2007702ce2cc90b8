//! Bodies that start threads, on every way that a program has, and bodies that call what they were given.

use std::sync::LazyLock;
use std::thread;

use in_netns::{Call, NetNs, par_walk, pinned, walk, with_netns};

fn start() {
    drop(thread::spawn(|| ()));
}

fn stay() {}

/// For a body of its own.
pub fn stray() {
    start();
}

pub fn spawn_directly() {
    let handle = with_netns("sample", || thread::spawn(|| ()));
    println!("{}", handle.is_ok());
}

pub fn spawn_three_down() {
    let settings = with_netns("sample", || layers::load_settings());
    println!("{settings:?}");
}

trait Backend {
    fn begin(&self);
}

struct Threaded;

impl Backend for Threaded {
    fn begin(&self) {
        start();
    }
}

fn begin_with<B: Backend>(backend: &B) {
    backend.begin();
}

pub fn spawn_by_generic() {
    let done = with_netns("sample", || begin_with(&Threaded));
    println!("{done:?}");
}

pub fn spawn_by_closure() {
    let done = with_netns("sample", || (1..3).for_each(|_| start()));
    println!("{done:?}");
}

pub fn spawn_by_boxed_closure() {
    let done = with_netns("sample", || {
        let jobs: Vec<Box<dyn Fn()>> = vec![Box::new(|| ()), Box::new(|| start())];
        for job in jobs {
            job();
        }
    });
    println!("{done:?}");
}

static STEPS: [(&str, fn()); 2] = [("stay", stay), ("start", start)];

pub fn spawn_by_table() {
    let done = with_netns("sample", || {
        for (name, step) in &STEPS {
            println!("{name}");
            step();
        }
    });
    println!("{done:?}");
}

static WATCHER: LazyLock<u32> = LazyLock::new(|| {
    start();
    7
});

pub fn spawn_by_lazy_lock() {
    let value = with_netns("sample", || *WATCHER);
    println!("{value:?}");
}

struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        start();
    }
}

pub fn spawn_by_drop() {
    let done = with_netns("sample", || {
        let _flush = Flush;
    });
    println!("{done:?}");
}

/// The runtime's threads are the body's doing.
pub fn builds_service() {
    let built = with_netns("sample", || {
        NetNs::current().and_then(|namespace| namespace.tokio_builder().build())
    });
    println!("{}", built.is_ok());
}

/// What the library is given is called where it is given.
pub fn spawn_by_library() {
    let done = with_netns("sample", || {
        in_netns::set_stray_hook(|_stray| start());
    });
    println!("{done:?}");
}

pub fn scoped() {
    let sum = with_netns("sample", || {
        let numbers = vec![1, 2, 3];
        thread::scope(|scope| {
            let half = scope.spawn(|| numbers.iter().sum::<i32>());
            half.join().unwrap()
        })
    });
    println!("{sum:?}");
}

pub fn scoped_by_crossbeam() {
    let sum = with_netns("sample", || {
        let numbers = vec![1, 2, 3];
        crossbeam::scope(|scope| {
            let half = scope.spawn(|_| numbers.iter().sum::<i32>());
            half.join().unwrap()
        })
        .unwrap()
    });
    println!("{sum:?}");
}

pub fn spawn_inside_scope() {
    let done = with_netns("sample", || {
        thread::scope(|scope| {
            scope.spawn(|| start());
        });
    });
    println!("{done:?}");
}

pub fn by_netns_run() {
    let namespace = NetNs::current().unwrap();
    println!("{:?}", namespace.run(|| start()));
}

pub fn by_call_run() {
    println!("{:?}", Call::new("sample").run(|| start()));
}

pub fn by_call_outcome() {
    let outcome = Call::new("sample").fresh().audit().outcome(|| start());
    println!("{}", outcome.is_ok());
}

pub fn by_worker() {
    let worker = NetNs::current().unwrap().worker();
    println!("{:?}", worker.run(|| start()));
}

pub fn by_walk() {
    println!("{:?}", walk(&[NetNs::current().unwrap()], |_namespace| start()));
}

pub fn by_par_walk() {
    println!("{:?}", par_walk(&[NetNs::current().unwrap()], 2, |_namespace| start()));
}

pub fn by_pinned() {
    println!("{:?}", pinned(|_thread| start()));
}

pub fn by_function_item() {
    println!("{:?}", with_netns("sample", start));
}

pub trait Job: Sync {
    fn work(&self) -> u32;
}

impl Job for u32 {
    fn work(&self) -> u32 {
        *self
    }
}

fn calls_trait_argument(job: &dyn Job) {
    println!("{:?}", with_netns("sample", || job.work()));
}

fn calls_fn_argument(step: fn(u32) -> u32) {
    println!("{:?}", with_netns("sample", || step(1)));
}

fn passes_fn_argument(step: fn(u32) -> u32) {
    println!("{:?}", with_netns("sample", || Some(1).map(step)));
}

/// Holds the trait object, and does not call it.
fn holds_trait_argument(job: &dyn Job) {
    println!(
        "{:?}",
        with_netns("sample", || std::ptr::from_ref(job).cast::<u8>() as usize)
    );
}

pub fn calls_trait_argument_here() {
    calls_trait_argument(&7);
}

pub fn calls_fn_argument_here() {
    calls_fn_argument(|n| n + 1);
}

pub fn passes_fn_argument_here() {
    passes_fn_argument(|n| n + 2);
}

pub fn holds_trait_argument_here() {
    holds_trait_argument(&7);
}
