//! Lints still fire in the user's code: each is expected here, and an unfulfilled expectation is an error.

#![deny(unfulfilled_lint_expectations, clippy::all, clippy::pedantic)]

use in_netns::in_netns;

#[test]
fn unused_variable() {
    #[expect(unused_variables)]
    #[in_netns(new)]
    fn local() {
        let local = 1;
    }
    #[expect(unused_variables)]
    #[in_netns(new)]
    fn parameter(parameter: u8) {}
    #[in_netns(new)]
    fn marked(#[expect(unused_variables)] parameter: u8) {}
    #[expect(unused_variables)]
    #[in_netns(new)]
    fn pattern((used, unused): (u8, u8)) -> u8 {
        used
    }
    local();
    parameter(1);
    marked(1);
    assert_eq!(pattern((1, 2)), 1);
}

/// An expectation at an argument is fulfilled once, however many statements bind the argument.
#[test]
fn expected_at_an_argument() {
    #![deny(unused, non_snake_case)]

    #[in_netns(new)]
    fn pattern(#[expect(unused_variables)] (used, unused): (u8, u8)) -> u8 {
        used
    }
    #[in_netns(new)]
    fn name(#[expect(non_snake_case)] Name: u8, #[expect(non_snake_case)] (Left, _): (u8, u8)) -> u8 {
        Name + Left
    }
    #[in_netns(new)]
    fn conditional(#[cfg_attr(all(), expect(unused_variables))] parameter: u8) {}
    #[in_netns(&ns)]
    fn namespace(#[expect(unused_mut)] mut ns: in_netns::NetNs) -> in_netns::NetNs {
        ns
    }
    assert_eq!(pattern((1, 2)), 1);
    assert_eq!(name(1, (2, 3)), 3);
    conditional(1);
    let ns = in_netns::NetNs::new().unwrap();
    assert_eq!(namespace(ns.clone()), ns);
}

#[test]
fn unused_mut() {
    #[expect(unused_mut)]
    #[in_netns(new)]
    fn parameter(mut parameter: u8) -> u8 {
        parameter
    }
    #[expect(unused_mut)]
    #[in_netns(new)]
    fn local() -> u8 {
        let mut local = 1;
        local.min(1)
    }
    assert_eq!(parameter(1) + local(), 2);
}

#[test]
fn unused_assignment() {
    #[expect(unused_assignments)]
    #[in_netns(new)]
    fn parameter(mut parameter: u8) -> u8 {
        parameter = 1;
        parameter = 2;
        parameter
    }
    assert_eq!(parameter(0), 2);
}

#[test]
fn unused_must_use() {
    #[expect(unused_must_use)]
    #[in_netns(new)]
    fn f() {
        "1".parse::<u8>();
    }
    f();
}

#[test]
fn unreachable_code() {
    #[expect(unreachable_code)]
    #[in_netns(new)]
    fn f() -> u8 {
        return 1;
        2
    }
    assert_eq!(f(), 1);
}

#[test]
fn non_snake_case() {
    #[expect(non_snake_case)]
    #[in_netns(new)]
    fn Function() {}
    #[expect(non_snake_case)]
    #[in_netns(new)]
    fn parameter(Parameter: u8) -> u8 {
        Parameter
    }
    Function();
    assert_eq!(parameter(1), 1);
}

#[expect(dead_code)]
#[in_netns(new)]
fn dead() {}

#[test]
fn dead_code_in_a_function() {
    #[expect(dead_code)]
    #[in_netns(new)]
    fn dead() {}
}

#[test]
fn clippy_in_the_body() {
    #[expect(clippy::needless_return)]
    #[in_netns(new)]
    fn needless_return() -> u8 {
        return 1;
    }
    #[expect(clippy::let_and_return)]
    #[in_netns(new)]
    fn let_and_return() -> u8 {
        let value = 1;
        value
    }
    #[expect(clippy::len_zero)]
    #[in_netns(new)]
    fn len_zero(list: &[u8]) -> bool {
        list.len() == 0
    }
    #[expect(clippy::uninlined_format_args)]
    #[in_netns(new)]
    fn uninlined_format_args(number: u8) -> String {
        format!("{}", number)
    }
    assert_eq!(needless_return() + let_and_return(), 2);
    assert!(len_zero(&[]));
    assert_eq!(uninlined_format_args(1), "1");
}

#[test]
fn clippy_in_the_signature() {
    #[expect(clippy::ptr_arg)]
    #[in_netns(new)]
    fn ptr_arg(list: &Vec<u8>) -> usize {
        list.len()
    }
    #[expect(clippy::too_many_arguments, clippy::many_single_char_names)]
    #[in_netns(new)]
    fn too_many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8 {
        a + b + c + d + e + f + g + h
    }
    assert_eq!(ptr_arg(&vec![1]), 1);
    assert_eq!(too_many(1, 1, 1, 1, 1, 1, 1, 1), 8);
}
