//! The capability bounding set of a thread (`capabilities(7)`), which a body can make smaller for good.
//!
//! **Why this mechanism:** to read the set takes a system call for each capability, 5.9 µs. But the kernel accepts an
//! inheritable set of capabilities that a thread does not have only where the bounding set has them. So one `capset(2)`
//! tells whether a whole set is in it, and another one takes the inheritable set back: 1.5 µs. A security module may
//! refuse `capset(2)` to a thread that has all capabilities for it; then each capability is read.
//!
//! **What breaks otherwise:** the programs that later bodies start, and that gain capabilities from their files or from
//! being root, lack those that a body has dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::readings;
use crate::sys::{self, CAP_SETPCAP, Capabilities};

/// The bounding set that a thread began with.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoundingSet {
    /// Not known where no body can change it, and where a seccomp filter may refuse the calls.
    set: Option<u64>,
    /// Whether `capset(2)` tells about a whole set. It told so on the new thread.
    is_told_at_once: bool,
}

impl BoundingSet {
    /// That of the calling thread. For a thread that is not used again, it may be a part of the set.
    pub(super) fn of_current_thread(is_used_again: bool) -> BoundingSet {
        /// That of the thread of the pool that was started last, which most others have too. 0: none yet.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mine = sys::capabilities_of_current().unwrap_or_default();
        if !mine.has_permitted(CAP_SETPCAP) || readings::is_filtered() {
            return BoundingSet { set: None, is_told_at_once: false };
        }
        let last = LAST.load(Ordering::Relaxed);
        if !is_used_again && last != 0 && can_tell_at_once(mine) && tells_all_of(last, mine) {
            return BoundingSet { set: Some(last), is_told_at_once: true };
        }
        let set = read();
        if is_used_again {
            LAST.store(set, Ordering::Relaxed);
        }
        BoundingSet { set: Some(set), is_told_at_once: can_tell_at_once(mine) && tells_all_of(set, mine) }
    }

    /// Whether the calling thread, which began with this set and has these capabilities, still has all of it.
    pub(super) fn is_complete(self, mine: Capabilities) -> bool {
        // Without this capability a thread cannot change its set.
        let Some(set) = self.set.filter(|_| mine.has_permitted(CAP_SETPCAP)) else { return true };
        if self.is_told_at_once && can_tell_at_once(mine) { tells_all_of(set, mine) } else { set & !read() == 0 }
    }
}

/// Whether a thread with these capabilities can ask about a whole set. An inheritable capability may stay when it is
/// dropped from the bounding set.
fn can_tell_at_once(mine: Capabilities) -> bool {
    mine.inheritable == 0 && mine.has(CAP_SETPCAP)
}

/// Whether the kernel tells that the bounding set of the calling thread, which has these capabilities, contains a set.
fn tells_all_of(set: u64, mine: Capabilities) -> bool {
    sys::set_capabilities(Capabilities { inheritable: set, ..mine }).is_ok() && sys::set_capabilities(mine).is_ok()
}

fn read() -> u64 {
    let each = (0..64).map_while(|capability| Some((capability, readings::is_in_bounding_set(capability).ok()?)));
    each.fold(0, |set, (capability, is_contained)| set | u64::from(is_contained) << capability)
}
