//! Random secrets: tokens and passwords of a cluster that lives for minutes.

use std::fs::File;
use std::io::{self, Read};

/// 32 hexadecimal digits (128 bits) from the kernel's random source.
///
/// # Errors
/// When `/dev/urandom` cannot be read.
pub fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
