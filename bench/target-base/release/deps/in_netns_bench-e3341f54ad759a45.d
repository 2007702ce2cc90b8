/work/main/bench/target-base/release/deps/in_netns_bench-e3341f54ad759a45.d: src/lib.rs

/work/main/bench/target-base/release/deps/libin_netns_bench-e3341f54ad759a45.rlib: src/lib.rs

/work/main/bench/target-base/release/deps/libin_netns_bench-e3341f54ad759a45.rmeta: src/lib.rs

src/lib.rs:
