//! What a body creates: sockets, and threads that it leaves behind.
#![allow(missing_docs)]

in_netns::rootless!();

mod audit;
mod socket_methods;
mod sockets;
