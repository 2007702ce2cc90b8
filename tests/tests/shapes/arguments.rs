//! Function arguments: patterns, attributes, and where arguments are dropped.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, ThreadId};

use in_netns::{NetNs, in_netns};

use super::Caller;

#[test]
fn mutable_arguments_are_moved_in() {
    #[in_netns(new)]
    fn f(caller: Caller, mut list: Vec<u8>, mut count: usize) -> (Vec<u8>, usize) {
        caller.is_elsewhere();
        list.push(3);
        count += list.len();
        (list, count)
    }
    assert_eq!(f(Caller::here(), vec![1], 1), (vec![1, 3], 3));
}

#[test]
fn an_argument_is_reassigned() {
    #[in_netns(new)]
    fn f(caller: Caller, mut text: &str) -> &str {
        caller.is_elsewhere();
        if text.is_empty() {
            text = "default";
        }
        text
    }
    assert_eq!(f(Caller::here(), ""), "default");
    assert_eq!(f(Caller::here(), "x"), "x");
}

#[test]
fn patterns_are_bound() {
    struct Point {
        x: u8,
        y: u8,
    }
    #[in_netns(new)]
    fn f(
        caller: Caller,
        (a, mut b): (u8, u8),
        Point { x, y: renamed }: Point,
        [first, .., last]: [u8; 4],
        &(c, ref d): &(u8, String),
        whole @ Point { .. }: Point,
    ) -> String {
        caller.is_elsewhere();
        b += 1;
        format!("{a} {b} {x} {renamed} {first} {last} {c} {d} {}", whole.x + whole.y)
    }
    let text =
        f(Caller::here(), (1, 1), Point { x: 3, y: 4 }, [5, 0, 0, 6], &(7, "8".to_owned()), Point { x: 4, y: 5 });
    assert_eq!(text, "1 2 3 4 5 6 7 8 9");
}

#[test]
#[allow(clippy::toplevel_ref_arg)]
fn a_pattern_binds_by_mutable_reference() {
    #[in_netns(new)]
    fn f(caller: Caller, ref mut list: Vec<u8>, (ref mut text, n): (String, u8), [.., ref mut end]: [u8; 3]) -> String {
        caller.is_elsewhere();
        list.push(n);
        text.push('b');
        *end += 1;
        format!("{list:?} {text} {end}")
    }
    assert_eq!(f(Caller::here(), vec![], ("a".to_owned(), 1), [1, 2, 3]), "[1] ab 4");
}

#[test]
#[allow(clippy::toplevel_ref_arg)]
fn the_namespace_may_be_bound_by_reference() {
    #[in_netns(ns)]
    async fn f(ref ns: NetNs, ref mut list: Vec<u8>) -> (bool, usize) {
        list.push(1);
        (ns.is_current().unwrap(), list.len())
    }
    assert_eq!(futures::executor::block_on(f(NetNs::new().unwrap(), vec![])), (true, 1));
}

#[test]
fn a_pattern_binds_through_a_reference() {
    #[in_netns(new)]
    fn f(caller: Caller, (text, list): &mut (String, Vec<u8>)) -> usize {
        caller.is_elsewhere();
        text.push('b');
        list.push(1);
        text.len() + list.len()
    }
    let mut pair = ("a".to_owned(), vec![]);
    assert_eq!(f(Caller::here(), &mut pair), 3);
    assert_eq!(pair, ("ab".to_owned(), vec![1]));
}

#[test]
fn unnamed_arguments_are_accepted() {
    #[in_netns(new)]
    fn f(caller: Caller, _: u8, _: &str, _: Vec<u8>) {
        caller.is_elsewhere();
    }
    f(Caller::here(), 1, "two", vec![3]);
}

#[test]
fn underscored_arguments_are_accepted() {
    #[in_netns(new)]
    fn f(caller: Caller, _first: u8, _: u8, _third: String) {
        caller.is_elsewhere();
    }
    f(Caller::here(), 1, 2, "three".to_owned());
}

#[test]
fn configured_out_arguments_are_absent() {
    #[in_netns(new)]
    fn f(
        caller: Caller,
        #[cfg(any())] absent: Absent,
        #[cfg(any())] (never, there): Absent,
        #[cfg(unix)] present: u8,
        #[cfg(unix)] (left, _): (u8, u8),
    ) -> u8 {
        caller.is_elsewhere();
        present + left
    }
    assert_eq!(f(Caller::here(), 1, (2, 3)), 3);
}

#[test]
fn lint_attributes_are_kept() {
    #[deny(unused_variables, non_snake_case)]
    #[in_netns(new)]
    fn f(
        caller: Caller,
        #[allow(unused_variables)] unused: u8,
        #[expect(unused_variables)] expected: u8,
        #[allow(non_snake_case)] camelCase: u8,
    ) -> u8 {
        caller.is_elsewhere();
        camelCase
    }
    assert_eq!(f(Caller::here(), 1, 2, 3), 3);
}

#[test]
fn many_arguments_are_passed() {
    #[in_netns(new)]
    #[allow(clippy::too_many_arguments, clippy::many_single_char_names)]
    fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8) -> u8 {
        a + b + c + d + e + f + g + h + i + j + k + l + m
    }
    assert_eq!(f(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), 13);
}

