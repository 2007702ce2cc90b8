//! Processes: those that are started in a namespace, and helper programs, each of which needs a process of its own.
#![allow(missing_docs)]

in_netns::rootless!();

mod commands;
mod descriptors;
mod own_namespace;
mod proc_files;
mod profiles;
mod separate;
mod template;
