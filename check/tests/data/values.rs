//! Functions that a thread can be started by, and values that lead to them. Each function is a root of its own.

#![allow(dead_code, improper_ctypes, dropping_copy_types)]

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::mpsc::Sender;
use std::task::{Context, Waker};
use std::thread;

fn loud() {
    drop(thread::spawn(|| ()));
}

fn quiet() {}

thread_local! {
    static POINTER: Cell<fn()> = const { Cell::new(loud) };
    static HARMLESS: Cell<fn()> = const { Cell::new(quiet) };
}

fn thread_local_pointer() {
    POINTER.get()();
}

fn harmless_thread_local_pointer() {
    HARMLESS.get()();
}

/// A list, an element in each of many places.
macro_rules! list {
    ($section:literal, $start:ident, $stop:ident: $($name:ident = $value:ident),*) => {
        $(#[used]
        #[unsafe(link_section = $section)]
        static $name: fn() = $value;)*
        unsafe extern "C" {
            static $start: fn();
            static $stop: fn();
        }
    };
}

list!("hooks_middle", __start_hooks_middle, __stop_hooks_middle: MIDDLE_1 = quiet, MIDDLE_2 = loud, MIDDLE_3 = quiet);
list!("hooks_none", __start_hooks_none, __stop_hooks_none: NONE_1 = quiet, NONE_2 = quiet);
list!("hooks_next", __start_hooks_next, __stop_hooks_next: NEXT_1 = loud);

fn call_all(start: *const fn(), stop: *const fn()) {
    for hook in unsafe { std::slice::from_raw_parts(start, stop.offset_from(start).unsigned_abs()) } {
        hook();
    }
}

fn list_with_one() {
    call_all(&raw const __start_hooks_middle, &raw const __stop_hooks_middle);
}

fn list_without() {
    call_all(&raw const __start_hooks_none, &raw const __stop_hooks_none);
}

fn other_list() {
    call_all(&raw const __start_hooks_next, &raw const __stop_hooks_next);
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

fn sends_a_closure(calls: &Sender<Box<dyn FnOnce() + Send>>) {
    drop(calls.send(Box::new(|| ())));
}

fn sends_a_future(tasks: &Sender<Task>) {
    drop(tasks.send(Box::pin(async {})));
}

fn sends_a_pointer(pointers: &Sender<fn()>) {
    drop(pointers.send(quiet));
}

struct Job {
    name: &'static str,
    run: fn(),
}

fn sends_a_pointer_in_a_structure(jobs: &Sender<Job>) {
    drop(jobs.send(Job { name: "job", run: quiet }));
}

fn sends_a_number(numbers: &Sender<u32>) {
    drop(numbers.send(1));
}

mod async_task {
    pub struct Runnable;
}

fn sends_a_task(tasks: &Sender<async_task::Runnable>) {
    drop(tasks.send(async_task::Runnable));
}

mod tokio {
    pub mod runtime {
        pub struct Handle {
            pub before_park: Option<std::sync::Arc<dyn Fn() + Send + Sync>>,
        }
    }
}

/// A socket that refers to its runtime.
struct Socket {
    runtime: std::sync::Arc<tokio::runtime::Handle>,
}

fn sends_a_socket(sockets: &Sender<Socket>) {
    let runtime = std::sync::Arc::new(tokio::runtime::Handle { before_park: None });
    drop(sockets.send(Socket { runtime }));
}

/// A half of a queue that has its name from a trait.
trait Producer<T> {
    fn try_push(&self, element: T) -> Result<(), T>;
}

struct Half;

impl<T> Producer<T> for Half {
    fn try_push(&self, element: T) -> Result<(), T> {
        Err(element)
    }
}

fn pushes_a_closure(half: &Half) {
    drop(half.try_push(Box::new(|| ()) as Box<dyn FnOnce() + Send>));
}

/// Takes a body, as a user's own function may.
fn take(body: impl FnOnce()) {
    body();
}

fn reads_file_of_process(process: u32) {
    drop(std::fs::read(format!("/proc/{process:>5}/net/dev")));
}

fn reads_file_of_aligned_process(process: u32, width: usize) {
    drop(std::fs::read(format!("/proc/{process:+#0width$}/net/dev")));
}

fn reads_namespace_of_process(process: u32) {
    drop(std::fs::read(format!("/proc/{process:>5}/ns/net")));
}

fn take_both(first: impl FnOnce(), second: impl FnOnce()) {
    first();
    second();
}

fn quiet_and_more() {
    loud();
}

fn gives_two_of_similar_names() {
    take_both(quiet, quiet_and_more);
}

fn gives_boxed(job: Box<dyn FnOnce()>) {
    take(job);
}

fn take_and_give<R>(body: impl FnOnce() -> R) -> Option<R> {
    Some(body())
}

fn is_given_a_closure() {
    take_and_give(|| || loud()).unwrap()();
}

fn is_given_a_future() {
    let future = take_and_give(|| async { loud() }).unwrap();
    println!("{}", pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

fn has_a_character<const C: char>() {
    take(|| loud());
}

fn gives_boxed_to_a_scope(job: Box<dyn FnOnce() + Send>) {
    take(move || thread::scope(|scope| drop(scope.spawn(job))));
}

fn gives_a_pointer_to_a_scope(job: fn()) {
    take(move || thread::scope(|scope| drop(scope.spawn(job))));
}

fn calls_boxed_in_a_scope(job: Box<dyn FnOnce() + Send>) {
    take(move || thread::scope(|scope| drop(scope.spawn(|| job()))));
}

fn gives_its_own_to_a_scope(text: String) {
    take(move || thread::scope(|scope| drop(scope.spawn(|| text.len()))));
}

fn main() {
    thread_local_pointer();
    harmless_thread_local_pointer();
    list_with_one();
    list_without();
    other_list();
    sends_a_closure(&std::sync::mpsc::channel().0);
    sends_a_future(&std::sync::mpsc::channel().0);
    sends_a_pointer(&std::sync::mpsc::channel().0);
    sends_a_pointer_in_a_structure(&std::sync::mpsc::channel().0);
    sends_a_number(&std::sync::mpsc::channel().0);
    sends_a_socket(&std::sync::mpsc::channel().0);
    sends_a_task(&std::sync::mpsc::channel().0);
    pushes_a_closure(&Half);
    reads_file_of_process(1);
    reads_file_of_aligned_process(1, 5);
    reads_namespace_of_process(1);
    gives_two_of_similar_names();
    gives_boxed(Box::new(quiet));
    is_given_a_closure();
    is_given_a_future();
    has_a_character::<'>'>();
    gives_boxed_to_a_scope(Box::new(quiet));
    gives_a_pointer_to_a_scope(quiet);
    calls_boxed_in_a_scope(Box::new(quiet));
    gives_its_own_to_a_scope(String::new());
}
