/work/main/bench/target-base/release/deps/pauses-ba3ec736e043537a.d: src/bin/pauses.rs

/work/main/bench/target-base/release/deps/pauses-ba3ec736e043537a: src/bin/pauses.rs

src/bin/pauses.rs:
