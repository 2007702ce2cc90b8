//! Bodies that reach something in a way that is hard to see.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::thread;

use in_netns::with_netns;
use nix::sched::{CloneFlags, setns};

fn start() {
    drop(thread::spawn(|| ()));
}

pub fn array_of_functions() {
    call_all([|| 1, || 2]);
}

fn call_all(functions: [fn() -> u32; 2]) {
    println!("{:?}", with_netns("holdout", || functions[0]() + functions[1]()));
}

pub fn boxed_reader() {
    reads(Box::new(Cursor::new(b"text")));
}

fn reads(mut reader: Box<dyn Read + Send>) {
    println!("{:?}", with_netns("holdout", || reader.read(&mut [0; 4]).is_ok()));
}

pub fn captured_map() {
    calls_from_map(HashMap::from([("one", Box::new(|| 1_u32) as Box<dyn Fn() -> u32 + Send + Sync>)]));
}

fn calls_from_map(map: HashMap<&'static str, Box<dyn Fn() -> u32 + Send + Sync>>) {
    println!("{:?}", with_netns("holdout", || map.get("one").map(|function| function())));
}

static HOOK: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// What the hook does was decided elsewhere.
pub fn hook_in_static() {
    drop(HOOK.set(Box::new(start)));
    println!("{:?}", with_netns("holdout", || HOOK.get().map(|hook| hook())));
}

lazy_static::lazy_static! {
    static ref WATCHER: u32 = {
        start();
        1
    };
}

pub fn in_lazy_static() {
    println!("{:?}", with_netns("holdout", || *WATCHER));
}

pub fn in_scopeguard() {
    let done = with_netns("holdout", || {
        scopeguard::defer! { start() };
    });
    println!("{done:?}");
}

fn count(items: impl Iterator<Item = u32> + Send) {
    println!("{:?}", with_netns("holdout", || items.sum::<u32>()));
}

pub fn generic_iterator() {
    count((0..3).inspect(|_| start()));
}

pub fn panic_hook() {
    let done = with_netns("holdout", || std::panic::set_hook(Box::new(|_| start())));
    println!("{done:?}");
}

extern "C" fn nothing(_: *mut libc::c_void) -> *mut libc::c_void {
    std::ptr::null_mut()
}

pub fn pthread_by_libc() {
    let done = with_netns("holdout", || {
        let mut thread = 0;
        // SAFETY: the pointers are valid, and the function takes nothing.
        unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), nothing, std::ptr::null_mut()) }
    });
    println!("{done:?}");
}

/// A system call by its number.
pub fn clone_by_number() {
    // SAFETY: without flags it is a fork.
    println!("{:?}", with_netns("holdout", || unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) }));
}

pub fn pre_exec() {
    let done = with_netns("holdout", || {
        let mut command = Command::new("true");
        // SAFETY: the closure does nothing.
        unsafe { command.pre_exec(|| Ok(())) };
        command.status().is_ok()
    });
    println!("{done:?}");
}

fn enter(path: &str) -> File {
    let home = File::open("/proc/thread-self/ns/net").unwrap();
    setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    home
}

pub fn region_by_scopeguard() {
    let _guard = scopeguard::guard(enter("/run/netns/holdout"), |home| setns(home, CloneFlags::CLONE_NEWNET).unwrap());
    start();
}

/// A system call by its number.
pub fn region_by_number() {
    // SAFETY: it takes no pointers.
    if unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWNET) } == 0 {
        start();
    }
}

fn inside<R>(path: &str, body: impl FnOnce() -> R) -> R {
    let home = enter(path);
    let result = body();
    setns(home, CloneFlags::CLONE_NEWNET).unwrap();
    result
}

pub fn region_by_own_helper() {
    inside("/run/netns/holdout", || start());
}

async fn held_by_scopeguard() {
    let _guard = scopeguard::guard(enter("/run/netns/holdout"), |home| setns(home, CloneFlags::CLONE_NEWNET).unwrap());
    tokio::task::yield_now().await;
}

pub fn await_by_scopeguard() {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(held_by_scopeguard());
}

struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

enum Place {
    Inside { home: Home },
    Outside,
}

async fn held_in_enum(inside: bool) {
    let place = if inside { Place::Inside { home: Home(enter("/run/netns/holdout")) } } else { Place::Outside };
    tokio::task::yield_now().await;
    if let Place::Inside { home } = place {
        drop(home);
    }
}

pub fn await_in_enum() {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(held_in_enum(LazyLock::force(&YES)
        .to_owned()));
}

static YES: LazyLock<bool> = LazyLock::new(|| true);
