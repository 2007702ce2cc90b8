/work/main/bench/target-base/release/deps/in_netns_macros-498256ec8550a8fe.d: /tmp/base/macros/src/lib.rs /tmp/base/macros/src/args.rs /tmp/base/macros/src/expand.rs /tmp/base/macros/src/handover.rs /tmp/base/macros/src/model.rs /tmp/base/macros/src/refuse.rs

/work/main/bench/target-base/release/deps/libin_netns_macros-498256ec8550a8fe.so: /tmp/base/macros/src/lib.rs /tmp/base/macros/src/args.rs /tmp/base/macros/src/expand.rs /tmp/base/macros/src/handover.rs /tmp/base/macros/src/model.rs /tmp/base/macros/src/refuse.rs

/tmp/base/macros/src/lib.rs:
/tmp/base/macros/src/args.rs:
/tmp/base/macros/src/expand.rs:
/tmp/base/macros/src/handover.rs:
/tmp/base/macros/src/model.rs:
/tmp/base/macros/src/refuse.rs:
