//! Seccomp profiles of container runtimes and service managers: the files in `tests/profiles`.
//!
//! A line is a comment (`#`) or a rule. `deny kill` or `deny errno N` is the result of a call that is not listed;
//! `include FILE` includes a file; `allow NAME…` and `allow_if NAME ARGUMENT = VALUE` (or `!=`) allow calls; `errno N
//! NAME…` gives some calls another result.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use syscalls::Sysno;

const FILES: [(&str, &str); 5] = [
    ("common", include_str!("../profiles/common.list")),
    ("containerd", include_str!("../profiles/containerd.list")),
    ("moby", include_str!("../profiles/moby.list")),
    ("podman", include_str!("../profiles/podman.list")),
    ("system-service", include_str!("../profiles/system-service.list")),
];

/// A profile that was read from its file.
#[derive(Debug, Default)]
pub struct Profile {
    deny: Option<SeccompAction>,
    allowed: BTreeMap<i64, Vec<SeccompRule>>,
    answers: BTreeMap<u32, BTreeSet<i64>>,
}

impl Profile {
    /// Reads the profile with a name. Names of system calls that this architecture does not have are left out.
    ///
    /// # Panics
    ///
    /// If there is no such profile, or a line is malformed.
    #[must_use]
    pub fn read(name: &str) -> Profile {
        let mut profile = Profile::default();
        profile.add(name);
        profile
    }

    fn add(&mut self, name: &str) {
        let (_, text) = FILES.iter().find(|(known, _)| *known == name).expect("the name of a profile");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
                ["deny", "kill"] => _ = self.deny.get_or_insert(SeccompAction::KillProcess),
                ["deny", "errno", errno] => _ = self.deny.get_or_insert(SeccompAction::Errno(number(errno))),
                ["include", file] => self.add(file.trim_end_matches(".list")),
                ["allow", names @ ..] => {
                    for call in names.iter().filter_map(|name| call(name)) {
                        self.allowed.insert(call, vec![]);
                    }
                }
                ["allow_if", name, argument, operator, value] => {
                    let operator = if *operator == "=" { SeccompCmpOp::Eq } else { SeccompCmpOp::Ne };
                    let argument = u8::try_from(number(argument)).expect("the number of an argument");
                    let condition =
                        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, number(value).into());
                    let rule = SeccompRule::new(vec![condition.expect("a condition")]).expect("a rule");
                    if let Some(call) = call(name) {
                        self.allowed.entry(call).or_default().push(rule);
                    }
                }
                ["errno", errno, names @ ..] => {
                    let calls = names.iter().filter_map(|name| call(name));
                    self.answers.entry(number(errno)).or_default().extend(calls);
                }
                other => panic!("no line of a profile: {other:?}"),
            }
        }
    }

    /// Applies the profile to every thread of the process, and to the threads and processes that they start.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn apply(self) {
        let deny = self.deny.expect("a profile says what it denies with");
        let mut allowed = self.allowed;
        // The strictest result of several filters applies; among equally strict ones, that of the last filter.
        for (errno, calls) in &self.answers {
            for call in calls {
                allowed.insert(*call, vec![]);
            }
            apply(
                calls.iter().map(|call| (*call, vec![])).collect(),
                SeccompAction::Allow,
                SeccompAction::Errno(*errno),
            );
        }
        apply(allowed, deny, SeccompAction::Allow);
    }
}

/// Makes the kernel answer `matched` to calls that match the rules, and `other` to all others, on every thread of the
/// process.
///
/// # Panics
///
/// If the kernel refuses.
pub fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, other: SeccompAction, matched: SeccompAction) {
    seccompiler::apply_filter_all_threads(&program(rules, other, matched)).expect("seccomp");
}

/// As [`apply`], on the calling thread alone. It sets `no_new_privs` too.
///
/// # Panics
///
/// If the kernel refuses.
pub fn apply_here(rules: BTreeMap<i64, Vec<SeccompRule>>, other: SeccompAction, matched: SeccompAction) {
    seccompiler::apply_filter(&program(rules, other, matched)).expect("seccomp");
}

/// The filter of [`apply`].
///
/// # Panics
///
/// If the rules contradict each other.
#[must_use]
pub fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, other: SeccompAction, matched: SeccompAction) -> BpfProgram {
    let arch = std::env::consts::ARCH.try_into().expect("a known architecture");
    SeccompFilter::new(rules, other, matched, arch).expect("a filter").try_into().expect("a program")
}

fn call(name: &str) -> Option<i64> {
    name.parse::<Sysno>().ok().map(|call| i64::from(call.id()))
}

fn number(text: &str) -> u32 {
    let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16));
    number.expect("a number")
}
