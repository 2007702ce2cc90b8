//! A user who may start no more threads: each call is an error that says so, and later calls work.

use futures::executor::block_on;
use in_netns::{Call, Error, ErrorKind, NetNs, with_netns};
use in_netns_tests::{become_root_of_a_user_namespace, here, key};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setresgid, setresuid};

fn main() {
    // The limit does not hold for the host's root. Where nobody else can be had, this is not the host's root.
    let nobody = 65534;
    let _ = setresgid(Gid::from_raw(nobody), Gid::from_raw(nobody), Gid::from_raw(nobody));
    let _ = setresuid(Uid::from_raw(nobody), Uid::from_raw(nobody), Uid::from_raw(nobody));
    // Changing the user id made the process undumpable, and its files in /proc root's.
    nix::sys::prctl::set_dumpable(true).expect("prctl");
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET);

    let home = NetNs::current().expect("the current namespace");
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("getrlimit");
    let limit = |soft| setrlimit(Resource::RLIMIT_NPROC, soft, hard).expect("setrlimit");
    let refused = |call: Result<(), Error>| {
        let error = call.expect_err("no thread can be had");
        assert_eq!(error.kind(), ErrorKind::ThreadSpawn, "{error}");
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(source.and_then(std::io::Error::raw_os_error), Some(nix::errno::Errno::EAGAIN as i32));
    };

    // Not even the template thread.
    limit(1);
    refused(with_netns(&home, || unreachable!("the body ran")));
    refused(Call::new(&home).fresh().run(|| unreachable!("the body ran")));
    refused(block_on(home.run_async(|| async { unreachable!("the body ran") })));
    refused(block_on(Call::new(&home).fresh().run_async(|| async { unreachable!("the body ran") })));
    let task = block_on(home.spawn_async(|| async { unreachable!("the body ran") }));
    refused(task.map_err(|error| error.entry().expect("it never began").clone()));
    limit(hard);
    // The template, and no worker.
    Call::new(&home).fresh().run(|| ()).expect("threads can be had again");
    limit(1);
    refused(with_netns(&home, || unreachable!("the body ran")));
    refused(Call::new(&home).fresh().run(|| unreachable!("the body ran")));
    refused(block_on(home.run_async(|| async { unreachable!("the body ran") })));
    refused(block_on(Call::new(&home).fresh().run_async(|| async { unreachable!("the body ran") })));
    let task = block_on(home.spawn_async(|| async { unreachable!("the body ran") }));
    refused(task.map_err(|error| error.entry().expect("it never began").clone()));
    limit(hard);
    let ns = NetNs::new().expect("threads can be had again");
    // An idle worker needs no new thread.
    limit(1);
    assert_eq!(with_netns(&ns, here).expect("an idle thread is there"), key(ns.id()));
    assert_eq!(block_on(ns.run_async(|| async { here() })).expect("an idle thread is there"), key(ns.id()));
}
