//! The functions of a program, found by the types that name them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::thread;

use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::{names, processors};
use crate::rules::known::Known;
use crate::rules::sinks::Table;

/// Every function by its identity: a generic argument names one so.
pub(crate) struct Functions {
    by_identity: BTreeMap<Arc<str>, Vec<Node>>,
}

impl Functions {
    pub(crate) fn new(graph: &Graph<'_, '_>, table: &Table) -> Self {
        let mangled = |function: Node| graph.image.name(function);
        let rust: Vec<Node> = graph.image.functions().filter(|function| mangled(*function).starts_with("_R")).collect();
        let known = table.prepare(&rust.iter().map(|function| mangled(*function)).collect::<Vec<_>>(), processors());
        let mut by_identity = grouped(&known, &rust);
        // The harness makes a constant named like the test, with a closure that calls it: not a closure of the test.
        let runs_test = |function: &Node| {
            graph.edges(*function).references.iter().any(|edge| {
                let called = graph.image.name(edge.to);
                called.contains("assert_test_result") && names::path(called).starts_with("test::assert_test_result")
            })
        };
        for (_, functions) in by_identity.iter_mut().filter(|(name, all)| all.len() > 1 && names::is_closure(name)) {
            functions.retain(|function| !runs_test(function));
        }
        Self { by_identity }
    }

    /// The code of the closures, futures and functions among the generic arguments of a function of this identity.
    pub(crate) fn given_to(&self, identity: &str) -> Vec<Node> {
        let code = |argument: &&str| match self.named(argument) {
            [] => self.polled(argument),
            called => called,
        };
        names::generic_arguments(identity).iter().flat_map(code).copied().collect()
    }

    /// The code of a type that can be called: a closure, the future of an async block, a function, or what wraps one.
    pub(crate) fn named(&self, r#type: &str) -> &[Node] {
        if let Some(own) = self.by_identity.get(r#type) {
            return own;
        }
        if names::is_indirect(r#type) {
            return &[];
        }
        self.method(r#type, |method| method.contains("]::ops::function::Fn") && method.contains("::call"))
    }

    /// The code of a future that has a type of its own.
    fn polled(&self, r#type: &str) -> &[Node] {
        self.method(r#type, |method| method.ends_with("]::future::future::Future>::poll"))
    }

    /// The code of a type's method of a trait of `core`.
    fn method(&self, r#type: &str, is: impl Fn(&str) -> bool) -> &[Node] {
        let r#impl = format!("<{type} as core");
        self.by_identity
            .range::<str, _>((Bound::Included(r#impl.as_str()), Bound::Unbounded))
            .take_while(|(identity, _)| identity.starts_with(&r#impl))
            .find(|(identity, _)| is(&identity[r#impl.len()..]))
            .map_or(&[], |(_, nodes)| nodes.as_slice())
    }
}

/// The functions of each identity, in their order.
fn grouped(known: &[Arc<Known>], functions: &[Node]) -> BTreeMap<Arc<str>, Vec<Node>> {
    let identities: Vec<&str> = known.iter().map(|known| &**known.identity()).collect();
    let mut order: Vec<usize> = (0..identities.len()).collect();
    let part = order.len().div_ceil(processors()).max(1);
    thread::scope(|scope| {
        for part in order.chunks_mut(part) {
            scope.spawn(|| part.sort_by_key(|index| identities[*index]));
        }
    });
    // Sorted parts are merged.
    order.sort_by_key(|index| identities[*index]);
    let groups = order.chunk_by(|a, b| identities[*a] == identities[*b]);
    groups
        .map(|group| {
            let identity = Arc::clone(known[group[0]].identity());
            (identity, group.iter().map(|index| functions[*index]).collect())
        })
        .collect()
}
