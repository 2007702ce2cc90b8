//! What a body can reach: breadth first, so that the first path found to a sink is a shortest one.
//!
//! Three things are left out on purpose. A call whose target only a register knows leads nowhere: to follow it to
//! everything of that type would make everything reach everything. What it can lead to was referred to by somebody,
//! and if that was the body, it is found there. And a sink that stops is not looked into: what an executor does inside
//! is not the body's doing. Nor is what the library does inside, which starts threads for its calls, and accounts for
//! them: of a call within a body only what the caller gives it is somebody's code, and that is a body of its own.

use std::collections::{HashMap, HashSet, VecDeque};

use regex::Regex;

use crate::graph::{Edge, Graph};
use crate::image::{Kind, Node};
use crate::names;
use crate::roots::{self, Functions, Root};
use crate::sinks::Table;
use crate::verdict::Verdict;

/// What all searches of one program share.
pub(crate) struct Ground<'a, 'i, 'd> {
    pub graph: &'a Graph<'i, 'd>,
    pub functions: &'a Functions,
    pub table: &'a Table,
    paths: std::cell::RefCell<HashMap<Node, std::rc::Rc<Seen>>>,
}

/// What a node is to the table.
pub(crate) struct Seen {
    pub path: String,
    pub sinks: Vec<usize>,
    /// It is the library's own.
    pub own: bool,
}

impl<'a, 'i, 'd> Ground<'a, 'i, 'd> {
    pub(crate) fn new(graph: &'a Graph<'i, 'd>, functions: &'a Functions, table: &'a Table) -> Self {
        Self { graph, functions, table, paths: std::cell::RefCell::default() }
    }

    pub(crate) fn seen(&self, node: Node) -> std::rc::Rc<Seen> {
        let mut paths = self.paths.borrow_mut();
        let seen = paths.entry(node).or_insert_with(|| {
            let path = names::path(self.graph.image.name(node));
            let sinks = match self.graph.image.kind(node) {
                Kind::Data { .. } => Vec::new(),
                Kind::Import => self.table.sinks_of(&path),
                Kind::Function => {
                    let names = self.graph.image.names(node);
                    names.flat_map(|name| self.table.sinks_of(&names::path(name))).collect()
                }
            };
            let own = names::krate(&path) == roots::LIBRARY;
            std::rc::Rc::new(Seen { path, sinks, own })
        });
        std::rc::Rc::clone(seen)
    }
}

/// How a node was reached.
#[derive(Clone, Copy)]
pub(crate) struct Came {
    pub from: Node,
    /// None: `from` is a function that was given this closure, and runs it.
    pub by: Option<Edge>,
}

/// How far a search goes.
pub(crate) struct Limits<'l> {
    /// Sinks that say so end the search.
    pub stops: bool,
    /// Functions of these paths are not entered.
    pub closed: &'l [Regex],
}

/// Everything that was reached.
pub(crate) struct Reached {
    came: HashMap<Node, Option<Came>>,
    /// In the order of distance.
    pub order: Vec<Node>,
    /// Sinks, nearest first.
    pub hits: Vec<(usize, Node)>,
}

/// One step of a path.
pub(crate) struct Step {
    pub node: Node,
    pub came: Option<Came>,
}

pub(crate) fn search(ground: &Ground<'_, '_, '_>, root: &Root, limits: &Limits<'_>) -> Reached {
    let mut search = Search {
        ground,
        contained: root.contained.0,
        limits,
        reached: Reached { came: HashMap::new(), order: Vec::new(), hits: Vec::new() },
        queue: VecDeque::new(),
        gated: Vec::new(),
    };
    for function in &root.functions {
        search.arrive(*function, None);
    }
    search.run();
    search.reached
}

struct Search<'s, 'a, 'i, 'd> {
    ground: &'s Ground<'a, 'i, 'd>,
    contained: bool,
    limits: &'s Limits<'s>,
    reached: Reached,
    queue: VecDeque<Node>,
    /// Sinks that count only with something that was not reached yet.
    gated: Vec<(usize, Node)>,
}

