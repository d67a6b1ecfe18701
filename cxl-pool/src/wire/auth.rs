//! The handshake: both sides prove that they hold the token without sending it.
//!
//! The key is derived from the token; a proof is keyed blake3 of the side's word and both nonces.

/// What goes into the key besides the token. Source: BLAKE3, section 2.3, key derivation.
const CONTEXT: &str = "larder 2026 memory node token v1";

/// Key of a token, as both sides derive it.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// The key of the token in a file, without the white space around it.
    pub fn new(token: &str) -> Self {
        Self(blake3::derive_key(CONTEXT, token.trim().as_bytes()))
    }

    /// Proof of one side over both nonces.
    pub fn proof(&self, side: Side, client: &[u8; 32], node: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(side.word()).update(client).update(node);
        *hasher.finalize().as_bytes()
    }

    /// Whether `proof` is that of `side`; takes the same time whatever differs.
    pub fn check(&self, side: Side, nonces: [&[u8; 32]; 2], proof: &[u8; 32]) -> bool {
        blake3::Hash::from_bytes(self.proof(side, nonces[0], nonces[1])) == *proof
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Node,
}

impl Side {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Client => b"client",
            Self::Node => b"node..",
        }
    }
}
