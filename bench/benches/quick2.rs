fn main(){ let ns = in_netns::NetNs::new().unwrap(); for _ in 0..1_000_000 { in_netns::with_netns(&ns,||()).unwrap(); } }
