//! The programs that tests start, each in a process of its own. Each is a module here: the first argument is the name
//! of the module, and the others are its arguments. Tests start them with `in_netns_tests::separate!`.
//!
//! They are one executable, because each executable takes a link with the whole library, and a run of the check.
//! The tests under `AddressSanitizer` run those that are always compiled.

use std::error::Error;

mod child_processes;
mod foreign_home;
mod foreign_walk;
mod foreign_worker;
mod key_destructors;
mod leaves_a_stray;
mod reentrant;
mod user_panics;

#[cfg(feature = "all-programs")]
mod closes_all;
#[cfg(feature = "all-programs")]
mod commands;
#[cfg(feature = "all-programs")]
mod daemon;
#[cfg(feature = "all-programs")]
mod directories;
#[cfg(feature = "all-programs")]
mod few_descriptors;
#[cfg(feature = "all-programs")]
mod filter_added;
#[cfg(feature = "all-programs")]
mod filter_without_room;
#[cfg(feature = "all-programs")]
mod first_call_elsewhere;
#[cfg(feature = "all-programs")]
mod first_caller;
#[cfg(feature = "all-programs")]
mod forked;
#[cfg(feature = "all-programs")]
mod half_made;
#[cfg(feature = "all-programs")]
mod leader;
#[cfg(feature = "all-programs")]
mod leaderless;
#[cfg(feature = "all-programs")]
mod names;
#[cfg(feature = "all-programs")]
mod no_threads;
#[cfg(feature = "all-programs")]
mod older_kernel;
#[cfg(feature = "all-programs")]
mod one_family;
#[cfg(feature = "all-programs")]
mod own_descriptors;
#[cfg(feature = "all-programs")]
mod pid_namespace;
#[cfg(feature = "all-programs")]
mod pool_at_limit;
#[cfg(feature = "all-programs")]
mod pool_forked;
#[cfg(feature = "all-programs")]
mod powerless;
#[cfg(feature = "all-programs")]
mod recycled;
#[cfg(feature = "all-programs")]
mod refusals;
#[cfg(feature = "all-programs")]
mod shortages;
#[cfg(feature = "all-programs")]
mod small_stacks;
#[cfg(feature = "all-programs")]
mod stands;
#[cfg(feature = "all-programs")]
mod stopped;
#[cfg(feature = "all-programs")]
mod traced;
#[cfg(feature = "all-programs")]
mod under_profile;
#[cfg(feature = "all-programs")]
mod upgrades;
#[cfg(feature = "all-programs")]
mod views;
#[cfg(feature = "all-programs")]
mod without_proc;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_default();
    match name.as_str() {
        "child_processes" => child_processes::main(),
        "foreign_home" => foreign_home::main(),
        "foreign_walk" => foreign_walk::main(),
        "foreign_worker" => foreign_worker::main(),
        "key_destructors" => key_destructors::main(),
        "leaves_a_stray" => leaves_a_stray::main(),
        "reentrant" => reentrant::main(),
        "user_panics" => user_panics::main(),
        name => return unsanitized(name),
    }
    Ok(())
}

#[cfg(feature = "all-programs")]
fn unsanitized(name: &str) -> Result<(), Box<dyn Error>> {
    match name {
        "closes_all" => closes_all::main(),
        "commands" => commands::main(),
        "daemon" => daemon::main(),
        "directories" => directories::main(),
        "few_descriptors" => few_descriptors::main(),
        "filter_added" => filter_added::main(),
        "filter_without_room" => filter_without_room::main(),
        "first_call_elsewhere" => first_call_elsewhere::main(),
        "first_caller" => first_caller::main(),
        "forked" => forked::main(),
        "half_made" => half_made::main(),
        "leader" => leader::main(),
        "leaderless" => leaderless::main(),
        "names" => names::main(),
        "no_threads" => no_threads::main(),
        "older_kernel" => older_kernel::main(),
        "one_family" => one_family::main(),
        "own_descriptors" => own_descriptors::main(),
        "pid_namespace" => pid_namespace::main(),
        "pool_at_limit" => pool_at_limit::main(),
        "pool_forked" => pool_forked::main(),
        "powerless" => return powerless::main(),
        "recycled" => recycled::main(),
        "refusals" => refusals::main(),
        "shortages" => shortages::main(),
        "small_stacks" => small_stacks::main(),
        "stands" => return stands::main(),
        "stopped" => stopped::main(),
        "traced" => traced::main(),
        "under_profile" => under_profile::main(),
        "upgrades" => return upgrades::main(),
        "views" => views::main(),
        "without_proc" => without_proc::main(),
        _ => return Err(format!("there is no module `{name}`").into()),
    }
    Ok(())
}

#[cfg(not(feature = "all-programs"))]
fn unsanitized(name: &str) -> Result<(), Box<dyn Error>> {
    Err(format!("there is no module `{name}` without the feature `all-programs`").into())
}

/// The arguments of a module.
fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(2)
}

/// Does what `in_netns::rootless!()` does before `main`, for the modules that begin with it. The macro would do it for
/// all. As there, if it fails, the first call that needs the privilege fails and gives the reason.
fn rootless() {
    let _ = in_netns::rootless::enter();
}
