//! Random bytes of the kernel, for names that must never repeat and secrets.

use std::fs::File;
use std::io::{self, Read};

/// 32 bytes that nobody can guess. Source: random(4), urandom.
pub fn secret() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn secrets_differ() {
        let draw = || super::secret().expect("every Linux has it");
        assert_ne!(draw(), draw());
    }
}
