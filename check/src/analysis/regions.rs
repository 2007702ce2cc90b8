//! Regions: functions that move their own thread to another namespace, by `setns`, `unshare` or a guard.
//!
//! The whole function counts, from its first line: the check does not follow the order of the calls, so it does not
//! know what runs before the thread enters and after it has left. A function that only enters, and returns while its
//! thread is still there (such as the constructor of a guard), makes its callers regions too.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;

use crate::analysis::functions::Functions;
use crate::analysis::order::{Constant, Order};
use crate::analysis::root::{LIBRARY, Origin, Root};
use crate::program::debug::{Debug, Passes};
use crate::program::graph::{Edge, Graph};
use crate::program::image::Node;
use crate::program::names;
use crate::rules::known::Contained;
use crate::rules::sinks::Table;

/// The most functions in a row that may return with the thread inside.
const LEVELS: usize = 5;

/// The most repetitions of the search: which functions leave depends on the guards and on what they call, and both
/// depend on which functions leave.
const ROUNDS: usize = 4;

/// Crates whose functions wrap the system call, and of which no function is a region.
const WRAPPERS: [&str; 3] = ["nix", "rustix", "libc"];

/// The standard library, whose functions run what they are given on the calling thread, except those of `ELSEWHERE`.
const STANDARD: [&str; 3] = ["std", "core", "alloc"];

/// Functions of the standard library that run what they are given on another thread or in another process.
const ELSEWHERE: [&str; 5] = ["std::thread::", "<std::thread::", "std::rt::", "std::sys::", "std::process::"];

/// Crates all of whose functions enter for the closures that they are given.
pub(crate) const ADAPTERS: [&str; 3] = ["netns_rs", "nlink", "patchbay"];

const CLONE_NEWNET: u64 = 0x4000_0000;

/// The other flags of `setns(2)` and `unshare(2)` that name a kind of namespace, or what else is unshared.
const OTHER_FLAGS: u64 = 0x2_0000 | 0x200_0000 | 0x400_0000 | 0x800_0000 | 0x1000_0000 | 0x2000_0000 | 0x200;

/// Other flags that occur together with those.
const MORE_FLAGS: u64 = 0x80 | 0x400 | 0x4_0000;

/// Types whose functions combine flags.
const FLAGS: [&str; 4] = ["CloneFlags", "UnshareFlags", "NameSpaceType", "NamespaceType"];

pub(crate) struct Regions {
    pub roots: BTreeMap<String, Root>,
    /// The types that enter or leave when they are dropped, without generic arguments.
    pub guards: BTreeSet<String>,
    /// The methods `drop` that do so by a closure that their type holds: only some instances of such a type are guards.
    pub closing: HashSet<Node>,
}

/// A function that enters.
struct Candidate {
    function: Node,
    /// The function that it calls to enter.
    by: String,
    /// It returns while its thread is inside.
    stays: bool,
    /// The address where it polls what it awaits while its thread is inside.
    waits: Option<u64>,
}

pub(crate) fn find<'d>(graph: &Graph<'_, 'd>, functions: &Functions, table: &Table, debug: &Debug<'d>) -> Regions {
    let mut search = Search { graph, table, debug, callers: HashMap::new(), round: Round::default() };
    let mut candidates = Vec::new();
    for _ in 0..ROUNDS {
        let before = mem::take(&mut search.round);
        search.round.guards.clone_from(&before.found);
        search.round.closing.clone_from(&before.closing);
        search.round.entering_before.clone_from(&before.entering);
        candidates = search.candidates();
        let same = search.round.found == before.found && search.round.closing == before.closing;
        if same && search.round.entering == before.entering {
            break;
        }
    }
    let mut roots = BTreeMap::<String, Root>::new();
    for candidate in &candidates {
        for (identity, root) in search.roots(functions, candidate) {
            match roots.get_mut(&identity) {
                Some(other) => other.merge(root),
                None => drop(roots.insert(identity, root)),
            }
        }
    }
    Regions { roots, guards: search.round.found, closing: search.round.closing.into_keys().collect() }
}

