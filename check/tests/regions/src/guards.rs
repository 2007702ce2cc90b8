//! Guards that leave indirectly, that are held by others, and that are stored.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use crate::futures::poll;
use crate::{enter, open, spawns};

struct Inside(File);

impl Inside {
    fn new() -> io::Result<Self> {
        let home = open("b");
        enter(&open("a"))?;
        if let Err(error) = File::open("c") {
            enter(&home)?;
            return Err(error);
        }
        Ok(Self(home))
    }

    /// Where it does not enter, it drops the guard.
    fn made_first() -> io::Result<Self> {
        let inside = Self(open("b"));
        enter(&open("a"))?;
        Ok(inside)
    }

    fn leave(&self) {
        enter(&self.0).unwrap();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.leave();
    }
}

fn by_constructor_that_rolls_back() {
    let _inside = Inside::new().unwrap();
    spawns();
}

fn by_guard_made_first() {
    let _inside = Inside::made_first().unwrap();
    spawns();
}

struct Namespace;

impl Namespace {
    fn guard(&self) -> Inside {
        let inside = Inside(open("b"));
        enter(&open("a")).unwrap();
        inside
    }
}

fn by_method_that_gives_a_guard() {
    let _inside = Namespace.guard();
    spawns();
}

async fn holds() {
    let _inside = Inside::new().unwrap();
    std::future::pending::<()>().await;
}

struct Home(File);

impl Home {
    fn leave(&self) {
        enter(&self.0).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.leave();
    }
}

fn leaves_by_drop() {
    let _home = Home(open("b"));
    enter(&open("a")).unwrap();
}

fn calls_what_leaves_by_drop() {
    leaves_by_drop();
    spawns();
}

struct Session {
    inside: Inside,
    number: u32,
}

fn leaves_by_field() {
    let session = Session { inside: Inside::new().unwrap(), number: 1 };
    println!("{} {:?}", session.number, session.inside.0);
}

fn calls_what_leaves_by_field() {
    leaves_by_field();
    spawns();
}

struct Pod {
    inside: Option<Inside>,
}

impl Pod {
    fn begin(&mut self) {
        self.inside = Some(Inside::new().unwrap());
    }

    fn end(&mut self) {
        self.inside = None;
    }
}

fn by_field() {
    let mut pod = Pod { inside: None };
    pod.begin();
    spawns();
    pod.end();
}

fn calls_by_field() {
    by_field();
    spawns();
}

struct Shared {
    inside: Mutex<Option<Inside>>,
    last: Option<Inside>,
}

impl Shared {
    fn begin(&self) {
        *self.inside.lock().unwrap() = Inside::new().ok();
    }

    fn begin_of_shared(self: &Arc<Self>) {
        *self.inside.lock().unwrap() = Inside::new().ok();
    }

    /// It stores nothing: a field that is behind a reference stays as it is.
    fn visit(last: &Option<Inside>) {
        let inside = Inside::new().unwrap();
        println!("{} {}", last.is_some(), inside.0.metadata().is_ok());
    }
}

fn by_mutex(shared: &Shared) {
    shared.begin();
    spawns();
}

fn by_shared_mutex(shared: &Arc<Shared>) {
    shared.begin_of_shared();
    spawns();
}

fn calls_what_stores_nothing(shared: &Shared) {
    Shared::visit(&shared.last);
    spawns();
}

fn begin_of_cell(number: u32, inside: &RefCell<Option<Inside>>) {
    println!("{number}");
    *inside.borrow_mut() = Inside::new().ok();
}

fn by_cell() {
    let inside = RefCell::new(None);
    begin_of_cell(1, &inside);
    spawns();
}

fn fill(number: u32, inside: &mut Option<Inside>) {
    println!("{number}");
    *inside = Inside::new().ok();
}

fn by_second_parameter() {
    let mut inside = None;
    fill(1, &mut inside);
    spawns();
}

static CURRENT: Mutex<Option<Inside>> = Mutex::new(None);

fn begin_current() {
    *CURRENT.lock().unwrap() = Inside::new().ok();
}

fn by_static() {
    begin_current();
    spawns();
}

pub(crate) fn main() {
    let shared = Arc::new(Shared { inside: Mutex::new(None), last: None });
    by_mutex(&shared);
    by_shared_mutex(&shared);
    calls_what_stores_nothing(&shared);
    by_cell();
    by_second_parameter();
    by_static();
    by_constructor_that_rolls_back();
    by_guard_made_first();
    by_method_that_gives_a_guard();
    poll(holds());
    calls_what_leaves_by_drop();
    calls_what_leaves_by_field();
    calls_by_field();
}
