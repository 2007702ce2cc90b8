//! Return types.

use std::fmt;
use std::io;

use in_netns::in_netns;

use super::Caller;

#[test]
fn nothing_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller, seen: &mut bool) {
        caller.is_elsewhere();
        *seen = true;
    }
    let mut seen = false;
    f(Caller::here(), &mut seen);
    assert!(seen);
}

#[test]
fn a_unit_that_is_spelt_out_is_returned() {
    #[allow(clippy::unused_unit)]
    #[in_netns(new)]
    fn f(caller: Caller) -> () {
        caller.is_elsewhere();
    }
    f(Caller::here());
}

#[test]
fn a_value_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller) -> String {
        caller.is_elsewhere();
        "value".to_owned()
    }
    assert_eq!(f(Caller::here()), "value");
}

#[test]
fn a_result_is_returned_by_question_mark_and_early_return() {
    #[in_netns(new)]
    fn f(caller: Caller, text: &str) -> io::Result<i32> {
        caller.is_elsewhere();
        if text.is_empty() {
            return Ok(-1);
        }
        let number: i32 = text.parse().map_err(io::Error::other)?;
        Ok(number * 2)
    }
    assert_eq!(f(Caller::here(), "").unwrap(), -1);
    assert_eq!(f(Caller::here(), "21").unwrap(), 42);
    let error = f(Caller::here(), "x").unwrap_err();
    assert_eq!(error.to_string(), "invalid digit found in string");
}

#[test]
fn a_nested_result_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller, number: u8) -> Result<Result<u8, String>, in_netns::Error> {
        caller.is_elsewhere();
        if number == 0 {
            return Ok(Err("zero".to_owned()));
        }
        Ok(Ok(number))
    }
    assert_eq!(f(Caller::here(), 0).unwrap(), Err("zero".to_owned()));
    assert_eq!(f(Caller::here(), 7).unwrap(), Ok(7));
}

#[test]
fn an_option_is_returned_by_question_mark() {
    #[in_netns(new)]
    fn f(caller: Caller, list: &[u8]) -> Option<u8> {
        caller.is_elsewhere();
        let first = list.first()?;
        Some(*first + 1)
    }
    assert_eq!(f(Caller::here(), &[]), None);
    assert_eq!(f(Caller::here(), &[4]), Some(5));
}

#[test]
#[should_panic(expected = "never came back")]
fn a_function_may_never_return() {
    #[in_netns(new)]
    fn f(caller: Caller) -> ! {
        caller.is_elsewhere();
        panic!("never came back")
    }
    f(Caller::here());
}

#[test]
fn one_arm_may_never_return() {
    #[in_netns(new)]
    fn f() -> ! {
        std::panic::resume_unwind(Box::new("payload"))
    }
    let value: Result<u8, _> = std::panic::catch_unwind(|| if true { f() } else { 1 });
    assert_eq!(*value.unwrap_err().downcast_ref::<&str>().unwrap(), "payload");
}

#[test]
fn a_final_expression_may_be_missing() {
    #[in_netns(new)]
    fn f(caller: Caller, mut number: u32) -> u32 {
        caller.is_elsewhere();
        loop {
            if number > 100 {
                return number;
            }
            number *= 2;
        }
    }
    #[allow(clippy::needless_return)]
    #[in_netns(new)]
    fn g() -> u32 {
        return 5;
    }
    assert_eq!(f(Caller::here(), 3), 192);
    assert_eq!(g(), 5);
}

#[test]
fn an_impl_trait_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller, end: u8) -> impl Iterator<Item = u8> + Clone {
        caller.is_elsewhere();
        (0..end).map(|number| number * 2)
    }
    let numbers = f(Caller::here(), 3);
    assert_eq!(numbers.clone().collect::<Vec<_>>(), [0, 2, 4]);
    assert_eq!(numbers.count(), 3);
}

#[test]
fn an_impl_trait_may_be_unfinished() {
    #[in_netns(new)]
    fn f(caller: Caller) -> impl fmt::Debug {
        caller.is_elsewhere();
        todo!("later")
    }
    #[in_netns(new)]
    fn g() -> impl fmt::Debug + Clone {
        std::unimplemented!();
    }
    let panics = |f: fn()| std::panic::catch_unwind(f).is_err();
    assert!(panics(|| drop(f(Caller::here()))));
    assert!(panics(|| drop(g())));
}

#[test]
fn an_impl_trait_that_borrows_is_returned() {
    #[in_netns(new)]
    fn f<'a>(caller: Caller, list: &'a [u8]) -> impl Iterator<Item = &'a u8> {
        caller.is_elsewhere();
        list.iter().rev()
    }
    assert_eq!(f(Caller::here(), &[1, 2]).collect::<Vec<_>>(), [&2, &1]);
}

