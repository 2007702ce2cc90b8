//! Programs of ordinary users and of users with few privileges. The tests start them, and do not change their own
//! process, which has the privileges of the user who runs it.
#![allow(missing_docs)]

mod privileges;
mod rootless;
mod view_files;
