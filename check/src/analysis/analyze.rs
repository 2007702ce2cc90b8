//! From what was reached to what is said: a verdict, its path, and whether it is allowed.

use regex::Regex;
use serde::Serialize;

use crate::analysis::roots::Root;
use crate::analysis::search::{Context, Limits, Reachable, Step, path_to_spawn, search};
use crate::program::debug::{Debug, Place, Variable};
use crate::program::image::{Kind, Node};
use crate::program::names;
use crate::rules::allow::Allowances;
use crate::rules::verdict::Verdict;

/// One body, judged.
#[derive(Serialize)]
pub(crate) struct Body {
    pub name: String,
    #[serde(flatten)]
    pub place: Option<Place>,
    /// It has an executor of its own, which ends what it spawned.
    pub contained: bool,
    /// `CLEAN` alone, or what was found.
    pub verdicts: Vec<Verdict>,
    pub findings: Vec<Finding>,
}

/// One verdict of one body.
#[derive(Serialize)]
pub(crate) struct Finding {
    pub verdict: Verdict,
    /// Of the table; none where the verdict is about an argument or a foreign symbol.
    pub sink: Option<String>,
    pub says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub path: Vec<PathStep>,
    /// The reason, where the project allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

/// One function on a path.
#[derive(Serialize)]
pub(crate) struct PathStep {
    pub function: String,
    /// Of the line that leads on; of the last, of its own first line.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// How the function before leads here, if not by a plain call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Judges one body.
pub(crate) fn analyze(context: &Context<'_, '_, '_>, debug: &Debug<'_>, root: &Root, allowances: &Allowances) -> Body {
    let everything = Case::open(context, debug, root, &[]);
    let mut findings = everything.findings();
    for finding in &mut findings {
        allow(finding, context, debug, root, allowances);
    }
    let mut verdicts: Vec<_> = findings.iter().map(|finding| finding.verdict).collect();
    if verdicts.is_empty() {
        verdicts.push(Verdict::Clean);
    }
    let place = match (&root.opaque, root.functions.first()) {
        (Some(opaque), _) => opaque.caller.and_then(|(_, at)| debug.place(at)),
        (None, Some(first)) => debug.place(context.graph.image.address(*first)),
        (None, None) => None,
    };
    Body { name: root.name.clone(), place, contained: root.contained.0, verdicts, findings }
}

/// An allowance that names a way holds for that way only: with it closed, nothing may be left.
fn allow(
    finding: &mut Finding,
    context: &Context<'_, '_, '_>,
    debug: &Debug<'_>,
    root: &Root,
    allowances: &Allowances,
) {
    let allowed = allowances.for_body(&root.name, finding.verdict);
    if let Some(always) = allowed.iter().find(|allowance| allowance.via.is_none()) {
        always.mark_used();
        finding.allowed = Some(always.reason.clone());
        return;
    }
    if allowed.is_empty() {
        return;
    }
    let closed: Vec<Regex> = allowed.iter().filter_map(|allowance| allowance.via.clone()).collect();
    let rest = Case::open(context, debug, root, &closed).findings();
    for allowance in &allowed {
        let is_via = |step: &PathStep| allowance.via.as_ref().is_some_and(|via| via.is_match(&step.function));
        if finding.path.iter().any(is_via) {
            allowance.mark_used();
        }
    }
    if let Some(other) = rest.into_iter().find(|other| other.verdict == finding.verdict) {
        *finding = other;
        return;
    }
    let reasons: Vec<_> = allowed.iter().map(|allowance| allowance.reason.as_str()).collect();
    finding.allowed = Some(reasons.join("; "));
}

struct Case<'c, 'a, 'i, 'd, 'b> {
    context: &'c Context<'a, 'i, 'd>,
    debug: &'c Debug<'b>,
    root: &'c Root,
    reached: Reachable,
}

impl<'c, 'a, 'i, 'd, 'b> Case<'c, 'a, 'i, 'd, 'b> {
    fn open(context: &'c Context<'a, 'i, 'd>, debug: &'c Debug<'b>, root: &'c Root, closed: &[Regex]) -> Self {
        let reached = search(context, root, &Limits { stops: true, closed });
        Self { context, debug, root, reached }
    }

    /// The nearest of each verdict.
    fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for &(index, node) in &self.reached.hits {
            let sink = self.context.table.sink(index);
            if findings.iter().any(|finding| finding.verdict == sink.verdict) {
                continue;
            }
            let mut path = self.reached.path_to(node);
            if sink.only_with.is_some() {
                path.extend(path_to_spawn(self.context, node));
            }
            let hinted = sink.hint_with.as_ref().is_none_or(|with| self.reached.any(self.context, with));
            findings.push(Finding {
                verdict: sink.verdict,
                sink: Some(sink.id.clone()),
                says: sink.says.clone(),
                hint: sink.hint.clone().filter(|_| hinted),
                path: self.describe(&path),
                allowed: None,
            });
        }
        findings.extend(self.opaque().or_else(|| self.argument()).or_else(|| self.foreign()));
        findings.sort_by_key(|finding| finding.verdict);
        findings
    }

    fn unknown(&self, says: String, path: &[Step]) -> Finding {
        Finding { verdict: Verdict::Unknown, sink: None, says, hint: None, path: self.describe(path), allowed: None }
    }

