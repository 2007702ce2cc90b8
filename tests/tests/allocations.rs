//! A warm call allocates nothing, on either side of the rendezvous. The test is alone in its process, whose allocator
//! counts.
#![allow(missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use in_netns::{NetNs, set_keep_alive, with_netns};

in_netns::rootless!();

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: each call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_call_allocates_nothing() {
    set_keep_alive(Duration::from_secs(600));
    // In a user namespace of one's own the inspection reads `/proc`, off the caller's path, and that allocates.
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if !ids.contains("4294967295") {
        eprintln!("in a user namespace: allocations of the inspection cannot be distinguished from those of a call");
        return;
    }
    let ns = NetNs::new().unwrap();
    let worker = ns.worker();
    let calls = || {
        with_netns(&ns, || ()).unwrap();
        ns.run(|| ()).unwrap();
        worker.run(|| ()).unwrap();
    };
    // Warm up: both threads exist, and the list of idle threads has room.
    for _ in 0..100 {
        calls();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..10_000 {
        calls();
    }
    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // libtest's own threads do nothing: there is one test, and the main thread waits for it.
    assert_eq!(allocated, 0, "in 30,000 calls");
}
