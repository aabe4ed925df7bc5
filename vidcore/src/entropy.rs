//! Where random bytes come from: injected, so that a test can repeat a run.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// A source of random bytes.
///
/// # Contract
/// * Bytes are independent and uniform; [`SystemEntropy`] is fit for keys and tokens.
/// * `fill` never fails and never blocks for longer than the operating system's own call.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Overwrites `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// Random numbers that every caller of an [`Entropy`] needs.
pub trait EntropyExt: Entropy {
    /// `N` random bytes.
    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number drawn evenly from `[0, 1)`, with 53 random bits.
    fn unit(&self) -> f64 {
        (u64::from_le_bytes(self.bytes()) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl<E: Entropy + ?Sized> EntropyExt for E {}

/// The operating system's generator, through aws-lc.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // There is no safe way to go on without randomness, and on a running kernel this call
        // does not fail.
        SystemRandom::new().fill(bytes).expect("the system's random generator answers");
    }
}

/// A repeatable sequence (SplitMix64): for tests, and for draws that only spread things over time, where a call
/// of the system's generator would take longer than what it is for. Never for keys.
#[derive(Debug)]
pub struct SeededEntropy(std::sync::atomic::AtomicU64);

impl SeededEntropy {
    /// A sequence that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed.into())
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(STEP, std::sync::atomic::Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
