/work/main/bench/target-base/release/deps/in_netns-1fe9e0ca264dbe87.d: /tmp/base/runtime/src/lib.rs /tmp/base/runtime/src/asynchronous.rs /tmp/base/runtime/src/asynchronous/borrowed.rs /tmp/base/runtime/src/asynchronous/entry.rs /tmp/base/runtime/src/asynchronous/local.rs /tmp/base/runtime/src/asynchronous/polls.rs /tmp/base/runtime/src/asynchronous/service.rs /tmp/base/runtime/src/asynchronous/stay.rs /tmp/base/runtime/src/asynchronous/task.rs /tmp/base/runtime/src/audit.rs /tmp/base/runtime/src/call.rs /tmp/base/runtime/src/context.rs /tmp/base/runtime/src/create.rs /tmp/base/runtime/src/error.rs /tmp/base/runtime/src/escapes.rs /tmp/base/runtime/src/fate.rs /tmp/base/runtime/src/guard.rs /tmp/base/runtime/src/handover.rs /tmp/base/runtime/src/holders.rs /tmp/base/runtime/src/home.rs /tmp/base/runtime/src/hook.rs /tmp/base/runtime/src/netns.rs /tmp/base/runtime/src/netns/named.rs /tmp/base/runtime/src/netns/target.rs /tmp/base/runtime/src/permission.rs /tmp/base/runtime/src/privileges.rs /tmp/base/runtime/src/resident.rs /tmp/base/runtime/src/rootless.rs /tmp/base/runtime/src/sync.rs /tmp/base/runtime/src/sys.rs /tmp/base/runtime/src/sys/before_main.rs /tmp/base/runtime/src/sys/raw.rs /tmp/base/runtime/src/thread.rs /tmp/base/runtime/src/thread/departure.rs /tmp/base/runtime/src/thread/farewell.rs /tmp/base/runtime/src/thread/pool.rs /tmp/base/runtime/src/thread/template.rs /tmp/base/runtime/src/thread/worker.rs /tmp/base/runtime/src/walk.rs /tmp/base/runtime/src/private.rs /tmp/base/runtime/src/../README.md

/work/main/bench/target-base/release/deps/libin_netns-1fe9e0ca264dbe87.rlib: /tmp/base/runtime/src/lib.rs /tmp/base/runtime/src/asynchronous.rs /tmp/base/runtime/src/asynchronous/borrowed.rs /tmp/base/runtime/src/asynchronous/entry.rs /tmp/base/runtime/src/asynchronous/local.rs /tmp/base/runtime/src/asynchronous/polls.rs /tmp/base/runtime/src/asynchronous/service.rs /tmp/base/runtime/src/asynchronous/stay.rs /tmp/base/runtime/src/asynchronous/task.rs /tmp/base/runtime/src/audit.rs /tmp/base/runtime/src/call.rs /tmp/base/runtime/src/context.rs /tmp/base/runtime/src/create.rs /tmp/base/runtime/src/error.rs /tmp/base/runtime/src/escapes.rs /tmp/base/runtime/src/fate.rs /tmp/base/runtime/src/guard.rs /tmp/base/runtime/src/handover.rs /tmp/base/runtime/src/holders.rs /tmp/base/runtime/src/home.rs /tmp/base/runtime/src/hook.rs /tmp/base/runtime/src/netns.rs /tmp/base/runtime/src/netns/named.rs /tmp/base/runtime/src/netns/target.rs /tmp/base/runtime/src/permission.rs /tmp/base/runtime/src/privileges.rs /tmp/base/runtime/src/resident.rs /tmp/base/runtime/src/rootless.rs /tmp/base/runtime/src/sync.rs /tmp/base/runtime/src/sys.rs /tmp/base/runtime/src/sys/before_main.rs /tmp/base/runtime/src/sys/raw.rs /tmp/base/runtime/src/thread.rs /tmp/base/runtime/src/thread/departure.rs /tmp/base/runtime/src/thread/farewell.rs /tmp/base/runtime/src/thread/pool.rs /tmp/base/runtime/src/thread/template.rs /tmp/base/runtime/src/thread/worker.rs /tmp/base/runtime/src/walk.rs /tmp/base/runtime/src/private.rs /tmp/base/runtime/src/../README.md

