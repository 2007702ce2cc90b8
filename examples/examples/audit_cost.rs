//! Measures the cost of an audit: the median of calls with and without one, in a process with 10, 100 and 1000 threads.
//!
//! `cargo run --release --example audit_cost`

use std::io;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{Call, NetNs};

in_netns::rootless!();

fn main() -> io::Result<()> {
    let ns = NetNs::new()?;
    println!("{:>7}  {:>12}  {:>12}  {:>12}", "threads", "unaudited", "audited", "one stray");
    for threads in [10, 100, 1000] {
        let end = Arc::new(Barrier::new(threads + 1));
        let bystanders: Vec<_> = (0..threads)
            .map(|_| {
                let end = Arc::clone(&end);
                thread::Builder::new().stack_size(64 * 1024).spawn(move || end.wait())
            })
            .collect::<io::Result<_>>()?;

        let plain = median(2000, || Call::new(&ns).run(|| ()))?;
        let audited = median(500, || Call::new(&ns).audit().run(|| ()))?;
        in_netns::set_stray_hook(|_| ());
        let stray = median(50, || {
            let stray = Call::new(&ns).audit().run(|| thread::spawn(thread::park))?;
            stray.thread().unpark();
            let _ = stray.join();
            Ok(())
        })?;
        println!("{threads:>7}  {plain:>12.1?}  {audited:>12.1?}  {stray:>12.1?}");

        end.wait();
        for thread in bystanders {
            let _ = thread.join();
        }
    }
    Ok(())
}

/// The median time of `runs` runs, after a tenth as many warm-up runs.
fn median<T>(runs: usize, mut run: impl FnMut() -> Result<T, in_netns::Error>) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(runs);
    for number in 0..runs + runs / 10 {
        let start = Instant::now();
        run()?;
        let time = start.elapsed();
        if number >= runs / 10 {
            times.push(time);
        }
    }
    times.sort_unstable();
    Ok(times[runs / 2])
}
