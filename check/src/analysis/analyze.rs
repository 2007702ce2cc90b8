//! Makes findings of the functions that a search reached: a verdict, its path, and whether the project allows it.

use regex::Regex;
use serde::Serialize;

use crate::analysis::regions::name_of_future;
use crate::analysis::root::{Origin, Root};
use crate::analysis::search::{Context, Limits, Reachable, Step, path_to_spawn, search};
use crate::program::debug::{Debug, Held, Passes, Place, Variable};
use crate::program::image::{Kind, Node};
use crate::program::names;
use crate::rules::allow::Allowances;
use crate::rules::baseline::Baseline;
use crate::rules::known::Contained;
use crate::rules::verdict::Verdict;

/// One body, and its findings.
#[derive(Serialize)]
pub(crate) struct Body {
    pub name: String,
    #[serde(flatten)]
    pub place: Option<Place>,
    pub origin: Origin,
    /// It has an executor of its own, which ends the tasks that it spawned.
    pub contained: bool,
    /// Only `CLEAN`, or the verdicts of the findings.
    pub verdicts: Vec<Verdict>,
    /// Verdicts that are notes, and do not count against the body.
    pub notes: Vec<Verdict>,
    pub findings: Vec<Finding>,
}

/// One verdict of one body.
#[derive(Serialize)]
pub(crate) struct Finding {
    pub verdict: Verdict,
    /// The sink of the table; none where the verdict is about an argument, a foreign symbol or a future.
    pub sink: Option<String>,
    /// Every sink of this verdict that the body reaches: the path leads to the nearest.
    pub sinks: Vec<String>,
    pub says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub path: Vec<PathStep>,
    /// The reason, where the project allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// It is in the baseline.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
}

