//! Guards that leave indirectly, that are held by others, and that are stored.

use std::fs::File;
use std::io;

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

pub(crate) fn main() {
    by_constructor_that_rolls_back();
    poll(holds());
    calls_what_leaves_by_drop();
    calls_what_leaves_by_field();
    calls_by_field();
}
