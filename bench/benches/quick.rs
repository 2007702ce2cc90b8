use std::time::Instant;
fn main(){
    let ns = in_netns::NetNs::new().unwrap();
    let home = in_netns::NetNs::current().unwrap();
    let w = ns.worker();
    let mut rows = vec![];
    for _ in 0..15 {
        let n=20_000u32;
        let t=Instant::now(); for _ in 0..n { ns.join().unwrap(); home.join().unwrap(); } let floor=t.elapsed()/n;
        let t=Instant::now(); for _ in 0..n { in_netns::with_netns(&ns,||()).unwrap(); } let call=t.elapsed()/n;
        let t=Instant::now(); for _ in 0..n { in_netns::Call::new(&ns).outcome(||()).unwrap(); } let outcome=t.elapsed()/n;
        let t=Instant::now(); for _ in 0..n { w.run(||()).unwrap(); } let worker=t.elapsed()/n;
        rows.push((floor.as_nanos(), call.as_nanos(), outcome.as_nanos(), worker.as_nanos()));
    }
    let med=|f:fn(&(u128,u128,u128,u128))->u128|{let mut v:Vec<_>=rows.iter().map(f).collect();v.sort();v[7]};
    let f=med(|r|r.0);
    println!("floor {f} call {} = {:.2} outcome {} = {:.2} worker {} = {:.3}", med(|r|r.1), med(|r|r.1) as f64/f as f64, med(|r|r.2),med(|r|r.2) as f64/f as f64, med(|r|r.3), med(|r|r.3) as f64/f as f64);
}