/// One function on a path.
#[derive(Serialize)]
pub(crate) struct PathStep {
    pub function: String,
    /// The line that leads to the next step; for the last function, its first line.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// How the previous function leads here, if not by a plain call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Searches from one root. `held`: the values that the futures of this body hold across an await.
pub(crate) fn analyze(
    context: &Context<'_, '_, '_>,
    debug: &Debug<'_>,
    root: &Root,
    held: &[&Held],
    allowances: &Allowances,
    baseline: &Baseline,
) -> Body {
    let everything = Case::open(context, debug, root, &[]);
    let mut findings = everything.findings();
    findings.extend(awaits(context, held).or_else(|| waits(context, debug, root)));
    for finding in &mut findings {
        allow(finding, context, debug, root, allowances);
        match baseline.first_new(&root.name, finding.verdict, &finding.sinks) {
            None => finding.known = true,
            // The nearest sink is in the baseline, so the path must lead to one that is not.
            Some(new) if finding.sink.as_ref().is_some_and(|sink| sink != new) && finding.allowed.is_none() => {
                if let Some(other) = everything.finding_of(new) {
                    *finding = Finding { sinks: std::mem::take(&mut finding.sinks), ..other };
                }
            }
            Some(_) => {}
        }
    }
    let (notes, mut verdicts): (Vec<_>, Vec<_>) =
        findings.iter().map(|finding| finding.verdict).partition(|verdict| verdict.is_note());
    if verdicts.is_empty() {
        verdicts.push(Verdict::Clean);
    }
    verdicts.sort();
    let place = match (&root.opaque, root.functions.first()) {
        (Some(opaque), _) => opaque.caller.and_then(|(_, at)| debug.place(at)),
        (None, Some(first)) => debug.place(context.graph.image.address(*first)),
        (None, None) => None,
    };
    let origin = root.origin.clone();
    Body { name: root.name.clone(), place, origin, contained: root.contained.0, verdicts, notes, findings }
}

/// A body for a future that holds a guard across an await.
pub(crate) fn future(context: &Context<'_, '_, '_>, debug: &Debug<'_>, held: &Held) -> Option<Root> {
    let poll = context.graph.image.function_at(held.poll)?;
    let name = name_of_future(debug, held.poll, context.info(poll).path());
    Some(Root::of(&name, vec![poll], Contained(false), Origin::Future))
}

fn awaits(context: &Context<'_, '_, '_>, held: &[&Held]) -> Option<Finding> {
    let first = held.first()?;
    let poll = context.graph.image.function_at(first.poll)?;
    let more = match held.len() - 1 {
        0 => String::new(),
        more => format!(" ({more} more in this future)"),
    };
    let says = format!(
        "holds `{}: {}` across an await{more}: meanwhile its thread polls other tasks in that namespace, and another \
         thread may resume it",
        first.variable, first.r#type
    );
    let mut sinks: Vec<_> = held.iter().map(|held| held.r#type.clone()).collect();
    sinks.sort();
    sinks.dedup();
    let step = PathStep { function: context.info(poll).path().to_owned(), place: first.awaits.clone(), by: None };
    Some(Finding {
        verdict: Verdict::Await,
        sink: None,
        sinks,
        says,
        hint: None,
        path: vec![step],
        allowed: None,
        known: false,
    })
}

/// The finding for a future that enters by hand, and leaves after an await.
fn waits(context: &Context<'_, '_, '_>, debug: &Debug<'_>, root: &Root) -> Option<Finding> {
    let (poll, at) = root.waits?;
    let Origin::Region(by) = &root.origin else { return None };
    let says = format!(
        "is inside by a call of `{by}` across an await: meanwhile its thread polls other tasks in that namespace, and \
         another thread may resume it"
    );
    let step = PathStep { function: context.info(poll).path().to_owned(), place: debug.place(at), by: None };
    Some(Finding {
        verdict: Verdict::Await,
        sink: None,
        sinks: vec![by.clone()],
        says,
        hint: None,
        path: vec![step],
        allowed: None,
        known: false,
    })
}

/// Marks a finding that is allowed. An allowance with `via` only allows paths through that function: a finding that is
/// left when those functions are closed replaces it.
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
    if finding.verdict == Verdict::Await {
        return;
    }
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
        let limits = Limits { stops: true, closed, inside: root.contained.0, boxed: true };
        let case = Self { context, debug, root, reached: search(context, root, &limits) };
        if !root.contained.0 && case.uses_own_runtime_only() {
            let reached = search(context, root, &Limits { inside: true, ..limits });
            return Self { reached, ..case };
        }
        case
    }

    /// Whether the body can only give work to a runtime that it made itself.
    ///
    /// The caller's runtime is current when the body begins, and the body's own within its `block_on`. So nothing may
    /// be given to the current runtime outside of `block_on`, and no other handle may be in reach: not the caller's,
    /// and none in an argument, a static or a thread-local.
    fn uses_own_runtime_only(&self) -> bool {
        let ambient: Vec<_> =
            self.reached.hits.iter().filter(|(sink, _)| self.context.table.sink(*sink).ambient).collect();
        if self.root.origin != Origin::Call || self.root.opaque.is_some() || ambient.is_empty() {
            return false;
        }
        let makes_one = ambient.iter().all(|(sink, _)| {
            let sink = self.context.table.sink(*sink);
            sink.hint_with.as_ref().is_some_and(|builder| self.reached.any(self.context, builder))
        });
        // Another thread of the body uses the runtime of that thread, and the path does not tell which.
        let on_own_thread = ambient.iter().all(|(_, node)| {
            let steps = self.reached.path_to(*node);
            !steps.iter().any(|step| self.context.info(step.node).path().starts_with("std::thread::"))
        });
        makes_one && on_own_thread && !self.uses_current_runtime() && !self.is_given_runtime() && !self.finds_runtime()
    }

