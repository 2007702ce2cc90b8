//! Bodies that hand work to an executor, or to a worker over a channel.

use std::sync::mpsc;
use std::time::Duration;

use in_netns::{Call, NetNs, with_netns, with_netns_async};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

type Job = Box<dyn FnOnce() + Send>;

pub fn tokio_spawn() {
    let task = with_netns("sample", || tokio::spawn(async { 1 }));
    println!("{task:?}");
}

pub fn tokio_handle_spawn() {
    let handle = tokio::runtime::Handle::current();
    let task = with_netns("sample", || handle.spawn(async { 1 }));
    println!("{task:?}");
}

pub fn tokio_spawn_blocking() {
    let task = with_netns("sample", || tokio::task::spawn_blocking(|| 1));
    println!("{task:?}");
}

pub fn tokio_fs_read() {
    let handle = tokio::runtime::Handle::current();
    let read = with_netns("sample", || {
        handle.block_on(tokio::fs::read("/etc/hostname"))
    });
    println!("{read:?}");
}

pub fn rayon_join() {
    println!("{:?}", with_netns("sample", || rayon::join(|| 1, || 2)));
}

pub fn rayon_par_iter() {
    println!(
        "{:?}",
        with_netns("sample", || (1..1000_u32)
            .into_par_iter()
            .map(|n| n * 2)
            .sum::<u32>())
    );
}

pub fn rayon_scope() {
    println!(
        "{:?}",
        with_netns("sample", || rayon::scope(|scope| scope.spawn(|_| ())))
    );
}

pub fn smol_spawn() {
    let task = with_netns("sample", || smol::spawn(async { 1 }).detach());
    println!("{task:?}");
}

pub fn blocking_unblock() {
    let task = with_netns("sample", || blocking::unblock(|| 1).detach());
    println!("{task:?}");
}

pub fn async_std_spawn() {
    let task = with_netns("sample", || async_std::task::spawn(async { 1 }));
    println!("{}", task.is_ok());
}

pub fn futures_pool() {
    let done = with_netns("sample", || {
        let pool = futures::executor::ThreadPool::new()?;
        pool.spawn_ok(async {});
        Ok::<_, std::io::Error>(())
    });
    println!("{done:?}");
}

pub fn threadpool_execute() {
    let done = with_netns("sample", || {
        let pool = threadpool::ThreadPool::new(2);
        pool.execute(|| ());
    });
    println!("{done:?}");
}

pub fn tokio_lookup_in_own_runtime() {
    let stream = with_netns("sample", || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { tokio::net::TcpStream::connect("localhost:1").await })
    });
    println!("{stream:?}");
}

struct Service {
    runtime: tokio::runtime::Handle,
}

thread_local! {
    static SERVICE: std::cell::RefCell<Option<Service>> = const { std::cell::RefCell::new(None) };
}

/// The other runtime is a part of a thread-local.
pub fn tokio_handle_in_thread_local() {
    let found = with_netns("sample", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let spawns = |service: &Service| drop(service.runtime.spawn(async { 1 }));
        let work = async { SERVICE.with_borrow(|service| service.as_ref().map(spawns)) };
        Ok::<_, std::io::Error>(runtime.block_on(work))
    });
    println!("{found:?}");
}

/// The socket refers to its runtime, which has closures to call.
pub fn tokio_socket_over_std() {
    let (sender, receiver) = mpsc::channel::<tokio::net::UdpSocket>();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let sent = with_netns("sample", || {
        let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
        sender.send(socket).is_ok()
    });
    println!("{sent:?} {}", receiver.recv().is_ok());
}

pub fn tokio_multi_thread() {
    let number = with_netns("sample", || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        Ok::<_, std::io::Error>(runtime.block_on(async { 1 }))
    });
    println!("{number:?}");
}

pub fn boxed_closure_over_std() {
    let (sender, receiver) = mpsc::channel::<Job>();
    let sent = with_netns("sample", || sender.send(Box::new(|| ())).is_ok());
    println!("{sent:?} {}", receiver.recv().is_ok());
}

pub fn boxed_closure_over_crossbeam() {
    let (sender, receiver) = crossbeam::channel::unbounded::<Job>();
    let sent = with_netns("sample", || sender.send(Box::new(|| ())).is_ok());
    println!("{sent:?} {}", receiver.recv().is_ok());
}

pub fn boxed_closure_over_flume() {
    let (sender, receiver) = flume::unbounded::<Job>();
    let sent = with_netns("sample", || sender.send(Box::new(|| ())).is_ok());
    println!("{sent:?} {}", receiver.recv().is_ok());
}

/// The closure's future runs in a runtime of the call.
pub fn contained_tokio() {
    let call = with_netns_async("sample", || async {
        let task = tokio::spawn(async { 1 });
        let blocking = tokio::task::spawn_blocking(|| 2);
        println!("{:?} {:?}", task.await, blocking.await);
    });
    println!("{:?}", smol::block_on(call));
}

pub fn contained_run_async() {
    let namespace = NetNs::current().unwrap();
    let call = namespace.run_async(|| async { tokio::fs::read("/etc/hostname").await });
    println!("{:?}", smol::block_on(call));
}

pub fn contained_call_async() {
    let call = Call::new("sample").run_async(|| async { tokio::spawn(async { 1 }).await });
    println!("{:?}", smol::block_on(call));
}

pub fn thread_in_outcome_async() {
    let call = Call::new("sample").outcome_async(|| async { drop(std::thread::spawn(|| ())) });
    println!("{}", smol::block_on(call).is_ok());
}

pub fn contained_spawn_async() {
    let namespace = NetNs::current().unwrap();
    let task = namespace.spawn_async(|| async { tokio::spawn(async { 1 }).await });
    println!("{:?}", smol::block_on(task));
}

/// A runtime whose threads are all inside.
pub fn contained_service() {
    let service = NetNs::current().unwrap().tokio_builder().build().unwrap();
    let task = service.block_on(async { tokio::spawn(async { 1 }).await });
    println!("{task:?}");
}

pub fn thread_in_spawn_async() {
    let namespace = NetNs::current().unwrap();
    let task = namespace.spawn_async(|| async { drop(std::thread::spawn(|| ())) });
    println!("{:?}", smol::block_on(task));
}

pub fn thread_in_call_spawn_async() {
    let task = Call::new("sample").spawn_async(|| async { drop(std::thread::spawn(|| ())) });
    drop(task);
}

pub fn thread_in_async_closure() {
    let call = with_netns_async("sample", async || drop(std::thread::spawn(|| ())));
    println!("{:?}", smol::block_on(call));
}

pub fn thread_in_task_of_service() {
    let service = NetNs::current().unwrap().tokio_builder().build().unwrap();
    drop(service.spawn(async { drop(std::thread::spawn(|| ())) }));
}

/// The body is a future that has a type of its own.
pub fn thread_in_timeout_of_service() {
    let service = NetNs::current().unwrap().tokio_builder().build().unwrap();
    let work = async { drop(std::thread::spawn(|| ())) };
    println!("{:?}", service.block_on(tokio::time::timeout(Duration::ZERO, work)));
}

pub fn thread_in_closure_of_service() {
    let service = NetNs::current().unwrap().tokio_builder().build().unwrap();
    drop(service.spawn_blocking(|| drop(std::thread::spawn(|| ()))));
}
