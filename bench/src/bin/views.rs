//! What a call with a view takes, beside a call without one and beside `ip netns exec NAME true`.
//!
//! Every line is the median of blocks that were measured by turns in one process.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use in_netns::{NetNs, View, with_netns};

const BLOCKS: usize = 101;
const CALLS: u32 = 500;

fn main() {
    let name = format!("in-netns-bench-{}", std::process::id());
    let ns = NetNs::create_named(&name).expect("root");
    let view = ns.view().expect("root");
    let with_texts = View::builder(&ns).resolv_conf("nameserver 127.0.0.1\n").hosts("").build().expect("root");
    let seen = |path: &'static str| move || std::fs::metadata(black_box(path)).is_ok();
    type Row<'r> = (&'static str, u32, Box<dyn FnMut() + 'r>, Vec<Duration>);
    let mut rows: Vec<Row<'_>> = vec![
        ("with_netns, empty body", CALLS, Box::new(|| with_netns(&ns, || ()).unwrap()), Vec::new()),
        ("view, empty body", CALLS, Box::new(|| view.run(|| ()).unwrap()), Vec::new()),
        ("view with resolv.conf and hosts, empty body", CALLS, Box::new(|| with_texts.run(|| ()).unwrap()), Vec::new()),
        ("with_netns, one stat", CALLS, Box::new(|| _ = with_netns(&ns, seen("/sys/class/net")).unwrap()), Vec::new()),
        ("view, one stat", CALLS, Box::new(|| _ = view.run(seen("/sys/class/net")).unwrap()), Vec::new()),
        ("ns.view()", 5, Box::new(|| _ = ns.view().unwrap()), Vec::new()),
        (
            "ip netns exec NAME true",
            1,
            Box::new(|| {
                let status = Command::new("ip").args(["netns", "exec", &name, "true"]).status();
                assert!(status.expect("ip is installed").success());
            }),
            Vec::new(),
        ),
    ];
    for _ in 0..BLOCKS {
        for (_, calls, run, times) in &mut rows {
            // The first call of a block wakes the threads.
            run();
            let start = Instant::now();
            for _ in 0..*calls {
                run();
            }
            times.push(start.elapsed() / *calls);
        }
    }
    let medians: Vec<_> = rows
        .into_iter()
        .map(|(what, _, _, mut times)| {
            times.sort_unstable();
            (what, times[times.len() / 2].as_secs_f64() * 1e6)
        })
        .collect();
    NetNs::delete_named(&name).expect("root");
    let of = |wanted: &str| medians.iter().find(|(what, _)| *what == wanted).map_or(f64::NAN, |(_, median)| *median);
    println!("| what | µs |\n|---|---:|");
    for (what, median) in &medians {
        println!("| {what} | {median:.2} |");
    }
    println!("\n| ratio | |\n|---|---:|");
    println!("| view : with_netns, empty body | {:.2} |", of("view, empty body") / of("with_netns, empty body"));
    println!("| view : with_netns, one stat | {:.2} |", of("view, one stat") / of("with_netns, one stat"));
    println!("| ip netns exec : view, empty body | {:.0} |", of("ip netns exec NAME true") / of("view, empty body"));
    println!("| ip netns exec : view, one stat | {:.0} |", of("ip netns exec NAME true") / of("view, one stat"));
}
