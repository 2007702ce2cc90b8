//! The order of the calls in one function, as far as its jumps determine it.

use std::collections::HashSet;

use rustc_hash::FxHashMap;

use crate::program::architecture::Architecture;
use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::instruction::Flow;
use crate::program::names;

/// The instructions of a function.
pub(crate) struct Order<'d> {
    architecture: Architecture,
    bytes: &'d [u8],
    start: u64,
    steps: Vec<Step>,
    /// The steps that a jump table can lead to: those that no other instruction leads to.
    apart: Vec<usize>,
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

/// The meaning of a call for the order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Enters,
    Works,
    /// It handles an error, writes a message, or converts a value.
    Handles,
    /// It makes an error, or does not return.
    Fails,
}

/// The progress of the thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Progress {
    Outside,
    Inside,
    /// It called a function that moves it once more, and did nothing in between.
    Again,
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
        let mut order = Self { architecture, bytes, start, steps, apart: Vec::new() };
        let led_to: HashSet<u64> = order.jumps().collect();
        let is_apart =
            |at: &usize| !order.falls_through(&order.steps[at - 1]) && !led_to.contains(&order.steps[*at].at);
        order.apart = (1..order.steps.len()).filter(is_apart).collect();
        order
    }

    /// The targets of the direct jumps.
    fn jumps(&self) -> impl Iterator<Item = u64> {
        self.steps.iter().filter_map(|step| match step.flow {
            Flow::Jump(to) => to,
            _ => None,
        })
    }

    /// The constants right before a call, on every way to it. They include those of its arguments.
    pub(crate) fn constants_before(&self, call: u64) -> Vec<Constant> {
        let Some(index) = self.index(call) else { return Vec::new() };
        let before = self.steps[..index].iter().rposition(|step| step.flow != Flow::Next);
        let from = before.map_or(self.start, |before| self.steps[before].next);
        let from = self.jumps().filter(|to| (from..=call).contains(to)).max().unwrap_or(from);
        let mut constants = Vec::new();
        self.architecture.constants(self.bytes_of(from, call), |value, to| {
            let is_argument = to.is_some_and(|to| self.architecture.is_argument(to));
            constants.push(Constant { value, is_argument });
        });
        constants
    }

    /// Whether the function seems to return while its thread is inside. `enters`: the addresses of the calls that move
    /// the thread.
    ///
    /// A call after some work is assumed to leave. A call right after another is assumed to repeat it, or to be in
    /// another branch, unless all are `certain` to name the network and every path to a return has two of them.
    pub(crate) fn returns_inside(
        &self,
        graph: &Graph<'_, 'd>,
        function: Node,
        enters: &HashSet<u64>,
        certain: bool,
    ) -> bool {
        let mut calls = FxHashMap::default();
        for edge in graph.edges(function).references.iter().filter(|edge| edge.call) {
            calls.insert(edge.at, meaning(graph.image.name(edge.to)));
        }
        calls.extend(enters.iter().map(|at| (*at, Call::Enters)));
        let (mut leaves, mut once, mut again) = (false, false, false);
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
                (Some(Call::Enters), Progress::Outside) => Progress::Inside,
                (Some(Call::Enters), _) => Progress::Again,
                (Some(Call::Works), Progress::Inside | Progress::Again) => Progress::Worked,
                (_, progress) => progress,
            };
            if self.returns(step) {
                match progress {
                    Progress::Outside => {}
                    Progress::Inside => once = true,
                    Progress::Again => again = true,
                    Progress::Worked => return true,
                }
            }
            open.extend(self.after(index).into_iter().map(|next| (next, progress)));
        }
        !leaves && (once || !again || !certain)
    }

    /// The address where a future polls what it awaits, after a call that enters and before a call that `leaves`.
    ///
    /// A future that resumes after an await is assumed to be outside: if it is inside, its await was inside too, and is
    /// found.
    pub(crate) fn waits_inside(
        &self,
        enters: &HashSet<u64>,
        leaves: &HashSet<u64>,
        polls: &HashSet<u64>,
    ) -> Option<u64> {
        let mut met = HashSet::new();
        let mut open = vec![(0, false)];
        let mut found: Option<u64> = None;
        while let Some((index, mut inside)) = open.pop() {
            let Some(step) = self.steps.get(index).filter(|_| met.insert((index, inside))) else { continue };
            if inside && polls.contains(&step.at) {
                found = Some(found.map_or(step.at, |other| other.min(step.at)));
                continue;
            }
            if inside && leaves.contains(&step.at) {
                inside = false;
            } else {
                inside |= enters.contains(&step.at);
            }
            open.extend(self.after(index).into_iter().map(|next| (next, inside)));
        }
        found
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
            Flow::IndirectJump(_) => self.apart.clone(),
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

    /// Whether an instruction is a return, and no trap.
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