struct Search<'s, 'i, 'd> {
    graph: &'s Graph<'i, 'd>,
    table: &'s Table,
    debug: &'s Debug<'d>,
    /// The references to each function that was looked up.
    callers: HashMap<Node, Vec<(Node, Edge)>>,
    round: Round,
}

/// What one round of the search has found.
#[derive(Default)]
struct Round {
    /// The guards of the previous round.
    guards: BTreeSet<String>,
    /// The guards of this round.
    found: BTreeSet<String>,
    /// The methods `drop` that enter by a closure that their type holds, each with that type. They include those of the
    /// previous round.
    closing: BTreeMap<Node, Option<String>>,
    met: HashSet<Node>,
    /// The functions that move the thread of their caller.
    entering: HashSet<Node>,
    /// The same, as the previous round found them.
    entering_before: HashSet<Node>,
    /// Functions for which the kind of namespace is unknown: their callers may name it.
    of_any_kind: HashSet<Node>,
    /// Functions of the standard library that call what they are given, with the functions that they are given.
    through: HashMap<Node, Vec<Node>>,
    /// Closures and futures whose callers are regions.
    passed_on: HashSet<Node>,
    /// The statics that have a place for a guard.
    statics: OnceCell<HashSet<Node>>,
}

impl Search<'_, '_, '_> {
    fn path(&self, node: Node) -> String {
        names::path(self.graph.image.name(node))
    }

    fn candidates(&mut self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut enters = self.system_calls();
        self.round.of_any_kind.clone_from(&enters);
        for _ in 0..LEVELS {
            if enters.is_empty() {
                break;
            }
            self.round.entering.extend(&enters);
            let found = self.callers(&enters);
            enters = found.iter().filter(|candidate| candidate.stays).map(|candidate| candidate.function).collect();
            candidates.extend(found);
        }
        candidates
    }

    /// The functions of the table that move the calling thread, and their wrappers.
    fn system_calls(&self) -> HashSet<Node> {
        let image = self.graph.image;
        image.functions().chain(image.imports()).filter(|node| self.table.enters(image.name(*node))).collect()
    }

    fn references_to(&mut self, targets: &HashSet<Node>) -> BTreeMap<Node, Vec<Edge>> {
        let new: HashSet<Node> = targets.iter().copied().filter(|target| !self.callers.contains_key(target)).collect();
        if !new.is_empty() {
            self.callers.extend(new.iter().map(|target| (*target, Vec::new())));
            for (caller, edge) in self.graph.references_to(&new) {
                self.callers.entry(edge.to).or_default().push((caller, edge));
            }
        }
        let mut references: BTreeMap<Node, Vec<Edge>> = BTreeMap::new();
        for (caller, edge) in targets.iter().flat_map(|target| &self.callers[target]) {
            references.entry(*caller).or_default().push(*edge);
        }
        for edges in references.values_mut() {
            edges.sort_by_key(|edge| edge.at);
        }
        references
    }

    /// The functions that call one of these.
    fn callers(&mut self, enters: &HashSet<Node>) -> Vec<Candidate> {
        let mut callers = Vec::new();
        let mut wrappers = HashSet::new();
        for (function, mut calls) in self.references_to(enters) {
            let mangled = self.graph.image.name(function);
            // The callers of `main` and of tests are no code of the user.
            if matches!(mangled, "main" | "_start") || self.runs_test(function) {
                continue;
            }
            let path = names::path(mangled);
            let owner = names::owner(mangled, &path);
            if STANDARD.contains(&owner) {
                if !runs_elsewhere(&path) && names::dropped(&path).is_none() && self.round.met.insert(function) {
                    let given = calls.iter().map(|edge| edge.to).collect();
                    self.round.through.insert(function, given);
                    wrappers.insert(function);
                }
                continue;
            }
            if WRAPPERS.contains(&owner) {
                if !enters.contains(&function) && self.round.met.insert(function) {
                    self.round.of_any_kind.insert(function);
                    wrappers.insert(function);
                }
                continue;
            }
            if names::dropped(&path).is_some() && calls.iter().all(|edge| self.is_argument(edge.to, &path)) {
                let r#type = self.debug.receiver(self.graph.image.address(function));
                self.round.closing.insert(function, r#type);
                for edge in &calls {
                    self.note_passed_on(edge.to);
                }
                continue;
            }
            // A function of a library may run what it is given anywhere, such as on a thread of a pool.
            calls.retain(|edge| !self.is_given(edge.to, &path, owner));
            if calls.is_empty() || !self.round.met.insert(function) {
                continue;
            }
            if self.is_for_another_namespace(function, &calls) {
                continue;
            }
            callers.push((function, path, calls));
        }
        // Guards come first: whether a function stays inside depends on the guards that it drops.
        self.round.found.extend(callers.iter().filter_map(|(_, path, _)| names::dropped(path)).map(str::to_owned));
        let mut found = Vec::new();
        for (function, path, calls) in callers {
            let owner = names::owner(self.graph.image.name(function), &path);
            if owner == LIBRARY || self.is_of_adapter(&path, owner) || names::dropped(&path).is_some() {
                continue;
            }
            let stays = self.stays(function, &calls);
            let by = self.note_passed_on(calls[0].to);
            for edge in &calls[1..] {
                self.note_passed_on(edge.to);
            }
            let waits = self.waits(function, &calls);
            found.push(Candidate { function, by: self.path(by), stays, waits });
        }
        if !wrappers.is_empty() {
            self.round.entering.extend(&wrappers);
            found.extend(self.callers(&wrappers));
        }
        found
    }

    fn runs_test(&self, function: Node) -> bool {
        let edges = self.graph.edges(function);
        edges.references.iter().any(|edge| self.graph.image.name(edge.to).contains("assert_test_result"))
    }

    /// Whether a function of another crate has this one among its generic arguments.
    fn is_given(&self, callee: Node, path: &str, owner: &str) -> bool {
        let mangled = self.graph.image.name(callee);
        names::owner(mangled, &names::path(mangled)) != owner && self.is_argument(callee, path)
    }

    /// Whether the path of a function has this function among its generic arguments.
    fn is_argument(&self, callee: Node, path: &str) -> bool {
        let mangled = self.graph.image.name(callee);
        let given = names::path(mangled);
        let is_argument = |at: usize| path[..at].ends_with(['<', ' ', '(', '[', '&']);
        mangled.starts_with("_R") && path.match_indices(names::split(&given).0).any(|(at, _)| is_argument(at))
    }

    /// Records the closures that a call leads to. Returns the first function that is not of the standard library.
    fn note_passed_on(&mut self, called: Node) -> Node {
        let mut open = vec![called];
        let mut first = None;
        let mut met = HashSet::new();
        while let Some(node) = open.pop() {
            match self.round.through.get(&node) {
                Some(given) if met.insert(node) => open.extend(given),
                Some(_) => {}
                None => {
                    first.get_or_insert(node);
                    self.round.passed_on.insert(node);
                }
            }
        }
        first.unwrap_or(called)
    }

    /// Whether a function returns while its thread is inside.
    fn stays(&mut self, function: Node, calls: &[Edge]) -> bool {
        let address = self.graph.image.address(function);
        if self.debug.passes(address, Passes::Result, |r#type: &str| self.is_guard(r#type)) {
            return true;
        }
        // The functions that entered in the previous round count too, because this round may not have found them yet.
        let edges = self.graph.edges(function);
        let others = edges.references.iter().filter(|edge| edge.call && self.round.entering_before.contains(&edge.to));
        let enters: HashSet<u64> = calls.iter().chain(others).map(|edge| edge.at).collect();
        if enters.len() > 1 {
            let order = Order::of(self.graph, function);
            let certain = edges.references.iter().filter(|edge| enters.contains(&edge.at)).all(|edge| {
                let is_network = |constant: Constant| are_flags(constant.value) && constant.value & CLONE_NEWNET != 0;
                !self.round.of_any_kind.contains(&edge.to)
                    || order.constants_before(edge.at).into_iter().any(is_network)
            });
            if !order.returns_inside(self.graph, function, &enters, certain) {
                return false;
            }
        }
        !self.drops_guard(function) || self.has_place_for_guard(function)
    }

    /// The address where a future polls what it awaits while its thread is inside because of a call, not of a guard.
    fn waits(&self, function: Node, calls: &[Edge]) -> Option<u64> {
        let image = self.graph.image;
        if !self.debug.polls(image.address(function)) {
            return None;
        }
        let by_hand = |edge: &&Edge| {
            let gives = self.debug.passes(image.address(edge.to), Passes::Result, |r#type: &str| self.is_guard(r#type));
            edge.call && !gives && !self.has_place_for_guard(edge.to)
        };
        let enters: HashSet<u64> = calls.iter().filter(by_hand).map(|edge| edge.at).collect();
        if enters.is_empty() {
            return None;
        }
        let (mut leaves, mut polls) = (enters.clone(), HashSet::new());
        leaves.extend(calls.iter().map(|edge| edge.at));
        for edge in self.graph.edges(function).references.iter().filter(|edge| edge.call) {
            let mangled = self.graph.image.name(edge.to);
            if self.round.entering_before.contains(&edge.to) || mangled.contains("drop") && self.drops_guard(edge.to) {
                leaves.insert(edge.at);
            } else if self.debug.polls(image.address(edge.to)) || is_poll(&names::path(mangled)) {
                polls.insert(edge.at);
            }
        }
        Order::of(self.graph, function).waits_inside(&enters, &leaves, &polls)
    }

    /// Whether a function is given a place for a guard, or refers to a static that has one. The guard that it drops may
    /// be the previous value there.
    fn has_place_for_guard(&self, function: Node) -> bool {
        let image = self.graph.image;
        let is_guard = |r#type: &str| self.is_guard(r#type);
        if self.debug.is_given_place(image.address(function), is_guard) {
            return true;
        }
        let statics = self.round.statics.get_or_init(|| {
            let closing = self.round.closing.values().flatten().map(|r#type| names::split(r#type).0);
            let types = self.round.guards.iter().chain(&self.round.found).map(String::as_str);
            let types: Vec<&str> = types.chain(closing).collect();
            self.debug.statics_holding(&types, is_guard).into_iter().filter_map(|at| image.node_at(at)).collect()
        });
        self.graph.edges(function).references.iter().any(|edge| statics.contains(&edge.to))
    }

    fn is_guard(&self, r#type: &str) -> bool {
        let base = r#type.split('<').next().unwrap_or(r#type);
        self.round.guards.contains(base)
            || self.round.found.contains(base)
            || self.table.is_guard(base)
            || self.round.closing.values().flatten().any(|guard| guard == r#type)
    }

    /// Whether a function, or the function around a closure, belongs to an adapter. It enters for the closures that it
    /// is given, which are the bodies.
    fn is_of_adapter(&self, path: &str, owner: &str) -> bool {
        let mut enclosing = path;
        loop {
            if self.table.adapter_of(enclosing).is_some() {
                return true;
            }
            match enclosing.rsplit_once("::{closure#") {
                Some((outer, _)) => enclosing = outer,
                None => return ADAPTERS.contains(&owner),
            }
        }
    }

    /// Whether a function names kinds of namespaces, but not the network namespace, where it enters.
    fn is_for_another_namespace(&mut self, function: Node, calls: &[Edge]) -> bool {
        if !calls.iter().all(|edge| self.round.of_any_kind.contains(&edge.to)) {
            return false;
        }
        let order = Order::of(self.graph, function);
        let flags_before =
            |at: u64| order.constants_before(at).into_iter().filter(|constant| are_flags(constant.value));
        let named: Vec<Vec<Constant>> = calls.iter().map(|edge| flags_before(edge.at).collect()).collect();
        let is_network = |flags: &Constant| flags.value & CLONE_NEWNET != 0;
        if named.iter().flatten().any(is_network) {
            return false;
        }
        // Other constants may be part of the kind, or have nothing to do with it.
        if named.iter().all(|flags| flags.iter().any(|flags| flags.is_argument)) {
            return true;
        }
        // Otherwise the flags may be combined by calls.
        let (mut united, mut unions) = (Vec::new(), 0);
        for edge in self.graph.edges(function).references.iter().filter(|edge| edge.call) {
            let mangled = self.graph.image.name(edge.to);
            if FLAGS.iter().any(|name| mangled.contains(name)) {
                united.extend(flags_before(edge.at));
                unions += usize::from(is_union(&names::path(mangled)));
            }
        }
        if united.iter().any(is_network) {
            return false;
        }
        self.round.of_any_kind.insert(function);
        // The first union has two flags, and each further one adds one. With fewer, some are not known.
        united.len() > unions
    }

    /// Whether a function drops a guard, and so leaves the namespace.
    fn drops_guard(&self, function: Node) -> bool {
        let mut met = HashSet::new();
        let mut open = vec![function];
        while let Some(node) = open.pop() {
            for edge in &self.graph.edges(node).references {
                let mangled = self.graph.image.name(edge.to);
                if !mangled.contains("drop") || !met.insert(edge.to) {
                    continue;
                }
                let path = names::path(mangled);
                if let Some(dropped) = names::dropped(&path) {
                    let calls = &self.graph.edges(edge.to).references;
                    if self.is_guard(dropped)
                        || self.round.closing.contains_key(&edge.to)
                        || calls.iter().any(|edge| self.round.entering.contains(&edge.to))
                    {
                        return true;
                    }
                }
                if STANDARD.contains(&names::owner(mangled, &path)) {
                    open.push(edge.to);
                }
            }
        }
        false
    }

    /// The bodies that a candidate stands for.
    fn roots(&self, functions: &Functions, candidate: &Candidate) -> Vec<(String, Root)> {
        let mangled = self.graph.image.name(candidate.function);
        let identity = names::identity(mangled);
        let path = self.path(candidate.function);
        let origin = Origin::Region(candidate.by.clone());
        let is_closure = names::is_closure(names::split(&path).0);
        // The candidate enters for the closures that it is given.
        let given: Vec<(String, Node)> = names::generic_arguments(&identity)
            .into_iter()
            .filter(|_| !is_closure)
            .filter_map(|argument| Some((argument.to_owned(), *functions.named(argument).first()?)))
            .collect();
        let name = self.name(candidate.function, &path);
        let base = names::split(&identity).0.to_owned();
        let mut own = Root::of(&name, vec![candidate.function], Contained(false), origin.clone());
        own.only_if_found = !given.is_empty()
            || if is_closure { self.round.passed_on.contains(&candidate.function) } else { candidate.stays };
        own.waits = candidate.waits.map(|at| (candidate.function, at));
        own.closed.extend(given.iter().map(|(_, node)| *node));
        let mut roots = vec![(base, own)];
        for (identity, node) in given {
            let mut root = Root::of(&self.path(node), vec![node], Contained(false), origin.clone());
            root.receivers.push(candidate.function);
            roots.push((identity, root));
        }
        roots
    }

    /// The name of an `async fn` is the function's, not that of its future.
    fn name(&self, function: Node, path: &str) -> String {
        name_of_future(self.debug, self.graph.image.address(function), path)
    }
}

/// Whether a function of the standard library runs what it is given on another thread or in another process.
fn runs_elsewhere(path: &str) -> bool {
    let is_local = path.contains("std::thread::local::LocalKey<");
    !is_local && ELSEWHERE.iter().any(|start| path.starts_with(start))
}

/// Whether a function polls a future of a named type.
fn is_poll(path: &str) -> bool {
    names::split(path).0.ends_with(" as core::future::future::Future>::poll")
}

/// Whether a function combines flags.
fn is_union(path: &str) -> bool {
    let name = names::split(path).0.rsplit("::").next();
    name.is_some_and(|name| ["bitor", "bitor_assign", "union", "insert", "set"].contains(&name))
}

/// Whether a constant is a kind of namespace, or several.
fn are_flags(constant: u64) -> bool {
    constant & !(CLONE_NEWNET | OTHER_FLAGS | MORE_FLAGS) == 0 && constant & (CLONE_NEWNET | OTHER_FLAGS) != 0
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
