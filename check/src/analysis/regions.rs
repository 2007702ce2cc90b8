//! Regions: functions that move their own thread to another namespace, by `setns`, `unshare` or a guard.
//!
//! The whole function counts, from its first line: the check does not follow the order of the calls, and so does not
//! know what runs before the thread enters and after it left. A function that only enters, and returns while its thread
//! is still there (such as the constructor of a guard), is itself a way to enter: its callers are regions too.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::analysis::functions::Functions;
use crate::analysis::root::{LIBRARY, Origin, Root};
use crate::program::debug::{Debug, Passes};
use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::names;
use crate::rules::sinks::{Contained, Table};

/// How many functions may pass the entered thread on, one to the next.
const LEVELS: usize = 5;

/// Crates whose functions wrap the system call, and of which no function is a region.
const WRAPPERS: [&str; 5] = ["nix", "rustix", "libc", "std", "core"];

/// Crates that enter for the closures that they are given, in all of their functions.
pub(crate) const ADAPTERS: [&str; 3] = ["netns_rs", "nlink", "patchbay"];

const CLONE_NEWNET: u64 = 0x4000_0000;

/// The other flags of `setns(2)` and `unshare(2)` that fit no other use.
const OTHER_FLAGS: [u64; 7] = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x200];

pub(crate) struct Regions {
    pub roots: BTreeMap<String, Root>,
    /// The types that enter or leave when they are dropped, without generic arguments.
    pub guards: BTreeSet<String>,
}

/// A function that enters.
struct Candidate {
    function: Node,
    /// What it calls to enter.
    by: String,
    /// It returns while its thread is inside.
    stays: bool,
}

pub(crate) fn find<'d>(graph: &Graph<'_, 'd>, functions: &Functions, table: &Table, debug: &Debug<'d>) -> Regions {
    let mut search = Search { graph, table, debug, guards: BTreeSet::new(), met: HashSet::new() };
    let mut enters = search.system_calls();
    let mut candidates: Vec<Candidate> = Vec::new();
    for _ in 0..LEVELS {
        if enters.is_empty() {
            break;
        }
        let found = search.callers(&enters);
        enters = found.iter().filter(|candidate| candidate.stays).map(|candidate| candidate.function).collect();
        candidates.extend(found);
    }
    let mut roots = BTreeMap::new();
    for candidate in &candidates {
        for (identity, root) in search.roots(functions, candidate) {
            roots.entry(identity).or_insert(root);
        }
    }
    Regions { roots, guards: search.guards }
}

struct Search<'s, 'i, 'd> {
    graph: &'s Graph<'i, 'd>,
    table: &'s Table,
    debug: &'s Debug<'d>,
    guards: BTreeSet<String>,
    met: HashSet<Node>,
}