#[test]
fn arguments_may_be_named_like_what_the_expansion_uses() {
    #[allow(non_snake_case, clippy::too_many_arguments)]
    #[in_netns(ns)]
    fn f(ns: &NetNs, body: u8, options: u8, arg0: u8, _: u8, arg4: u8, R: u8, core: u8, argument: u8) -> u8 {
        let in_netns = 1;
        let _ = ns;
        body + options + arg0 + arg4 + R + core + argument + in_netns
    }
    let ns = NetNs::new().unwrap();
    assert_eq!(f(&ns, 1, 2, 4, 0, 8, 16, 32, 64), 128);
}

#[test]
fn arguments_with_two_underscores_are_not_taken_for_those_of_the_expansion() {
    #[in_netns(new)]
    fn f(__ns: u8, (left, _): (u8, u8), __arg1: u8, mut __outcome: u8, __body: u8) -> Option<u8> {
        __outcome += __ns;
        Some(__outcome + left + __arg1 + __body)
    }
    assert_eq!(f(1, (2, 0), 4, 8, 16), Some(31));
}

#[test]
fn raw_names_are_accepted() {
    #[in_netns(new)]
    fn r#type(r#fn: u8, mut r#mod: u8, (r#use, _): (u8, u8)) -> u8 {
        r#mod += r#fn;
        r#mod + r#use
    }
    assert_eq!(r#type(1, 2, (4, 0)), 7);
}

#[test]
fn borrowed_arguments_are_written_through() {
    #[in_netns(new)]
    fn f(caller: Caller, count: &mut u32, shared: &Mutex<u32>) {
        caller.is_elsewhere();
        *count += 1;
        *shared.lock().unwrap() += 1;
    }
    let mut count = 1;
    let shared = Mutex::new(1);
    f(Caller::here(), &mut count, &shared);
    assert_eq!((count, shared.into_inner().unwrap()), (2, 2));
}

/// Records the name and the thread of its drop.
struct Dropped(&'static str, Sender<(&'static str, ThreadId)>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let Self(name, sender) = self;
        sender.send((name, thread::current().id())).unwrap();
    }
}

#[allow(dead_code)]
struct Pair {
    used: Dropped,
    rest: Dropped,
}

impl Pair {
    fn new(used: &'static str, rest: &'static str, sender: &Sender<(&'static str, ThreadId)>) -> Self {
        Self { used: Dropped(used, sender.clone()), rest: Dropped(rest, sender.clone()) }
    }
}

#[test]
fn arguments_are_dropped_inside_in_the_order_of_a_function() {
    #[allow(unused_variables, clippy::needless_pass_by_value)]
    fn plain(a: Dropped, _: Dropped, pair: Pair, Pair { used, .. }: Pair, mut z: Dropped) {
        let local = Dropped("local", a.1.clone());
        let _ = (pair.used.0, &used);
        z.0 = "last";
    }
    #[allow(unused_variables)]
    #[in_netns(new)]
    fn inside(a: Dropped, _: Dropped, pair: Pair, Pair { used, .. }: Pair, mut z: Dropped) {
        let local = Dropped("local", a.1.clone());
        let _ = (pair.used.0, &used);
        z.0 = "last";
    }

    let drops = |f: fn(Dropped, Dropped, Pair, Pair, Dropped)| {
        let (sender, drops) = channel();
        let one = |name| Dropped(name, sender.clone());
        f(
            one("first"),
            one("unnamed"),
            Pair::new("used", "rest", &sender),
            Pair::new("bound", "unbound", &sender),
            one("z"),
        );
        drop(sender);
        drops.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (expected, here) = drops(plain);
    let (names, threads) = drops(inside);

    assert_eq!(names, expected);
    assert_eq!(names.len(), 8);
    let caller = thread::current().id();
    assert!(here.iter().all(|thread| *thread == caller));
    assert!(threads.iter().all(|thread| *thread != caller));
}

#[test]
fn an_argument_that_the_namespace_borrows_is_dropped_inside() {
    struct Pod {
        ns: NetNs,
        dropped: Dropped,
    }
    #[in_netns(&pod.ns)]
    fn f(pod: Pod) -> bool {
        pod.ns == pod.ns
    }
    let (sender, drops) = channel();
    let pod = Pod { ns: NetNs::new().unwrap(), dropped: Dropped("pod", sender) };
    let _ = &pod.dropped;
    assert!(f(pod));
    Caller(drops.recv().unwrap().1).is_elsewhere();
}

impl Pair {
    #[in_netns(new)]
    fn part_of(self) -> &'static str {
        self.used.0
    }

    #[in_netns(new)]
    #[allow(clippy::unused_self)]
    fn nothing_of(self) {}

    #[in_netns(new)]
    #[allow(clippy::boxed_local)]
    fn part_of_box(self: Box<Self>) -> &'static str {
        self.used.0
    }
}

#[test]
fn self_by_value_is_dropped_inside_as_a_whole() {
    let (sender, drops) = channel();
    assert_eq!(Pair::new("a", "b", &sender).part_of(), "a");
    Pair::new("c", "d", &sender).nothing_of();
    assert_eq!(Box::new(Pair::new("e", "f", &sender)).part_of_box(), "e");
    drop(sender);
    let (names, threads): (Vec<_>, Vec<_>) = drops.into_iter().unzip();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    assert!(!threads.contains(&thread::current().id()));
}
