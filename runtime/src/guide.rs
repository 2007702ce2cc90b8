//! Guides: how to use the crate in a CNI plugin, in an agent, in tests, in containers and with other libraries, and
//! what views show. Documentation without code.

#[doc = include_str!("guide/agents.md")]
pub mod agents {}

#[doc = include_str!("guide/cni.md")]
pub mod cni {}

#[doc = include_str!("guide/containers.md")]
pub mod containers {}

#[doc = include_str!("guide/guards_and_await.md")]
pub mod guards_and_await {}

#[cfg(feature = "tokio")]
#[doc = include_str!("guide/made_inside.md")]
pub mod made_inside {}

#[doc = include_str!("guide/tests.md")]
pub mod tests {}

#[doc = include_str!("guide/views.md")]
pub mod views {}