impl Search<'_, '_, '_> {
    fn path(&self, node: Node) -> String {
        names::path(self.graph.image.name(node))
    }

    /// The functions of the table that move the calling thread, and their wrappers.
    fn system_calls(&self) -> HashSet<Node> {
        let image = self.graph.image;
        image.functions().chain(image.imports()).filter(|node| self.table.enters(image.name(*node))).collect()
    }

    /// The functions that call one of these.
    fn callers(&mut self, enters: &HashSet<Node>) -> Vec<Candidate> {
        let mut calls: BTreeMap<Node, Vec<Node>> = BTreeMap::new();
        for (caller, edge) in self.graph.references_to(enters) {
            calls.entry(caller).or_default().push(edge.to);
        }
        // Guards first: what else a function is depends on whether it drops one.
        let paths: Vec<String> = calls.keys().map(|function| self.path(*function)).collect();
        self.guards.extend(paths.iter().filter_map(|path| names::dropped(path)).map(str::to_owned));
        let mut found = Vec::new();
        let mut wrappers = HashSet::new();
        for (function, called) in calls {
            if !self.met.insert(function) {
                continue;
            }
            let path = self.path(function);
            let krate = names::krate(&path);
            if krate == LIBRARY || self.is_of_adapter(&path) {
                continue;
            }
            if WRAPPERS.contains(&krate) && !path.starts_with('<') {
                if !enters.contains(&function) && !matches!(krate, "std" | "core") {
                    wrappers.insert(function);
                }
                continue;
            }
            if self.is_for_another_namespace(function) {
                continue;
            }
            if names::dropped(&path).is_some() || matches!(krate, "std" | "core" | "alloc") {
                continue;
            }
            let guard = |r#type: &str| self.is_guard(r#type);
            let returns_guard = self.debug.passes(self.graph.image.address(function), Passes::Result, guard);
            let stays =
                returns_guard || (called.len() == 1 && !names::is_closure(&path) && !self.drops_guard(function));
            found.push(Candidate { function, by: self.path(called[0]), stays });
        }
        if !wrappers.is_empty() {
            found.extend(self.callers(&wrappers));
        }
        found
    }

    fn is_guard(&self, r#type: &str) -> bool {
        let base = r#type.split('<').next().unwrap_or(r#type);
        self.guards.contains(base) || self.table.is_guard(base)
    }

    /// The functions of an adapter, and closures in them, enter for the closures that they are given: those are bodies.
    fn is_of_adapter(&self, path: &str) -> bool {
        let mut enclosing = path;
        loop {
            if self.table.adapter_of(enclosing).is_some() {
                return true;
            }
            match enclosing.rsplit_once("::{closure#") {
                Some((outer, _)) => enclosing = outer,
                None => return ADAPTERS.contains(&names::krate(path)),
            }
        }
    }

    /// A function that names other namespaces, and not the network's.
    fn is_for_another_namespace(&self, function: Node) -> bool {
        let constants = self.graph.constants(function);
        !constants.contains(&CLONE_NEWNET) && OTHER_FLAGS.iter().any(|flag| constants.contains(flag))
    }

    /// A guard that is dropped in a function leaves the namespace there.
    fn drops_guard(&self, function: Node) -> bool {
        let edges = self.graph.edges(function);
        edges.references.iter().any(|edge| {
            let name = self.graph.image.name(edge.to);
            name.contains("drop_in_place") && self.drops_a_guard(&names::path(name))
        })
    }

    fn drops_a_guard(&self, path: &str) -> bool {
        let Some(dropped) = path.strip_prefix("core::ptr::drop_in_place::<").and_then(|rest| rest.strip_suffix('>'))
        else {
            return false;
        };
        self.guards.iter().any(|guard| dropped.contains(guard.as_str())) || self.is_guard(dropped)
    }

    /// The bodies that a candidate stands for.
    fn roots(&self, functions: &Functions, candidate: &Candidate) -> Vec<(String, Root)> {
        let mangled = self.graph.image.name(candidate.function);
        let identity = names::identity(mangled);
        let path = self.path(candidate.function);
        let origin = Origin::Region(candidate.by.clone());
        // It enters for the closures that it is given.
        let given: Vec<(String, Node)> = names::generic_arguments(&identity)
            .into_iter()
            .filter_map(|argument| Some((argument.to_owned(), *functions.named(argument).first()?)))
            .collect();
        if !given.is_empty() && !names::is_closure(names::split(&path).0) {
            return given
                .into_iter()
                .map(|(identity, node)| {
                    let mut root = Root::of(&self.path(node), vec![node], Contained(false), origin.clone());
                    root.receivers.push(candidate.function);
                    (identity, root)
                })
                .collect();
        }
        let name = self.name(candidate.function, &path);
        let base = names::split(&identity).0.to_owned();
        let mut root = Root::of(&name, vec![candidate.function], Contained(false), origin);
        root.only_if_found = candidate.stays;
        vec![(base, root)]
    }

    /// The name of an `async fn` is the function's, not that of its future.
    fn name(&self, function: Node, path: &str) -> String {
        name_of_future(self.debug, self.graph.image.address(function), path)
    }
}

/// The path of a function; of the future of an `async fn`, the path of that function.
pub(crate) fn name_of_future(debug: &Debug<'_>, address: u64, path: &str) -> String {
    let base = names::split(path).0;
    let polls = || debug.parameters(address).first().is_some_and(|first| first.r#type.contains("{async_fn_env"));
    match base.strip_suffix("::{closure#0}") {
        Some(function) if polls() => function.to_owned(),
        _ => base.to_owned(),
    }
}
