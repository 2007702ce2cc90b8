//! Upgrades a weak handle, given as hexadecimal digits, and prints what comes of it.
#![allow(clippy::print_stdout)]

use std::error::Error;

use in_netns::WeakNetNs;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let hex = crate::arguments().next().ok_or("which?")?;
    let mut bytes = [0; WeakNetNs::BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2).ok_or("too short")?, 16)?;
    }
    match WeakNetNs::from_bytes(bytes).upgrade() {
        Ok(found) => println!("{found:?}"),
        Err(error) => println!("{:?} {error}", error.kind()),
    }
    Ok(())
}
