//! The caches as a fleet uses them: whether many processes load a key once, how near they come to one
//! perfect cache, and what a server does while its Redis is in trouble.
//!
//! Nothing of the product is replaced: nodes are processes of their own, and Redis is a `redis-server`.
//! The program `cache_campaign` runs these; `docs/cache.md` tells what they found.

pub mod faults;
pub mod fleet;
pub mod hits;
pub mod limited;
pub mod node;
pub mod phases;
pub mod plot;
pub mod proxy;
pub mod stampede;
pub mod traffic;
pub mod zipf;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::Failure;
use crate::report::Figure;

/// How long anything of a campaign may take that is to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A moment that processes of one machine can agree on, in milliseconds since 1970.
///
/// # Errors
/// The clock stands before that.
pub fn moment_after(wait: Duration) -> Result<u64, Failure> {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH)? + wait;
    Ok(u64::try_from(moment.as_millis())?)
}

/// The same moment on the clock of this process.
///
/// # Errors
/// The clock stands before 1970.
pub fn instant_of(moment_ms: u64) -> Result<Instant, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Instant::now() + Duration::from_millis(moment_ms).saturating_sub(now))
}

/// The value below which `share` of the values lie; zero for none. Sorts them.
pub fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get(((values.len() as f64 * share) as usize).min(last)).copied().unwrap_or_default()
}

/// Milliseconds, with what is less than one.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Prints the figures and says whether all keep their bounds.
pub fn print(figures: &[Figure]) -> bool {
    for figure in figures {
        println!("{figure}");
    }
    figures.iter().all(Figure::passes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([51, 100, 100], [0.5, 0.99, 1.0].map(|share| quantile(&mut values, share).as_millis()));
        assert_eq!(Duration::ZERO, quantile(&mut [], 0.5));
    }
}
