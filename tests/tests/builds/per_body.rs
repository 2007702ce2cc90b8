//! The functions of the library that are compiled again for each body of a program.
//!
//! A closure in a generic function is generic too, and so is each function that takes it. One closure can thus have the
//! code of a whole call compiled for each body, which doubles the time that crates of users take to compile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use in_netns::{Call, Error, NetNs, in_netns, with_netns, with_netns_async};
use object::{Object, ObjectSymbol, SymbolKind};

/// More than there are other types for which most functions of the library are compiled.
const BODIES: usize = 32;

/// These functions move the body and its value, and are short. What a new function has to do for all bodies alike
/// belongs into a function that is not generic over the body.
const FOR_EACH_BODY: [&str; 27] = [
    "<core::mem::manually_drop::ManuallyDrop as in_netns::thread::rendezvous::RunInPlace>::run",
    "<in_netns::async_call::body::Parts as in_netns::async_call::body::Steps>::drop_body",
    "<in_netns::async_call::body::Parts as in_netns::async_call::body::Steps>::drop_value",
    "<in_netns::async_call::body::Parts as in_netns::async_call::body::Steps>::make",
    "<in_netns::async_call::body::Parts as in_netns::async_call::body::Steps>::poll",
    "<in_netns::call::session::PooledJob as in_netns::thread::rendezvous::Job>::run",
    "<in_netns::call::session::SyncBody as in_netns::call::session::RunBody>::run",
    "<in_netns::call::session::SyncBody as in_netns::call::session::RunBody>::run_on",
    "in_netns::__private::call",
    "in_netns::__private::call_async",
    "in_netns::__private::make",
    "in_netns::async_call::body::GivenBody::new",
    "in_netns::async_call::with_netns_async",
    "in_netns::call::Call::execute",
    "in_netns::call::Call::run",
    "in_netns::call::Call::run_with_strays",
    "in_netns::call::execute",
    "in_netns::call::session::PooledCall::run_with",
    "in_netns::call::session::SyncBody::into_result",
    "in_netns::call::with_netns",
    "in_netns::sync::UnsafeCell::with_mut",
    "in_netns::sys::process_local::in_one_process",
    "in_netns::thread::pool::Lease::run_job",
    "in_netns::thread::rendezvous::Caller::run_in_place",
    "in_netns::thread::rendezvous::Caller::run_job",
    "in_netns::unwind::catch",
    "in_netns::unwind::contain",
];

fn call<const BODY: usize>(ns: &NetNs) -> usize {
    with_netns(ns, || BODY).unwrap()
}

fn fresh<const BODY: usize>(ns: &NetNs) -> usize {
    Call::new(ns).fresh().run(|| BODY).unwrap()
}

#[in_netns(ns)]
fn function<const BODY: usize>(ns: &NetNs) -> Result<usize, Error> {
    Ok(BODY)
}

async fn call_async<const BODY: usize>(ns: &NetNs) -> usize {
    with_netns_async(ns, async || BODY).await.unwrap()
}

#[in_netns(ns)]
async fn async_function<const BODY: usize>(ns: &NetNs) -> Result<usize, Error> {
    Ok(BODY)
}

async fn each_way<const BODY: usize>(ns: &NetNs) {
    let values = [call::<BODY>(ns), fresh::<BODY>(ns), function::<BODY>(ns).unwrap()];
    let asynchronous = [call_async::<BODY>(ns).await, async_function::<BODY>(ns).await.unwrap()];
    assert!(values.into_iter().chain(asynchronous).all(|value| value == BODY));
}

macro_rules! bodies {
    ($ns:expr, $($body:literal)*) => { $(each_way::<$body>($ns).await;)* };
}

/// The path of a function of the library, without the types that it is compiled for, and without its closures. Both
/// ways in which the compiler may form symbols give the same path.
fn path(symbol: &str) -> Option<String> {
    let full = format!("{:#}", rustc_demangle::demangle(symbol));
    // These functions of the standard library have a closure of the library as their type.
    if !full.contains("in_netns::") || full.contains("} as core::") {
        return None;
    }
    let (mut path, mut depth, mut previous) = (String::new(), 0, ' ');
    for c in full.replace("->", "").chars() {
        match c {
            '<' if depth > 0 || previous.is_alphanumeric() || previous == ':' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => path.push(c),
            _ => {}
        }
        previous = c;
    }
    if !path.contains(" as ") {
        path.retain(|c| c != '<' && c != '>');
    }
    let segments = path.split("::").filter(|segment| !segment.is_empty() && !segment.starts_with('{'));
    let path = segments.collect::<Vec<_>>().join("::");
    path.contains("in_netns::").then_some(path)
}

#[tokio::test]
async fn what_is_compiled_for_each_body_is_listed() {
    let ns = NetNs::new().unwrap();
    bodies!(&ns, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

    let program = fs::read("/proc/self/exe").unwrap();
    let program = object::File::parse(&*program).unwrap();
    let symbols = program.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    let functions: BTreeSet<&str> = symbols.filter_map(|symbol| symbol.name().ok()).collect();
    let mut instances = BTreeMap::<_, usize>::new();
    for path in functions.into_iter().filter_map(path) {
        *instances.entry(path).or_default() += 1;
    }
    instances.retain(|_, number| *number >= BODIES);
    let compiled: BTreeSet<_> = instances.keys().map(String::as_str).collect();
    let expected = BTreeSet::from(FOR_EACH_BODY);
    let more: Vec<_> = compiled.difference(&expected).collect();
    assert!(more.is_empty(), "these are compiled for each body too: {more:#?}");
    // An optimised program has most of them within others.
    if cfg!(debug_assertions) {
        let fewer: Vec<_> = expected.difference(&compiled).collect();
        assert!(fewer.is_empty(), "these are not compiled for each body: {fewer:#?}");
    }
}
