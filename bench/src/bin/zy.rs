use in_netns::NetNs;
use nix::sched::sched_getcpu;
use std::time::{Duration, Instant};
fn main() {
    let a: Vec<u64> = std::env::args().skip(1).map(|x| x.parse().unwrap()).collect();
    let (n, pause, rounds) = (a[0] as usize, a[1], a[2] as usize);
    let ns = NetNs::new().unwrap();
    let mut m = std::collections::BTreeMap::<String, Vec<f64>>::new();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_micros(pause));
        let mut last = 9;
        for _ in 0..n {
            let c0 = sched_getcpu().unwrap();
            let s = Instant::now();
            let c1 = in_netns::with_netns(&ns, || sched_getcpu().unwrap()).unwrap();
            let t = s.elapsed().as_nanos() as f64 / 1e3;
            let c2 = sched_getcpu().unwrap();
            let k = format!(
                "caller {} callee {} caller then {}",
                "same",
                if c1 == c0 { "here" } else { "there" },
                if c2 == c0 { "here" } else { "there" }
            );
            m.entry(format!(
                "{k}; callee was {}",
                if last == 9 {
                    "?"
                } else if last == c0 {
                    "here"
                } else {
                    "there"
                }
            ))
            .or_default()
            .push(t);
            last = c1;
        }
    }
    for (k, v) in &mut m {
        v.sort_by(f64::total_cmp);
        println!(
            "{k}: {} times, p10 {:.1} median {:.1} p90 {:.1}",
            v.len(),
            v[v.len() / 10],
            v[v.len() / 2],
            v[v.len() * 9 / 10]
        );
    }
}
