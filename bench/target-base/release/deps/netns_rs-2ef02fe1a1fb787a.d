/work/main/bench/target-base/release/deps/netns_rs-2ef02fe1a1fb787a.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/netns.rs

/work/main/bench/target-base/release/deps/libnetns_rs-2ef02fe1a1fb787a.rlib: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/netns.rs

/work/main/bench/target-base/release/deps/libnetns_rs-2ef02fe1a1fb787a.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/netns.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/lib.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/netns-rs-0.2.0/src/netns.rs:
