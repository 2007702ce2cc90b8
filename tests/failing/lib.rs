//! Tests that must fail, each in its own way, and some that must not: `tests/failing.rs` makes a crate of this file and runs it.
#![forbid(unsafe_code)]
#![deny(warnings)]

#[cfg(test)]
mod tests {
    in_netns::rootless!();

    /// `#[test] #[in_netns(new)]`, spelled out.
    macro_rules! test_in_new_netns {
        ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
            #[test]
            $(#[$attribute])*
            fn $name() {
                let run = in_netns::NetNs::new().and_then(|ns| in_netns::Call::new(ns).fresh().run(|| $body));
                match run {
                    Ok(value) => value,
                    Err(error) if in_netns::__private::skips(stringify!($name), &error) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        ($(#[$attribute:meta])* fn $name:ident() -> $result:ty $body:block) => {
            #[test]
            $(#[$attribute])*
            fn $name() -> $result {
                let body = || -> $result { $body };
                let run = in_netns::NetNs::new().and_then(|ns| in_netns::Call::new(ns).fresh().run(body));
                match run {
                    Ok(value) => value,
                    Err(error) if in_netns::__private::skips(stringify!($name), &error) => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
    }

    test_in_new_netns! {
        fn passes() {
            println!("captured");
            assert!(std::net::TcpListener::bind("127.0.0.1:80").is_ok());
        }
    }

    test_in_new_netns! {
        #[should_panic(expected = "this very one")]
        fn passes_by_panicking() {
            panic!("this very one");
        }
    }

    test_in_new_netns! {
        fn passes_with_ok() -> Result<(), String> {
            Ok(())
        }
    }

    test_in_new_netns! {
        #[ignore = "and so it is not run"]
        fn ignored() {
            panic!("it was run");
        }
    }

    test_in_new_netns! {
        fn fails_by_assertion() {
            println!("printed before the failure");
            assert_eq!(1 + 1, 3, "the assertion's own message");
        }
    }

    test_in_new_netns! {
        fn fails_by_err() -> Result<(), String> {
            Err("the error's own message".to_owned())
        }
    }

    test_in_new_netns! {
        fn fails_by_joined_child() {
            std::thread::spawn(|| panic!("the child's own message")).join().unwrap();
        }
    }

    test_in_new_netns! {
        #[should_panic(expected = "nothing of this kind")]
        fn fails_by_not_panicking() {}
    }

    test_in_new_netns! {
        #[should_panic(expected = "this very one")]
        fn fails_by_panicking_otherwise() {
            panic!("another one");
        }
    }
}
