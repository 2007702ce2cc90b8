use std::time::Instant;
fn main(){
    let ns = in_netns::NetNs::new().unwrap();
    let home = in_netns::NetNs::current().unwrap();
    for _ in 0..5 {
        let n=200_000u32;
        let t=Instant::now(); for _ in 0..n { ns.join().unwrap(); home.join().unwrap(); } let floor=t.elapsed()/n;
        let t=Instant::now(); for _ in 0..n { in_netns::with_netns(&ns,||()).unwrap(); } let call=t.elapsed()/n;
        println!("floor {floor:?} call {call:?} ratio {:.2} {:?}", call.as_nanos() as f64/floor.as_nanos() as f64, in_netns::pool_stats());
    }
}