    /// The body itself is a value that can be anything.
    fn opaque(&self) -> Option<Finding> {
        let opaque = self.root.opaque.as_ref()?;
        let path: Vec<_> = opaque.caller.map(|(node, _)| Step { node, predecessor: None }).into_iter().collect();
        let mut finding =
            self.unknown(format!("the body is a `{}`: only its caller knows what that calls", opaque.r#type), &path);
        if let (Some(step), Some((_, at))) = (finding.path.first_mut(), opaque.caller) {
            step.place = self.debug.place(at);
        }
        Some(finding)
    }

    /// A trait object or a function pointer that the body captured, and that something it reaches calls.
    fn argument(&self) -> Option<Finding> {
        let image = self.context.graph.image;
        let mut captured: Vec<Variable> =
            self.root.receivers.iter().flat_map(|receiver| self.debug.captured(image.address(*receiver))).collect();
        captured.dedup();
        captured.iter().find_map(|variable| {
            let caller = self.reached.order.iter().copied().find(|node| self.calls(*node, variable))?;
            let says = format!(
                "calls its argument `{}: {}`: only the caller of the body knows what that calls",
                variable.name, variable.r#type
            );
            let mut finding = self.unknown(says, &self.reached.path_to(caller));
            let at = self.context.graph.edges(caller).indirect_calls.first().copied();
            if let (Some(last), Some(at)) = (finding.path.last_mut(), at) {
                last.place = self.debug.place(at);
            }
            Some(finding)
        })
    }

    /// Whether a function calls through a register, and deals in the type of this variable.
    fn calls(&self, node: Node, variable: &Variable) -> bool {
        if self.context.graph.edges(node).indirect_calls.is_empty() {
            return false;
        }
        let path = &self.context.info(node).path;
        // Dropping a value is no use of it.
        if path.starts_with("core::ptr::drop_in_place") {
            return false;
        }
        let own = self.root.functions.contains(&node) || (names::is_closure(path) && path.starts_with(&self.root.name));
        let key = callable(&variable.r#type);
        own || path.contains(key)
            || self
                .debug
                .parameters(self.context.graph.image.address(node))
                .iter()
                .any(|parameter| parameter.r#type.contains(key))
    }

    /// A function of a shared object that the table does not know.
    fn foreign(&self) -> Option<Finding> {
        let image = self.context.graph.image;
        let unknown = self.reached.order.iter().copied().find(|node| {
            image.is_looked_up(*node)
                && self.context.info(*node).sinks.is_empty()
                && !self.context.table.knows_foreign(image.name(*node), image.library(*node))
        })?;
        let from =
            image.library(unknown).map_or_else(|| "a shared object".to_owned(), |library| format!("`{library}`"));
        let says = format!("calls `{}` of {from}, which is not known to be safe", image.name(unknown));
        Some(self.unknown(says, &self.reached.path_to(unknown)))
    }

    /// The functions of a path, each with the line that leads on; data is how one function leads to another.
    fn describe(&self, steps: &[Step]) -> Vec<PathStep> {
        let image = self.context.graph.image;
        let mut path: Vec<PathStep> = Vec::new();
        let mut through: Option<String> = None;
        for (index, step) in steps.iter().enumerate() {
            let function = self.context.info(step.node).path.clone();
            let leads_on = steps
                .get(index + 1)
                .and_then(|next| next.predecessor)
                .and_then(|predecessor| predecessor.by)
                .map(|edge| edge.at);
            match image.kind(step.node) {
                Kind::Data { vtable } => {
                    let data = match (vtable, function.as_str()) {
                        (true, _) => "a vtable".to_owned(),
                        (false, "") => "a constant".to_owned(),
                        (false, name) => format!("the static `{name}`"),
                    };
                    through = through.or(Some(data));
                }
                kind => {
                    let by = through.take().map(|data| format!("through {data}")).or_else(|| self.manner(step));
                    let place = match (kind, leads_on) {
                        (Kind::Import, _) => None,
                        (_, Some(at)) => self.debug.place(at),
                        (_, None) => self.debug.place(image.address(step.node)),
                    };
                    path.push(PathStep { function, place, by });
                }
            }
        }
        path
    }

    fn manner(&self, step: &Step) -> Option<String> {
        let predecessor = step.predecessor?;
        let image = self.context.graph.image;
        let rust = |node: Node| image.name(node).starts_with("_R") || image.name(node).starts_with("_ZN");
        let path = &self.context.info(step.node).path;
        match predecessor.by {
            None => Some("given to it, to run inside".to_owned()),
            Some(_) if path.starts_with("core::ptr::drop_in_place") => Some("by dropping".to_owned()),
            Some(edge) if !edge.call => Some("through a function pointer".to_owned()),
            Some(_) if rust(predecessor.from) && !rust(step.node) && image.kind(step.node) == Kind::Function => {
                Some("into C".to_owned())
            }
            Some(_) => None,
        }
    }
}

/// What tells the type of a call: the trait of a trait object, the signature of a function pointer.
fn callable(r#type: &str) -> &str {
    if let Some(at) = r#type.find("dyn ") {
        let rest = &r#type[at..];
        let end =
            rest[4..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').map_or(rest.len(), |end| end + 4);
        return &rest[..end];
    }
    r#type.find("fn(").map_or(r#type, |at| &r#type[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_trait_or_its_signature() {
        assert_eq!(callable("&&dyn app::Job"), "dyn app::Job");
        assert_eq!(
            callable("alloc::boxed::Box<(dyn core::ops::function::Fn<(), Output=()> + Send)>"),
            "dyn core::ops::function::Fn"
        );
        assert_eq!(callable("&fn(u32) -> u32"), "fn(u32) -> u32");
    }
}
