//! The functions of a program, by the types that name them.

use std::collections::BTreeMap;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::{names, processors};
use crate::rules::known::Known;
use crate::rules::sinks::Table;

/// Every function by its identity, by which a generic argument names it.
pub(crate) struct Functions {
    by_identity: FxHashMap<&'static str, Vec<Node>>,
    /// The data of the name of each Rust function, by node.
    known: Vec<Option<&'static Known>>,
    /// The methods of traits of `core` that calls and polls go through.
    methods: BTreeMap<&'static str, Vec<Node>>,
}

impl Functions {
    pub(crate) fn new(graph: &Graph<'_, '_>, table: &Table) -> Self {
        let mangled = |function: Node| graph.image.name(function);
        let rust: Vec<Node> = graph.image.functions().filter(|function| mangled(*function).starts_with("_R")).collect();
        let known = table.prepare(&rust.iter().map(|function| mangled(*function)).collect::<Vec<_>>(), processors());
        let mut by_identity = FxHashMap::<&'static str, Vec<Node>>::default();
        let mut by_node = vec![None; graph.image.nodes()];
        for (function, known) in rust.iter().zip(known) {
            by_node[function.index()] = Some(known);
            by_identity.entry(known.identity()).or_default().push(*function);
        }
        // The harness makes a constant with the name of the test and a closure that calls it, which is no closure of
        // the test.
        let runs_test = |function: &Node| {
            graph.edges(*function).references.iter().any(|edge| {
                let called = graph.image.name(edge.to);
                called.contains("assert_test_result") && names::path(called).starts_with("test::assert_test_result")
            })
        };
        for (_, functions) in by_identity.iter_mut().filter(|(name, all)| all.len() > 1 && names::is_closure(name)) {
            functions.retain(|function| !runs_test(function));
        }
        let methods = by_identity.iter().filter(|(identity, _)| is_call(identity) || is_poll(identity));
        let methods = methods.map(|(identity, functions)| (*identity, functions.clone())).collect();
        Self { by_identity, known: by_node, methods }
    }

    /// The data of the name of a node.
    pub(crate) fn known(&self, graph: &Graph<'_, '_>, table: &Table, node: Node) -> &'static Known {
        self.known[node.index()].unwrap_or_else(|| table.known(graph.image.name(node)))
    }

    /// The code of the closures, futures and functions among the generic arguments of a function of this identity.
    pub(crate) fn given_to(&self, identity: &str) -> Vec<Node> {
        let code = |argument: &&str| match self.named(argument) {
            [] => self.polled(argument),
            called => called,
        };
        names::generic_arguments(identity).iter().flat_map(code).copied().collect()
    }

    /// The code of a type that can be called: a closure, the future of an async block, a function, or a type that wraps
    /// one.
    pub(crate) fn named(&self, r#type: &str) -> &[Node] {
        if let Some(own) = self.by_identity.get(r#type) {
            return own;
        }
        if names::is_indirect(r#type) {
            return &[];
        }
        self.method(r#type, is_call)
    }

    /// The type whose code is called when a value of this type is: `F` for `&mut F`, `Box<F>` and the like. A body is
    /// known by its own name and place, and not by those of a function of the standard library.
    pub(crate) fn callee<'t>(&self, r#type: &'t str) -> &'t str {
        match names::called_through(r#type) {
            Some(inner) if !self.named(inner).is_empty() => self.callee(inner),
            _ => r#type,
        }
    }

    /// The code of a future that has a type of its own.
    fn polled(&self, r#type: &str) -> &[Node] {
        self.method(r#type, is_poll)
    }

    /// The code of a type's method of a trait of `core`.
    fn method(&self, r#type: &str, is: impl Fn(&str) -> bool) -> &[Node] {
        let r#impl = format!("<{type} as core");
        self.methods
            .range::<str, _>((Bound::Included(r#impl.as_str()), Bound::Unbounded))
            .take_while(|(identity, _)| identity.starts_with(&r#impl))
            .find(|(identity, _)| is(&identity[r#impl.len()..]))
            .map_or(&[], |(_, nodes)| nodes.as_slice())
    }
}

fn is_call(method: &str) -> bool {
    method.contains("]::ops::function::Fn") && method.contains("::call")
}

fn is_poll(method: &str) -> bool {
    method.ends_with("]::future::future::Future>::poll")
}
