//! The order of the calls in one function, as far as its jumps tell it.

use std::collections::HashSet;

use rustc_hash::FxHashMap;

use crate::program::architecture::{Architecture, Flow};
use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::names;

/// The instructions of a function.
pub(crate) struct Order<'d> {
    architecture: Architecture,
    bytes: &'d [u8],
    start: u64,
    steps: Vec<Step>,
}

struct Step {
    at: u64,
    next: u64,
    flow: Flow,
}

/// A constant in an instruction.
pub(crate) struct Constant {
    pub value: u64,
    /// It is loaded into a register for an argument.
    pub is_argument: bool,
}

/// What a call means to the order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Enters,
    Works,
    /// It handles an error, writes a message, or converts a value.
    Handles,
    /// It makes an error, or does not return.
    Fails,
}

/// How far the thread has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Progress {
    Outside,
    Inside,
    /// It did something inside.
    Worked,
}

impl<'d> Order<'d> {
    pub(crate) fn of(graph: &Graph<'_, 'd>, function: Node) -> Self {
        let (architecture, bytes) = (graph.image.architecture, graph.image.bytes(function));
        let start = graph.image.address(function);
        let mut steps = Vec::new();
        architecture.decode(bytes, start, |instruction| {
            steps.push(Step { at: instruction.at, next: instruction.next, flow: instruction.flow });
        });
        Self { architecture, bytes, start, steps }
    }

    /// The constants that occur right before a call, on every way to it: those of its arguments are among them.
    pub(crate) fn constants_before(&self, call: u64) -> Vec<Constant> {
        let Some(index) = self.index(call) else { return Vec::new() };
        let before = self.steps[..index].iter().rposition(|step| step.flow != Flow::Next);
        let from = before.map_or(self.start, |before| self.steps[before].next);
        let jumps = self.steps.iter().filter_map(|step| match step.flow {
            Flow::Jump(to) => to,
            _ => None,
        });
        let from = jumps.filter(|to| (from..=call).contains(to)).max().unwrap_or(from);
        let mut constants = Vec::new();
        self.architecture.constants(self.bytes_of(from, call), |value, to| {
            let is_argument = to.is_some_and(|to| self.architecture.is_argument(to));
            constants.push(Constant { value, is_argument });
        });
        constants
    }

    /// Whether the function seems to return while its thread is inside. `enters`: where it calls what moves the thread.
    ///
    /// A call after some work is taken to leave. A call right after another is taken to repeat it, or to be the other
    /// branch.
    pub(crate) fn returns_inside(&self, graph: &Graph<'_, 'd>, function: Node, enters: &HashSet<u64>) -> bool {
        let mut calls = FxHashMap::default();
        for edge in graph.edges(function).references.iter().filter(|edge| edge.call) {
            calls.insert(edge.at, meaning(graph.image.name(edge.to)));
        }
        calls.extend(enters.iter().map(|at| (*at, Call::Enters)));
        let mut leaves = false;
        let mut met = HashSet::new();
        let mut open = vec![(0, Progress::Outside)];
        while let Some((index, mut progress)) = open.pop() {
            let Some(step) = self.steps.get(index).filter(|_| met.insert((index, progress))) else { continue };
            let call = match calls.get(&step.at) {
                None if matches!(step.flow, Flow::Call(_) | Flow::IndirectCall(_)) => Some(Call::Works),
                call => call.copied(),
            };
            progress = match (call, progress) {
                (Some(Call::Fails), _) => continue,
                (Some(Call::Enters), Progress::Worked) => {
                    leaves = true;
                    continue;
                }
                (Some(Call::Enters), _) => Progress::Inside,
                (Some(Call::Works), Progress::Inside) => Progress::Worked,
                (_, progress) => progress,
            };
            if self.returns(step) && progress == Progress::Worked {
                return true;
            }
            open.extend(self.after(index).into_iter().map(|next| (next, progress)));
        }
        !leaves
    }

    fn index(&self, at: u64) -> Option<usize> {
        self.steps.binary_search_by_key(&at, |step| step.at).ok()
    }

    fn bytes_of(&self, from: u64, to: u64) -> &'d [u8] {
        let offset = |address: u64| usize::try_from(address.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.get(offset(from)..offset(to)).unwrap_or_default()
    }

    /// The instructions that may follow one.
    fn after(&self, index: usize) -> Vec<usize> {
        let step = &self.steps[index];
        match step.flow {
            Flow::Next | Flow::Call(_) | Flow::IndirectCall(_) => vec![index + 1],
            Flow::Jump(to) => {
                let falls_through = self.falls_through(step).then_some(index + 1);
                falls_through.into_iter().chain(to.and_then(|to| self.index(to))).collect()
            }
            // Through a table of jumps: to a place that nothing else leads to.
            Flow::IndirectJump(_) => {
                (1..self.steps.len()).filter(|next| !self.falls_through(&self.steps[next - 1])).collect()
            }
            Flow::Other => Vec::new(),
        }
    }

    /// Whether the next instruction may follow.
    fn falls_through(&self, step: &Step) -> bool {
        match (step.flow, self.bytes_of(step.at, step.next), self.architecture) {
            (Flow::Other | Flow::IndirectJump(_), ..) => false,
            (Flow::Jump(_), bytes, Architecture::X86_64) => !matches!(bytes.first(), Some(0xe9 | 0xeb)),
            (Flow::Jump(_), bytes, Architecture::Aarch64) => !matches!(bytes.last(), Some(0x14..=0x17)),
            _ => true,
        }
    }

    /// Whether it returns, and is no trap.
    fn returns(&self, step: &Step) -> bool {
        let bytes = self.bytes_of(step.at, step.next);
        step.flow == Flow::Other
            && match self.architecture {
                Architecture::X86_64 => matches!(bytes, [0xc2 | 0xc3, ..] | [0xf3, 0xc3]),
                Architecture::Aarch64 => bytes.last() == Some(&0xd6),
            }
    }
}

fn meaning(mangled: &str) -> Call {
    let path = names::path(mangled);
    let fails = ["from_residual", "last_os_error", "panic", "unwrap_failed", "expect_failed", "_Unwind_Resume"];
    if fails.iter().any(|word| path.contains(word)) || matches!(path.as_str(), "exit" | "_exit" | "abort") {
        return Call::Fails;
    }
    if ["::as_raw_fd", "::as_fd", "__errno_location"].iter().any(|end| path.ends_with(end)) {
        return Call::Handles;
    }
    let handles = ["std::io::error::", "<std::io::error::", "std::io::stdio::", "std::thread::sleep", "<nix::errno::"];
    match names::owner(mangled, &path) {
        "core" | "alloc" | "log" | "tracing" | "tracing_core" => Call::Handles,
        _ if handles.iter().any(|start| path.starts_with(start)) => Call::Handles,
        _ => Call::Works,
    }
}