impl Search<'_, '_, '_, '_> {
    fn run(&mut self) {
        loop {
            while let Some(node) = self.queue.pop_front() {
                self.enter(node);
            }
            let ready = self.gated.iter().position(|(sink, _)| {
                let condition = &self.ground.table.sink(*sink).only_with;
                condition.as_ref().is_some_and(|condition| self.reached.any(self.ground, condition))
            });
            let Some(ready) = ready else { break };
            let (sink, node) = self.gated.swap_remove(ready);
            self.hit(sink, node);
        }
    }

    fn arrive(&mut self, node: Node, came: Option<Came>) {
        if self.reached.came.contains_key(&node) {
            return;
        }
        let seen = self.ground.seen(node);
        if self.limits.closed.iter().any(|closed| closed.is_match(&seen.path)) {
            return;
        }
        self.reached.came.insert(node, came);
        self.reached.order.push(node);
        self.queue.push_back(node);
    }

    fn enter(&mut self, node: Node) {
        let seen = self.ground.seen(node);
        if seen.sinks.is_empty() {
            if !seen.own {
                self.expand(node);
            } else if !roots::takes_body(&seen.path, self.ground.table) {
                self.arrive_at_given(node);
            }
        }
        for &sink in &seen.sinks {
            if self.ground.table.sink(sink).only_with.is_some() {
                self.gated.push((sink, node));
            } else {
                self.hit(sink, node);
            }
        }
    }

    fn hit(&mut self, index: usize, node: Node) {
        let sink = self.ground.table.sink(index);
        let allowed = self.contained && sink.contained;
        if !allowed {
            self.reached.hits.push((index, node));
        }
        if !sink.stop || !self.limits.stops {
            self.expand(node);
        } else if allowed || sink.verdict == Verdict::Scoped {
            // It runs inside, so it is looked at as the body is.
            self.arrive_at_given(node);
        }
    }

    fn arrive_at_given(&mut self, node: Node) {
        for given in self.ground.functions.given_to(self.ground.graph.image.name(node)) {
            self.arrive(given, Some(Came { from: node, by: None }));
        }
    }

    fn expand(&mut self, node: Node) {
        for edge in &self.ground.graph.edges(node).references {
            self.arrive(edge.to, Some(Came { from: node, by: Some(*edge) }));
        }
    }
}

impl Reached {
    /// Whether a function of such a path was reached.
    pub(crate) fn any(&self, ground: &Ground<'_, '_, '_>, path: &Regex) -> bool {
        self.order.iter().any(|node| path.is_match(&ground.seen(*node).path))
    }

    /// From the root to `node`.
    pub(crate) fn path_to(&self, node: Node) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = Some(node);
        while let Some(node) = at {
            let came = self.came.get(&node).copied().flatten();
            steps.push(Step { node, came });
            at = came.map(|came| came.from);
        }
        steps.reverse();
        steps
    }
}

/// From a sink that stops, how it goes on to where a thread is made: its own spawn.
pub(crate) fn tail(ground: &Ground<'_, '_, '_>, from: Node) -> Vec<Step> {
    let mut came: HashMap<Node, Option<Came>> = HashMap::from([(from, None)]);
    let mut queue = VecDeque::from([from]);
    let mut met = HashSet::new();
    while let Some(node) = queue.pop_front() {
        if node != from && ground.graph.image.kind(node) != (Kind::Data { vtable: true }) {
            let seen = ground.seen(node);
            let makes_thread = |sink: &usize| {
                let sink = ground.table.sink(*sink);
                sink.verdict == Verdict::Spawn && sink.only_with.is_none()
            };
            if seen.sinks.iter().any(makes_thread) {
                let reached = Reached { came, order: Vec::new(), hits: Vec::new() };
                return reached.path_to(node).into_iter().skip(1).collect();
            }
        }
        for edge in &ground.graph.edges(node).references {
            if met.insert(edge.to) && edge.to != from {
                came.insert(edge.to, Some(Came { from: node, by: Some(*edge) }));
                queue.push_back(edge.to);
            }
        }
    }
    Vec::new()
}
