//! Passwords of the private repositories.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::ChartError;

/// 32 hexadecimal digits from the system's random numbers.
pub(super) fn random() -> Result<String, ChartError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).map_err(ChartError::at(source))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
