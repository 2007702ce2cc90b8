//! Measures the CPU time that spinning costs: a thousand calls per second for five seconds, with and without it.
//!
//! ```sh
//! cargo run --release --manifest-path bench/Cargo.toml --bin spinning
//! ```

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{NetNs, with_netns};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const CALLS: u32 = 5_000;
const EVERY: Duration = Duration::from_millis(1);

fn main() {
    let Some(how) = std::env::args().nth(1) else { return compare() };
    if how == "parked" {
        in_netns::__private::limit_spinning(0);
    }
    let ns = NetNs::new().expect("a namespace");
    with_netns(&ns, || ()).expect("a call");
    let start = Instant::now();
    for call in 1..=CALLS {
        with_netns(&ns, || ()).expect("a call");
        thread::sleep((EVERY * call).saturating_sub(start.elapsed()));
    }
    let used = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
    let used = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    println!("{used} {}", start.elapsed().as_micros());
}

/// Runs three of each, in turn, and takes the medians.
fn compare() {
    let mut shares = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (how, shares) in ["spinning", "parked"].iter().zip(&mut shares) {
            let program = std::env::current_exe().expect("this program");
            let output = Command::new(program).arg(how).output().expect("this program runs");
            let printed = String::from_utf8(output.stdout).expect("text");
            let (used, passed) = printed.trim().split_once(' ').expect("two numbers");
            let [used, passed] = [used, passed].map(|number| number.parse::<f64>().expect("a number"));
            shares.push(100.0 * used / passed);
        }
    }
    let [spinning, parked] = shares.map(|mut shares| {
        shares.sort_by(f64::total_cmp);
        shares[shares.len() / 2]
    });
    println!("of one CPU, at 1,000 calls a second: spinning {spinning:.2} %, parked {parked:.2} %");
    println!("spinning costs {:.2} % of one CPU", spinning - parked);
}
