//! Bodies that need no other library.

use std::panic::AssertUnwindSafe;
use std::thread;

use in_netns::with_netns;

fn clean() {
    println!("{:?}", with_netns("small", || std::env::args().count()));
}

fn spawns() {
    println!("{}", with_netns("small", || thread::spawn(|| ())).is_ok());
}

fn scoped() {
    println!(
        "{:?}",
        with_netns("small", || thread::scope(|scope| scope
            .spawn(|| 1)
            .join()
            .unwrap()))
    );
}

fn unknown(what: &(dyn Fn() -> u32 + Sync)) {
    println!("{:?}", with_netns("small", || what()));
}

fn watch() {
    drop(thread::spawn(|| ()));
}

fn listen() {
    drop(thread::spawn(|| ()));
}

fn allowed() {
    println!("{:?}", with_netns("small", watch_over));
    println!("{:?}", with_netns("small", || watch()));
}

fn watch_over() {
    watch();
}

fn half_allowed() {
    println!(
        "{:?}",
        with_netns("small", || {
            watch();
            listen();
        })
    );
}

fn opaque(body: fn() -> u32) {
    println!("{:?}", with_netns("small", body));
}

/// A trait of the program's own, on types of the library.
trait Probe {
    fn probe(&self);

    fn within(&self) {}
}

impl Probe for in_netns::NetNs {
    fn probe(&self) {
        watch();
    }

    fn within(&self) {
        println!("{:?}", self.run(|| watch()));
    }
}

impl Probe for in_netns::Error {
    fn probe(&self) {
        watch();
    }
}

fn probes(netns: &in_netns::NetNs) {
    println!("{:?}", with_netns("small", || netns.probe()));
}

fn probes_error(error: &in_netns::Error) {
    println!("{:?}", with_netns("small", || error.probe()));
}

/// The type that is given is no closure, and has one in it.
fn wrapped() {
    println!(
        "{:?}",
        with_netns("small", AssertUnwindSafe(|| drop(thread::spawn(|| ()))))
    );
}

/// As above: a reference, because the closure is called more than once.
fn retries(mut body: impl FnMut() + Send) {
    for _ in 0..2 {
        println!("{:?}", with_netns("small", &mut body));
    }
}

/// As above.
fn boxed() {
    println!("{:?}", with_netns("small", Box::new(|| watch())));
}

/// Takes a closure, as a user's own function may.
fn take(body: impl FnOnce()) {
    body();
}

fn gives() {
    take(|| watch());
}

// A hook that nothing defines: `WEAK_HOOK` is zero.
std::arch::global_asm!(
    ".pushsection .data.rel.weak_hook, \"aw\"",
    ".balign 8",
    ".globl WEAK_HOOK",
    ".type WEAK_HOOK, %object",
    ".size WEAK_HOOK, 8",
    ".weak hook_of_nobody",
    "WEAK_HOOK: .8byte hook_of_nobody",
    ".popsection",
);

unsafe extern "C" {
    static WEAK_HOOK: Option<extern "C" fn()>;
}

fn weak() {
    let body = || {
        if let Some(hook) = unsafe { WEAK_HOOK } {
            hook();
        }
    };
    println!("{:?}", with_netns("small", body));
}

unsafe extern "C" {
    fn dlopen(file: *const std::ffi::c_char, flags: std::ffi::c_int) -> *mut std::ffi::c_void;
}

fn loads() {
    let body = || unsafe { dlopen(c"libexample.so".as_ptr(), 2).is_null() };
    println!("{:?}", with_netns("small", body));
}

fn main() {
    gives();
    wrapped();
    retries(|| watch());
    boxed();
    clean();
    spawns();
    scoped();
    weak();
    unknown(&|| 1);
    allowed();
    half_allowed();
    opaque(|| 2);
    loads();
    let netns = in_netns::NetNs::current().unwrap();
    netns.within();
    probes(&netns);
    probes_error(&in_netns::NetNs::from_name("small").unwrap_err());
}
