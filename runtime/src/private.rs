//! What the expansion of `#[in_netns]` calls. Not public: it changes with the macro crate, whose version is pinned to this one's.

use crate::error::Error;
use crate::netns::{IntoNetNs, NetNs};

/// The namespace of `#[in_netns(new)]`.
#[derive(Debug)]
pub struct NewNetNs;

impl IntoNetNs for NewNetNs {
    fn into_netns(self) -> Result<NetNs, Error> {
        NetNs::new()
    }
}