    /// Whether the body uses the runtime that is current outside of its own `block_on`.
    fn uses_current_runtime(&self) -> bool {
        let pattern = |pattern| Regex::new(pattern).expect("a pattern of the check's own");
        let closed = [pattern(r"^<tokio::runtime::(\w+::)*(Local)?Runtime>::block_on(::<|$)")];
        let limits = Limits { stops: true, closed: &closed, inside: false, boxed: false };
        let mut reached = search(self.context, self.root, &limits);
        // `#[tokio::test]` gives `block_on` a trait object. A future behind its vtable runs outside of `block_on` only
        // if something there polls a trait object.
        let future = Variable { name: String::new(), r#type: "dyn core::future::future::Future".to_owned() };
        if reached.order.iter().any(|node| self.calls(*node, &future)) {
            reached = search(self.context, self.root, &Limits { boxed: true, ..limits });
        }
        reached.hits.iter().any(|(sink, _)| self.context.table.sink(*sink).ambient)
            || reached.any(self.context, &pattern(r"^<tokio::runtime::handle::Handle>::(try_)?current$"))
    }

    fn is_given_runtime(&self) -> bool {
        let image = self.context.graph.image;
        self.root.receivers.iter().any(|receiver| {
            let receiver = image.address(*receiver);
            self.debug.passes(receiver, Passes::Closure, is_runtime) || !self.debug.captured(receiver).is_empty()
        })
    }

    fn finds_runtime(&self) -> bool {
        let image = self.context.graph.image;
        let search = || self.debug.statics_holding(&RUNTIMES, is_runtime);
        let statics: Vec<Node> =
            self.context.runtimes.get_or_init(search).iter().filter_map(|at| image.node_at(*at)).collect();
        self.reached.order.iter().any(|node| {
            let info = self.context.info(*node);
            let path = info.path();
            statics.contains(node)
                || (path.contains("thread::local::LocalKey<")
                    && self.debug.passes(image.address(*node), Passes::Receiver, is_runtime))
        })
    }

    /// The nearest finding of each verdict.
    fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for &(index, node) in &self.reached.hits {
            let sink = self.context.table.sink(index);
            if let Some(finding) = findings.iter_mut().find(|finding| finding.verdict == sink.verdict) {
                if !finding.sinks.contains(&sink.id) {
                    finding.sinks.push(sink.id.clone());
                }
                continue;
            }
            findings.push(self.finding(index, node));
        }
        if !findings.iter().any(|finding| finding.verdict == Verdict::Unknown) {
            findings.extend(self.opaque().or_else(|| self.argument()).or_else(|| self.foreign()));
        }
        for finding in &mut findings {
            finding.sinks.sort();
        }
        findings.sort_by_key(|finding| finding.verdict);
        findings
    }

    fn finding(&self, index: usize, node: Node) -> Finding {
        let sink = self.context.table.sink(index);
        let mut path = self.reached.path_to(node);
        if sink.only_with.is_some() {
            path.extend(path_to_spawn(self.context, node));
        }
        let hinted = sink.hint_with.as_ref().is_none_or(|with| self.reached.any(self.context, with));
        Finding {
            verdict: sink.verdict,
            sink: Some(sink.id.clone()),
            sinks: vec![sink.id.clone()],
            says: sink.says.clone(),
            hint: sink.hint.clone().filter(|_| hinted),
            path: self.describe(&path),
            allowed: None,
            known: false,
        }
    }

    /// The finding of one sink that was reached.
    fn finding_of(&self, sink: &str) -> Option<Finding> {
        let hit = self.reached.hits.iter().find(|(index, _)| self.context.table.sink(*index).id == sink)?;
        Some(self.finding(hit.0, hit.1))
    }

    fn unknown(&self, says: String, path: &[Step]) -> Finding {
        let path = self.describe(path);
        let reason = path.last().map(|step| step.function.clone()).unwrap_or_default();
        Finding {
            verdict: Verdict::Unknown,
            sink: None,
            sinks: vec![reason],
            says,
            hint: None,
            path,
            allowed: None,
            known: false,
        }
    }

    /// The finding for a body that is itself a trait object or function pointer.
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

