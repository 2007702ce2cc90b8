//! Bodies that start threads through a library, or give work to its threads.

use std::time::Duration;

use clokwerk::TimeUnits as _;
use in_netns::with_netns;

pub fn clokwerk_watch() {
    let done = with_netns("holdout", || {
        let mut scheduler = clokwerk::Scheduler::new();
        scheduler.every(1.hours()).run(|| ());
        drop(scheduler.watch_thread(Duration::from_secs(1)));
    });
    println!("{done:?}");
}

pub fn easy_parallel_run() {
    println!("{:?}", with_netns("holdout", || easy_parallel::Parallel::new().add(|| 1).run()));
}

pub fn futures_timer_delay() {
    let done = with_netns("holdout", || {
        futures_lite::future::block_on(futures_timer::Delay::new(Duration::from_millis(1)));
    });
    println!("{done:?}");
}

pub fn jod_thread_spawn() {
    println!("{:?}", with_netns("holdout", || jod_thread::spawn(|| 1).join()));
}

#[derive(Debug)]
struct Manager;

impl r2d2::ManageConnection for Manager {
    type Connection = u32;
    type Error = std::io::Error;

    fn connect(&self) -> std::io::Result<u32> {
        Ok(1)
    }

    fn is_valid(&self, _: &mut u32) -> std::io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u32) -> bool {
        false
    }
}

pub fn r2d2_pool() {
    println!("{:?}", with_netns("holdout", || r2d2::Pool::builder().max_size(1).build(Manager).is_ok()));
}

pub fn scheduled_pool_outside() {
    let pool = scheduled_thread_pool::ScheduledThreadPool::new(1);
    println!("{:?}", with_netns("holdout", || drop(pool.execute(|| ()))));
}

pub fn scoped_threadpool_inside() {
    let done = with_netns("holdout", || {
        scoped_threadpool::Pool::new(1).scoped(|scope| scope.execute(|| ()));
    });
    println!("{done:?}");
}

pub fn scoped_threadpool_outside() {
    let mut pool = scoped_threadpool::Pool::new(1);
    println!("{:?}", with_netns("holdout", || pool.scoped(|scope| scope.execute(|| ()))));
}

pub fn timer_schedule() {
    let done = with_netns("holdout", || {
        let timer = timer::Timer::new();
        drop(timer.schedule_with_delay(chrono_delay(), || ()));
    });
    println!("{done:?}");
}

fn chrono_delay() -> chrono::Duration {
    chrono::Duration::milliseconds(1)
}

pub fn yastl_outside() {
    let pool = yastl::Pool::new(1);
    println!("{:?}", with_netns("holdout", || pool.scoped(|scope| scope.execute(|| ()))));
}
