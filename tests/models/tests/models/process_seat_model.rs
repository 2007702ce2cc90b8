//! The model check of the seat of a process: the threads of a forked child take it at once.

use loom::sync::Arc;
use loom::thread;

use crate::process_seat::ProcessSeat;
use crate::sys::process_local::ProcessMark;

/// The value: loom reports one that is never dropped, or dropped twice.
type Value = Arc<u32>;

/// Two threads of a child process lock the seat, which the parent made and, if it is `held`, held at the fork. Each
/// returns what it found, and puts a value there if there was none.
fn in_child(held: bool) -> [Option<u32>; 2] {
    let seat: Arc<ProcessSeat<Value>> = Arc::new(ProcessSeat::new(Arc::new(1)));
    if held {
        let mut value = seat.lock();
        // Loom would report the value that stays in the parent's copy.
        *value = None;
        std::mem::forget(value);
    }
    ProcessMark::fork();
    let look = |seat: &ProcessSeat<Value>| {
        let mut value = seat.lock();
        let found = value.as_deref().copied();
        value.get_or_insert_with(|| Arc::new(2));
        found
    };
    let other = {
        let seat = Arc::clone(&seat);
        thread::spawn(move || look(&seat))
    };
    let own = look(&seat);
    [own, other.join().unwrap()]
}

#[test]
fn the_value_of_the_parent_moves_to_the_child_once() {
    crate::explorer().check(|| assert_eq!(in_child(false), [Some(1), Some(1)]));
}

#[test]
fn the_child_does_not_wait_for_a_lock_that_its_parent_left_held() {
    crate::explorer().check(|| {
        let mut found = in_child(true);
        found.sort_unstable();
        assert_eq!(found, [None, Some(2)]);
    });
}

#[test]
fn a_child_that_does_not_look_drops_the_value_of_its_parent() {
    crate::explorer().check(|| {
        let seat: ProcessSeat<Value> = ProcessSeat::new(Arc::new(1));
        ProcessMark::fork();
        drop(seat);
    });
}
