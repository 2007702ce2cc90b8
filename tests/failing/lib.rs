//! Tests that must fail, each in its own way, and some that must pass: `builds/failing.rs` makes a crate of this file
//! and runs it.
#![forbid(unsafe_code)]
#![deny(warnings)]

#[cfg(test)]
mod tests {
    use std::error::Error;

    use in_netns::{NetNs, in_netns, with_netns};

    in_netns::rootless!();

    #[test]
    #[in_netns(new)]
    fn passes() {
        println!("captured");
        assert!(std::net::TcpListener::bind("127.0.0.1:80").is_ok());
    }

    #[test]
    #[should_panic(expected = "this very one")]
    #[in_netns(new)]
    fn passes_by_panicking() {
        panic!("this very one");
    }

    #[test]
    #[in_netns(new)]
    fn passes_with_ok() -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    type TestResult = Result<(), Box<dyn Error + Send + Sync>>;

    #[test]
    #[in_netns(new)]
    fn passes_with_an_alias() -> TestResult {
        Ok(())
    }

    #[test]
    #[in_netns(new)]
    fn passes_with_unit() -> () {}

    #[test]
    #[in_netns(new)]
    fn passes_with_an_exit_code() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }

    /// No test: where it cannot have its namespace, that is its error.
    #[in_netns(new)]
    fn helper() -> Result<(), in_netns::Error> {
        Ok(())
    }

    #[test]
    fn passes_with_a_helper() {
        helper().unwrap();
    }

    #[test]
    #[ignore = "and so it is not run"]
    #[in_netns(new)]
    fn ignored() {
        panic!("it was run");
    }

    #[test]
    #[in_netns(new)]
    fn fails_by_assertion() {
        println!("printed before the failure");
        assert_eq!(1 + 1, 3, "the assertion's own message");
    }

    #[test]
    #[in_netns(new)]
    fn fails_by_err() -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("the error's own message".into())
    }

    #[test]
    #[in_netns(new)]
    fn fails_by_joined_child() {
        std::thread::spawn(|| panic!("the child's own message")).join().unwrap();
    }

    #[test]
    #[in_netns(new, audit = "panic")]
    fn fails_by_stray() {
        std::thread::Builder::new().name("left-behind".into()).spawn(std::thread::park).unwrap();
    }

    #[test]
    #[should_panic(expected = "nothing of this kind")]
    #[in_netns(new)]
    fn fails_by_not_panicking() {}

    #[test]
    #[should_panic(expected = "this very one")]
    #[in_netns(new)]
    fn fails_by_panicking_otherwise() {
        panic!("another one");
    }

    #[test]
    fn pooled_body_first() {
        with_netns(NetNs::new().unwrap(), || ()).unwrap();
    }

    #[test]
    fn pooled_body_then_fails() {
        with_netns(NetNs::new().unwrap(), || panic!("the pooled body's own message")).unwrap();
    }
}
