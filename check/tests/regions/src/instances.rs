//! One generic function, for several types.

use crate::{enter, open, spawns};

trait Job {
    fn run(&self);
}

impl Job for u8 {
    fn run(&self) {}
}

impl Job for String {
    fn run(&self) {
        spawns();
    }
}

impl Job for Box<u8> {
    fn run(&self) {}
}

fn spawns_for_one_type<J: Job>(job: J) {
    enter(&open("a")).unwrap();
    job.run();
    enter(&open("b")).unwrap();
}

fn spawns_for_the_other_type<J: Job>(job: J) {
    enter(&open("a")).unwrap();
    job.run();
    enter(&open("b")).unwrap();
}

pub(crate) fn main() {
    spawns_for_one_type(1);
    spawns_for_one_type(String::new());
    spawns_for_the_other_type(String::new());
    spawns_for_the_other_type(Box::new(1));
}