/work/main/bench/target-base/release/deps/libin_netns-1fe9e0ca264dbe87.rmeta: /tmp/base/runtime/src/lib.rs /tmp/base/runtime/src/asynchronous.rs /tmp/base/runtime/src/asynchronous/borrowed.rs /tmp/base/runtime/src/asynchronous/entry.rs /tmp/base/runtime/src/asynchronous/local.rs /tmp/base/runtime/src/asynchronous/polls.rs /tmp/base/runtime/src/asynchronous/service.rs /tmp/base/runtime/src/asynchronous/stay.rs /tmp/base/runtime/src/asynchronous/task.rs /tmp/base/runtime/src/audit.rs /tmp/base/runtime/src/call.rs /tmp/base/runtime/src/context.rs /tmp/base/runtime/src/create.rs /tmp/base/runtime/src/error.rs /tmp/base/runtime/src/escapes.rs /tmp/base/runtime/src/fate.rs /tmp/base/runtime/src/guard.rs /tmp/base/runtime/src/handover.rs /tmp/base/runtime/src/holders.rs /tmp/base/runtime/src/home.rs /tmp/base/runtime/src/hook.rs /tmp/base/runtime/src/netns.rs /tmp/base/runtime/src/netns/named.rs /tmp/base/runtime/src/netns/target.rs /tmp/base/runtime/src/permission.rs /tmp/base/runtime/src/privileges.rs /tmp/base/runtime/src/resident.rs /tmp/base/runtime/src/rootless.rs /tmp/base/runtime/src/sync.rs /tmp/base/runtime/src/sys.rs /tmp/base/runtime/src/sys/before_main.rs /tmp/base/runtime/src/sys/raw.rs /tmp/base/runtime/src/thread.rs /tmp/base/runtime/src/thread/departure.rs /tmp/base/runtime/src/thread/farewell.rs /tmp/base/runtime/src/thread/pool.rs /tmp/base/runtime/src/thread/template.rs /tmp/base/runtime/src/thread/worker.rs /tmp/base/runtime/src/walk.rs /tmp/base/runtime/src/private.rs /tmp/base/runtime/src/../README.md

/tmp/base/runtime/src/lib.rs:
/tmp/base/runtime/src/asynchronous.rs:
/tmp/base/runtime/src/asynchronous/borrowed.rs:
/tmp/base/runtime/src/asynchronous/entry.rs:
/tmp/base/runtime/src/asynchronous/local.rs:
/tmp/base/runtime/src/asynchronous/polls.rs:
/tmp/base/runtime/src/asynchronous/service.rs:
/tmp/base/runtime/src/asynchronous/stay.rs:
/tmp/base/runtime/src/asynchronous/task.rs:
/tmp/base/runtime/src/audit.rs:
/tmp/base/runtime/src/call.rs:
/tmp/base/runtime/src/context.rs:
/tmp/base/runtime/src/create.rs:
/tmp/base/runtime/src/error.rs:
/tmp/base/runtime/src/escapes.rs:
/tmp/base/runtime/src/fate.rs:
/tmp/base/runtime/src/guard.rs:
/tmp/base/runtime/src/handover.rs:
/tmp/base/runtime/src/holders.rs:
/tmp/base/runtime/src/home.rs:
/tmp/base/runtime/src/hook.rs:
/tmp/base/runtime/src/netns.rs:
/tmp/base/runtime/src/netns/named.rs:
/tmp/base/runtime/src/netns/target.rs:
/tmp/base/runtime/src/permission.rs:
/tmp/base/runtime/src/privileges.rs:
/tmp/base/runtime/src/resident.rs:
/tmp/base/runtime/src/rootless.rs:
/tmp/base/runtime/src/sync.rs:
/tmp/base/runtime/src/sys.rs:
/tmp/base/runtime/src/sys/before_main.rs:
/tmp/base/runtime/src/sys/raw.rs:
/tmp/base/runtime/src/thread.rs:
/tmp/base/runtime/src/thread/departure.rs:
/tmp/base/runtime/src/thread/farewell.rs:
/tmp/base/runtime/src/thread/pool.rs:
/tmp/base/runtime/src/thread/template.rs:
/tmp/base/runtime/src/thread/worker.rs:
/tmp/base/runtime/src/walk.rs:
/tmp/base/runtime/src/private.rs:
/tmp/base/runtime/src/../README.md:
