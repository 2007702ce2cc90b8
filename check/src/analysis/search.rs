//! What a body can reach: breadth first, so that the first path found to a sink is a shortest one.
//!
//! The search leaves out three things on purpose:
//!
//! - A call through a register has no target. Following it to every function of that type would make every function
//!   reachable. Some function refers to each possible target, which is found if the body reaches that function.
//! - A sink that stops is not searched: what an executor does inside does not belong to the body.
//! - The library itself is not searched: it starts threads for its calls, and accounts for them. A body that is given
//!   to a call within a body has a root of its own.

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::panic::resume_unwind;
use std::thread;

use regex::Regex;

use crate::analysis::functions::Functions;
use crate::analysis::root::{LIBRARY, Root};
use crate::analysis::roots;
use crate::program::debug::{Debug, Passes};
use crate::program::graph::{Edge, Graph};
use crate::program::image::{Kind, Node, NodeMap};
use crate::program::{names, processors};
use crate::rules::known::Known;
use crate::rules::sinks::Table;
use crate::rules::verdict::Verdict;

/// The state that all searches of one program share.
pub(crate) struct Context<'a, 'i, 'd> {
    pub graph: &'a Graph<'i, 'd>,
    pub functions: &'a Functions,
    pub table: &'a Table,
    pub debug: &'a Debug<'d>,
    /// The static variables that hold a runtime, once they were looked up.
    pub runtimes: OnceCell<HashSet<u64>>,
    /// The data of each node, once it was looked up.
    infos: Vec<OnceCell<Box<NodeInfo>>>,
}

/// What the table knows of a node.
pub(crate) struct NodeInfo {
    pub name: &'static Known,
    pub sinks: Vec<usize>,
    /// The text of a constant that is a sink.
    pub literal: Option<String>,
    /// It belongs to the library.
    pub own: bool,
}

impl NodeInfo {
    pub(crate) fn path(&self) -> &str {
        self.name.path()
    }
}

impl<'a, 'i, 'd> Context<'a, 'i, 'd> {
    pub(crate) fn new(
        graph: &'a Graph<'i, 'd>,
        functions: &'a Functions,
        table: &'a Table,
        debug: &'a Debug<'d>,
    ) -> Self {
        let infos = std::iter::repeat_with(OnceCell::new).take(graph.image.nodes()).collect();
        Self { graph, functions, table, debug, runtimes: OnceCell::new(), infos }
    }

    pub(crate) fn info(&self, node: Node) -> &NodeInfo {
        self.infos[node.index()].get_or_init(|| {
            let name = self.functions.known(self.graph, self.table, node);
            let mut literal = None;
            let sinks = match self.graph.image.kind(node) {
                Kind::Data { .. } => {
                    let found = self.table.sinks_of_literal(self.graph.image.constant(node));
                    literal = found.first().map(|(_, text)| text.clone());
                    found.into_iter().map(|(sink, _)| sink).collect()
                }
                Kind::Import => name.sinks(self.table).to_vec(),
                Kind::Function => {
                    let mut sinks = name.sinks(self.table).to_vec();
                    for alias in self.graph.image.aliases(node) {
                        sinks.extend(self.table.known(alias).sinks(self.table));
                    }
                    sinks.retain(|sink| self.takes_what_counts(node, name.path(), *sink));
                    sinks
                }
            };
            let own = names::owner(self.graph.image.name(node), name.path()) == LIBRARY;
            Box::new(NodeInfo { name, sinks, literal, own })
        })
    }
}

impl Context<'_, '_, '_> {
    /// The crate that a body is written in.
    fn crate_of(&self, root: &Root) -> String {
        let owner = |function: &Node| names::owner(self.graph.image.name(*function), &root.name).to_owned();
        root.functions.first().map_or_else(|| names::krate(&root.name).to_owned(), owner)
    }

    fn is_vtable_of_future(&self, node: Node) -> bool {
        let image = self.graph.image;
        image.kind(node) == Kind::Data { vtable: true }
            && self.graph.edges(node).references.iter().any(|edge| self.debug.polls(image.address(edge.to)))
    }

    /// Whether a function counts as this sink by the types of its arguments.
    fn takes_what_counts(&self, node: Node, path: &str, sink: usize) -> bool {
        let sink = self.table.sink(sink);
        let conditions = [(&sink.takes, Passes::Parameter), (&sink.holds, Passes::Receiver)];
        conditions.into_iter().filter_map(|(pattern, what)| Some((pattern.as_ref()?, what))).all(|(pattern, what)| {
            let is = |r#type: &str| pattern.is_match(r#type);
            let skips = |r#type: &str| sink.apart_from.as_ref().is_some_and(|skipped| skipped.is_match(r#type));
            let address = self.graph.image.address(node);
            pattern.is_match(path) || self.debug.passes_apart_from(address, what, is, skips)
        })
    }
}

/// The fewest functions for which several threads share the work.
const SHARED: usize = 64;

/// Computes in advance, on all processors, what the searches from these functions need: what each function refers to,
/// and what its name means. A search computes the rest itself.
pub(crate) fn prepare(graph: &Graph<'_, '_>, functions: &Functions, table: &Table, starts: Vec<Node>) {
    let mut met = vec![false; graph.image.nodes()];
    let mut level = starts;
    while !level.is_empty() {
        level.retain(|node| !std::mem::replace(&mut met[node.index()], true));
        let part = if level.len() < SHARED { SHARED } else { level.len().div_ceil(processors()) };
        let next = |nodes: &[Node]| -> Vec<Node> {
            nodes.iter().flat_map(|node| leads_to(graph, functions, table, *node)).collect()
        };
        let mut parts = level.chunks(part);
        let first = parts.next().unwrap_or_default();
        level = thread::scope(|scope| {
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || next(part))).collect();
            let mut found = next(first);
            for thread in threads {
                found.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            found
        });
    }
}

/// The nodes that most searches visit after a node.
fn leads_to(graph: &Graph<'_, '_>, functions: &Functions, table: &Table, node: Node) -> Vec<Node> {
    let kind = graph.image.kind(node);
    let mangled = graph.image.name(node);
    if !matches!(kind, Kind::Data { .. }) {
        let name = functions.known(graph, table, node);
        let stops = name.sinks(table).iter().any(|sink| table.sink(*sink).stop);
        if stops || names::owner(mangled, name.path()) == LIBRARY {
            return functions.given_to(name.identity());
        }
    }
    graph.edges(node).references.iter().map(|edge| edge.to).collect()
}

/// How a node was reached.
#[derive(Clone, Copy)]
pub(crate) struct Predecessor {
    pub from: Node,
    /// None: `from` is a function that takes this closure, and runs it.
    pub by: Option<Edge>,
}

/// The limits of a search.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'l> {
    /// The search ends at sinks that stop.
    pub stops: bool,
    /// Functions of these paths are not entered.
    pub closed: &'l [Regex],
    /// The tasks that the body gives to a runtime run inside.
    pub inside: bool,
    /// Vtables of futures are entered.
    pub boxed: bool,
}

/// The result of a search.
pub(crate) struct Reachable {
    predecessor: NodeMap<Option<Predecessor>>,
    /// The nodes, nearest first.
    pub order: Vec<Node>,
    /// Sinks, nearest first.
    pub hits: Vec<(usize, Node)>,
}

/// One step of a path.
pub(crate) struct Step {
    pub node: Node,
    pub predecessor: Option<Predecessor>,
}

pub(crate) fn search(context: &Context<'_, '_, '_>, root: &Root, limits: &Limits<'_>) -> Reachable {
    let mut search = Search {
        context,
        contained: limits.inside,
        own_crate: context.crate_of(root),
        closed: &root.closed,
        limits,
        reached: Reachable { predecessor: NodeMap::default(), order: Vec::new(), hits: Vec::new() },
        queue: VecDeque::new(),
        deferred: Vec::new(),
    };
    for function in &root.functions {
        search.arrive(*function, None);
    }
    search.run();
    search.reached
}

struct Search<'s, 'a, 'i, 'd> {
    context: &'s Context<'a, 'i, 'd>,
    contained: bool,
    own_crate: String,
    /// Bodies with roots of their own.
    closed: &'s [Node],
    limits: &'s Limits<'s>,
    reached: Reachable,
    queue: VecDeque<Node>,
    /// Sinks that count only with a function that was not reached yet.
    deferred: Vec<(usize, Node)>,
}

impl Search<'_, '_, '_, '_> {
    fn run(&mut self) {
        loop {
            while let Some(node) = self.queue.pop_front() {
                self.enter(node);
            }
            let ready = self.deferred.iter().position(|(sink, _)| {
                let condition = &self.context.table.sink(*sink).only_with;
                condition.as_ref().is_some_and(|condition| self.reached.any(self.context, condition))
            });
            let Some(ready) = ready else { break };
            let (sink, node) = self.deferred.swap_remove(ready);
            self.hit(sink, node);
        }
        let (context, reached) = (self.context, &self.reached);
        let mut hits = reached.hits.clone();
        hits.retain(|(sink, _)| {
            let unless = &context.table.sink(*sink).unless;
            unless.as_ref().is_none_or(|unless| !reached.any(context, unless))
        });
        self.reached.hits = hits;
    }

