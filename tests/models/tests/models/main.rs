//! Model checks of the two hand-overs and of the seat of a process with loom, and the table of the spin policy.
//!
//! The files under test are the runtime's own. Loom's atomics, locks, cells and threads replace those of `std`.
#![allow(missing_docs, unsafe_code, unreachable_pub, dead_code)]
// The runtime's files support an older compiler than the tests do.
#![allow(clippy::collapsible_if, clippy::manual_is_multiple_of)]

mod poll_rendezvous_model;
mod process_seat_model;
mod rendezvous_model;
mod spin_policy_table;
mod sync;
mod sys;

#[path = "../../../../runtime/src/async_call/poll_rendezvous.rs"]
mod poll_rendezvous;

#[path = "../../../../runtime/src/netns/mounts/process_seat.rs"]
mod process_seat;

#[path = "../../../../runtime/src/thread/late_value.rs"]
mod late_value;
#[path = "../../../../runtime/src/thread/rendezvous.rs"]
mod rendezvous;

#[path = "../../../../runtime/src/thread/spin_policy.rs"]
mod spin_policy;

#[path = "../../../../runtime/src/unwind.rs"]
mod unwind;

/// Explores every interleaving with up to three preemptions, or `LOOM_MAX_PREEMPTIONS`. Bugs of this kind show with two
/// or three. The gate explores four, which takes six times as long.
fn explorer() -> loom::model::Builder {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound.get_or_insert(3);
    explorer
}
