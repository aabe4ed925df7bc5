//! Figures as a person reads them: medians, ratios, and a value beside its bound.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One figure and what it is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value found.
    pub value: f64,
    /// The value it is held to.
    pub bound: Bound,
    /// The unit of both.
    pub unit: &'static str,
}

/// On which side of the bound a value must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Less than this.
    Below(f64),
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Figure {
    /// Whether the value keeps its bound.
    pub fn passes(&self) -> bool {
        match self.bound {
            Bound::Below(bound) => self.value < bound,
            Bound::AtMost(bound) => self.value <= bound,
            Bound::AtLeast(bound) => self.value >= bound,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passes() { "PASS" } else { "MISS" };
        let (relation, bound) = match self.bound {
            Bound::Below(bound) => ("<", bound),
            Bound::AtMost(bound) => ("<=", bound),
            Bound::AtLeast(bound) => (">=", bound),
        };
        let (name, value, unit) = (&self.name, self.value, self.unit);
        write!(f, "{verdict}  {name}: {value:.2} {unit} (bound {relation} {bound:.2})")
    }
}

/// The middle value, the upper one of two; 0 for no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Where criterion keeps its results for a bench of this build: beside the build, in `criterion`.
pub fn criterion_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    // target/{profile}/deps/{bench}
    program.ancestors().nth(3).unwrap_or(Path::new(".")).join("criterion")
}

/// The line that sets one criterion result beside its twin: both medians and how many times as long
/// ours takes. `None` unless both have been measured since `begun`: criterion keeps the results of
/// earlier runs.
pub fn twin_line(begun: SystemTime, group: &str, ours: &str, twin: &str) -> Option<String> {
    let (mine, raw) = (criterion_median(begun, group, ours)?, criterion_median(begun, group, twin)?);
    Some(format!("{group}: {ours} {:.2} us, {twin} {:.2} us, ratio {:.2}", mine / 1e3, raw / 1e3, mine / raw))
}

/// Nanoseconds of one iteration.
fn criterion_median(begun: SystemTime, group: &str, bench: &str) -> Option<f64> {
    let file = criterion_folder().join(group).join(bench).join("new/estimates.json");
    if std::fs::metadata(&file).ok()?.modified().ok()? < begun {
        return None;
    }
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates.pointer("/median/point_estimate")?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_bound_passes_unless_it_must_be_below() {
        let figure = |bound| Figure { name: "x".to_owned(), value: 3.0, bound, unit: "s" };
        assert!(!figure(Bound::Below(3.0)).passes());
        assert!(figure(Bound::AtMost(3.0)).passes());
        assert!(figure(Bound::AtLeast(3.0)).passes());
        assert_eq!("MISS  x: 3.00 s (bound < 3.00)", figure(Bound::Below(3.0)).to_string());
    }

    #[test]
    fn the_median_does_not_mind_an_outlier() {
        assert_eq!(2.0, median(vec![900.0, 2.0, 1.0]));
    }
}