    fn arrive(&mut self, node: Node, predecessor: Option<Predecessor>) {
        if self.reached.predecessor.contains_key(&node) || self.closed.contains(&node) {
            return;
        }
        let info = self.context.info(node);
        if !self.limits.boxed && self.context.is_vtable_of_future(node) {
            return;
        }
        if self.limits.closed.iter().any(|closed| closed.is_match(info.path())) {
            return;
        }
        self.reached.predecessor.insert(node, predecessor);
        self.reached.order.push(node);
        self.queue.push_back(node);
    }

    fn enter(&mut self, node: Node) {
        let info = self.context.info(node);
        if info.sinks.is_empty() {
            if !info.own {
                self.expand(node);
            } else if !roots::takes_body(info.name, self.context.table) {
                self.arrive_at_given(node);
            }
        }
        for &sink in &info.sinks {
            if self.context.table.sink(sink).only_with.is_some() {
                self.deferred.push((sink, node));
            } else {
                self.hit(sink, node);
            }
        }
    }

    fn hit(&mut self, index: usize, node: Node) {
        let sink = self.context.table.sink(index);
        if sink.direct && !self.is_called_by_own_crate(node) {
            self.expand(node);
            return;
        }
        let allowed = self.contained && sink.contained;
        if !allowed {
            self.reached.hits.push((index, node));
        }
        if !sink.stop || !self.limits.stops {
            self.expand(node);
        } else if allowed || sink.verdict == Verdict::Scoped {
            // What it is given runs inside, and is searched like the body.
            self.arrive_at_given(node);
        }
    }

    fn is_called_by_own_crate(&self, node: Node) -> bool {
        let caller = self.reached.predecessor.get(&node).copied().flatten();
        caller.is_some_and(|caller| {
            let name = self.context.graph.image.name(caller.from);
            names::owner(name, self.context.info(caller.from).path()) == self.own_crate
        })
    }

    fn arrive_at_given(&mut self, node: Node) {
        for given in self.context.functions.given_to(self.context.info(node).name.identity()) {
            self.arrive(given, Some(Predecessor { from: node, by: None }));
        }
    }

    fn expand(&mut self, node: Node) {
        for edge in &self.context.graph.edges(node).references {
            self.arrive(edge.to, Some(Predecessor { from: node, by: Some(*edge) }));
        }
    }
}

impl Reachable {
    /// Whether a function of such a path was reached.
    pub(crate) fn any(&self, context: &Context<'_, '_, '_>, path: &Regex) -> bool {
        self.order.iter().any(|node| path.is_match(context.info(*node).path()))
    }

    /// The path from the root to `node`.
    pub(crate) fn path_to(&self, node: Node) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = Some(node);
        while let Some(node) = at {
            let predecessor = self.predecessor.get(&node).copied().flatten();
            steps.push(Step { node, predecessor });
            at = predecessor.map(|predecessor| predecessor.from);
        }
        steps.reverse();
        steps
    }
}

/// The path from a sink that stops to the function that starts a thread.
pub(crate) fn path_to_spawn(context: &Context<'_, '_, '_>, from: Node) -> Vec<Step> {
    let mut predecessor: NodeMap<Option<Predecessor>> = std::iter::once((from, None)).collect();
    let mut queue = VecDeque::from([from]);
    let mut met = HashSet::new();
    while let Some(node) = queue.pop_front() {
        if node != from && context.graph.image.kind(node) != (Kind::Data { vtable: true }) {
            let info = context.info(node);
            let makes_thread = |sink: &usize| {
                let sink = context.table.sink(*sink);
                sink.verdict == Verdict::Spawn && sink.only_with.is_none()
            };
            if info.sinks.iter().any(makes_thread) {
                let reached = Reachable { predecessor, order: Vec::new(), hits: Vec::new() };
                return reached.path_to(node).into_iter().skip(1).collect();
            }
        }
        for edge in &context.graph.edges(node).references {
            if met.insert(edge.to) && edge.to != from {
                predecessor.insert(edge.to, Some(Predecessor { from: node, by: Some(*edge) }));
                queue.push_back(edge.to);
            }
        }
    }
    Vec::new()
}