    /// A trait object or a function pointer that the body captured, or that a root takes. A function that the body
    /// reaches calls it.
    fn argument(&self) -> Option<Finding> {
        let image = self.context.graph.image;
        let mut captured: Vec<Variable> =
            self.root.receivers.iter().flat_map(|receiver| self.debug.captured(image.address(*receiver))).collect();
        // Only the callers of a region or a named function know what it is given.
        if matches!(self.root.origin, Origin::Region(_) | Origin::Root) {
            captured.extend(self.root.functions.iter().flat_map(|node| self.debug.given(image.address(*node))));
        }
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

    /// Whether a function calls through a register, and has the type of this variable among its types.
    fn calls(&self, node: Node, variable: &Variable) -> bool {
        let info = self.context.info(node);
        // A thread of a scope runs what it is given. The search does not enter it.
        let scoped = |sink: &usize| self.context.table.sink(*sink).verdict == Verdict::Scoped;
        if info.sinks.iter().any(scoped) {
            let given = names::generic_arguments(info.path());
            return given.iter().any(|given| given.contains(callable(&variable.r#type)));
        }
        if self.context.graph.edges(node).indirect_calls.is_empty() {
            return false;
        }
        let path = info.path();
        // Dropping a value does not call it.
        if path.starts_with("core::ptr::drop_in_place") {
            return false;
        }
        // It calls the function that returns the address of the value, and not the value.
        if path.starts_with("<std::thread::local::LocalKey<") {
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
        // A weak symbol is zero, unless one of these defines it.
        let libraries_are_safe = image.libraries().iter().all(|library| self.context.table.is_safe_library(library));
        let unknown = self.reached.order.iter().copied().find(|node| {
            image.is_looked_up(*node)
                && !(image.is_weak(*node) && libraries_are_safe)
                && self.context.info(*node).sinks.is_empty()
                && !self.context.table.knows_foreign(image.name(*node), image.library(*node))
        })?;
        let from =
            image.library(unknown).map_or_else(|| "a shared object".to_owned(), |library| format!("`{library}`"));
        let says = format!("calls `{}` of {from}, which is not known to be safe", image.name(unknown));
        Some(self.unknown(says, &self.reached.path_to(unknown)))
    }

    /// The functions of a path, each with the line that leads to the next. Data between two functions is described with
    /// the second one.
    fn describe(&self, steps: &[Step]) -> Vec<PathStep> {
        let image = self.context.graph.image;
        let mut path: Vec<PathStep> = Vec::new();
        let mut through: Option<String> = None;
        for (index, step) in steps.iter().enumerate() {
            let function = self.context.info(step.node).path().to_owned();
            let leads_on = steps
                .get(index + 1)
                .and_then(|next| next.predecessor)
                .and_then(|predecessor| predecessor.by)
                .map(|edge| edge.at);
            match image.kind(step.node) {
                Kind::Data { .. } if index + 1 == steps.len() => {
                    let literal = self.context.info(step.node).literal.clone().unwrap_or_default();
                    path.push(PathStep {
                        function: format!("\"{literal}\""),
                        place: None,
                        by: Some("the text".to_owned()),
                    });
                }
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
        let info = self.context.info(step.node);
        let path = info.path();
        match predecessor.by {
            None => Some("given to it".to_owned()),
            Some(_) if path.starts_with("core::ptr::drop_in_place") => Some("by dropping".to_owned()),
            Some(edge) if !edge.call => Some("through a function pointer".to_owned()),
            Some(_) if rust(predecessor.from) && !rust(step.node) && image.kind(step.node) == Kind::Function => {
                Some("into C".to_owned())
            }
            Some(_) => None,
        }
    }
}

/// The types that give work to a runtime.
const RUNTIMES: [&str; 3] = [
    "tokio::runtime::handle::Handle",
    "tokio::runtime::runtime::Runtime",
    "tokio::runtime::local_runtime::runtime::LocalRuntime",
];

fn is_runtime(r#type: &str) -> bool {
    RUNTIMES.iter().any(|runtime| r#type.starts_with(runtime))
}

/// The part of a type that identifies a call: the trait of a trait object, the signature of a function pointer.
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
