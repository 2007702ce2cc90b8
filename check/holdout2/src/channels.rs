//! Bodies that send something over a channel or a queue.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, mpsc};

use in_netns::with_netns;

type Job = Box<dyn FnOnce() + Send>;

pub fn bus_broadcast() {
    let mut bus = bus::Bus::<Arc<dyn Fn() + Send + Sync>>::new(1);
    println!("{:?}", with_netns("holdout", || bus.broadcast(Arc::new(|| ()))));
}

pub fn concurrent_queue_push() {
    let queue = concurrent_queue::ConcurrentQueue::<Job>::unbounded();
    println!("{:?}", with_netns("holdout", || queue.push(Box::new(|| ())).is_ok()));
}

pub fn crossbeam_injector() {
    let injector = crossbeam_deque::Injector::<Job>::new();
    println!("{:?}", with_netns("holdout", || injector.push(Box::new(|| ()))));
}

pub fn crossbeam_queue_push() {
    let queue = crossbeam_queue::SegQueue::<Job>::new();
    println!("{:?}", with_netns("holdout", || queue.push(Box::new(|| ()))));
}

struct Pool {
    jobs: Mutex<VecDeque<Job>>,
    ready: Condvar,
}

impl Pool {
    fn execute(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.lock().unwrap().push_back(Box::new(job));
        self.ready.notify_one();
    }
}

pub fn home_made_pool() {
    let pool = Pool { jobs: Mutex::default(), ready: Condvar::new() };
    println!("{:?}", with_netns("holdout", || pool.execute(|| ())));
}

pub fn loole_closure() {
    let (sender, receiver) = loole::unbounded::<Job>();
    println!("{:?}", with_netns("holdout", || sender.send(Box::new(|| ())).is_ok()));
    drop(receiver);
}

pub fn loole_numbers() {
    let (sender, receiver) = loole::unbounded::<u32>();
    println!("{:?}", with_netns("holdout", || sender.send(1).is_ok()));
    drop(receiver);
}

pub fn oneshot_closure() {
    let (sender, receiver) = oneshot::channel::<Job>();
    println!("{:?}", with_netns("holdout", || sender.send(Box::new(|| ())).is_ok()));
    drop(receiver);
}

pub fn oneshot_number() {
    let (sender, receiver) = oneshot::channel::<u32>();
    println!("{:?}", with_netns("holdout", || sender.send(1).is_ok()));
    drop(receiver);
}

pub fn rtrb_closure() {
    let (mut producer, consumer) = rtrb::RingBuffer::<Job>::new(1);
    println!("{:?}", with_netns("holdout", || producer.push(Box::new(|| ())).is_ok()));
    drop(consumer);
}

pub fn shared_closure() {
    let (sender, receiver) = mpsc::channel::<Arc<dyn Fn() + Send + Sync>>();
    println!("{:?}", with_netns("holdout", || sender.send(Arc::new(|| ())).is_ok()));
    drop(receiver);
}

pub fn broadcast_closure() {
    let (sender, receiver) = async_broadcast::broadcast::<Arc<dyn Fn() + Send + Sync>>(1);
    println!("{:?}", with_netns("holdout", || sender.try_broadcast(Arc::new(|| ())).is_ok()));
    drop(receiver);
}