#[test]
fn an_impl_trait_inside_a_result_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller, end: u8) -> io::Result<impl Iterator<Item = u8>> {
        caller.is_elsewhere();
        if end == 0 {
            return Err(io::Error::other("empty"));
        }
        Ok(0..end)
    }
    assert_eq!(f(Caller::here(), 3).unwrap().sum::<u8>(), 3);
    assert_eq!(f(Caller::here(), 0).err().unwrap().to_string(), "empty");
}

#[test]
fn impl_traits_in_a_tuple_and_a_box_are_returned() {
    #[in_netns(new)]
    #[allow(clippy::type_complexity)]
    fn f(caller: Caller) -> (impl fmt::Display, Box<dyn Iterator<Item = impl fmt::Debug> + Send>) {
        caller.is_elsewhere();
        ("shown", Box::new([1_u8, 2].into_iter()))
    }
    let (shown, list) = f(Caller::here());
    assert_eq!(shown.to_string(), "shown");
    assert_eq!(format!("{:?}", list.collect::<Vec<_>>()), "[1, 2]");
}

#[test]
fn a_boxed_trait_is_returned_by_coercion() {
    #[in_netns(new)]
    fn f(caller: Caller, loud: bool) -> Box<dyn fmt::Display + Send> {
        caller.is_elsewhere();
        if loud {
            return Box::new("LOUD");
        }
        Box::new(1)
    }
    assert_eq!(f(Caller::here(), true).to_string(), "LOUD");
    assert_eq!(f(Caller::here(), false).to_string(), "1");
}

#[test]
fn a_boxed_error_is_returned_by_question_mark() {
    #[in_netns(new)]
    fn f(caller: Caller, text: &str) -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
        caller.is_elsewhere();
        Ok(text.parse()?)
    }
    assert_eq!(f(Caller::here(), "8").unwrap(), 8);
    assert!(f(Caller::here(), "x").is_err());
}

#[test]
fn a_borrow_of_an_argument_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller, text: &str) -> &str {
        caller.is_elsewhere();
        text.trim()
    }
    let text = String::from(" a ");
    assert_eq!(f(Caller::here(), &text), "a");
}

#[test]
fn a_mutable_borrow_of_an_argument_is_returned() {
    #[allow(clippy::ptr_arg)]
    #[in_netns(new)]
    fn f(caller: Caller, list: &mut Vec<u8>) -> Option<&mut u8> {
        caller.is_elsewhere();
        list.last_mut()
    }
    let mut list = vec![1, 2];
    *f(Caller::here(), &mut list).unwrap() = 9;
    assert_eq!(list, [1, 9]);
}

#[test]
fn a_closure_is_returned() {
    #[in_netns(new)]
    fn f(caller: Caller, step: u8) -> impl Fn(u8) -> u8 {
        caller.is_elsewhere();
        move |number| number + step
    }
    assert_eq!(f(Caller::here(), 2)(3), 5);
}

#[test]
fn a_temporary_of_the_final_expression_borrows_an_argument() {
    #[in_netns(new)]
    fn f(caller: Caller, list: std::sync::Mutex<Vec<u8>>) -> usize {
        caller.is_elsewhere();
        list.lock().unwrap().len()
    }
    assert_eq!(f(Caller::here(), vec![1, 2, 3].into()), 3);
}

#[test]
fn a_future_that_does_no_work_is_returned_where_that_is_allowed() {
    #[in_netns(new, allow(handover))]
    fn f(caller: Caller) -> tokio::sync::oneshot::Receiver<u8> {
        caller.is_elsewhere();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        sender.send(5).unwrap();
        receiver
    }
    assert_eq!(f(Caller::here()).blocking_recv().unwrap(), 5);
}

#[test]
fn a_value_of_any_type_is_returned_whatever_the_compiler_can_tell_of_it() {
    struct List<T>(Vec<T>);

    impl<T: Send + Clone> List<T> {
        #[in_netns(new)]
        fn first(&self, caller: Caller) -> T
        where
            T: Sync,
        {
            caller.is_elsewhere();
            self.0[0].clone()
        }
    }

    #[in_netns(new)]
    fn boxed<T: Send>(value: T) -> Box<T> {
        Box::new(value)
    }
    #[in_netns(new)]
    fn pinned<T: Send>(value: T) -> Result<std::pin::Pin<Box<T>>, in_netns::Error> {
        Ok(Box::pin(value))
    }
    #[in_netns(new)]
    fn item<I: Iterator<Item: Send> + Send>(mut list: I) -> Option<I::Item> {
        list.next()
    }
    #[in_netns(new)]
    fn hidden() -> impl IntoIterator<Item = u8> {
        Vec::new()
    }
    assert_eq!(List(vec![1, 2]).first(Caller::here()), 1);
    assert_eq!(*boxed(3), 3);
    assert_eq!(*pinned(4).unwrap(), 4);
    assert_eq!(item([5, 6].into_iter()), Some(5));
    assert_eq!(hidden().into_iter().count(), 0);
}
