//! Byte ranges (RFC 9110 §14): one, several within a bound, or none.
//!
//! Ranges that overlap or touch are sent as one (§15.3.7.2 allows it), so that nobody gets more than the file. Other units, nonsense
//! and more ranges than the bound are answered with the whole, which §14.2 allows.

use std::ops::Range;

/// The most ranges that are sent. Players ask for one, readers of documents for a few.
const MAX_RANGES: usize = 16;

/// What a `Range` header asks of a representation of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it, with 200.
    Whole,
    /// A part, with 206: offsets, end exclusive, never empty.
    Part(Range<u64>),
    /// At least two parts that neither overlap nor touch, in the order they were asked for, with 206.
    Parts(Vec<Range<u64>>),
    /// Nothing that exists, with 416.
    Unsatisfiable,
}

/// One member of the header.
enum Spec {
    Part(Range<u64>),
    Outside,
}

/// Reads a `Range` header.
pub fn parse(header: &str, size: u64) -> Asked {
    let Some((unit, set)) = header.trim().split_once('=') else { return Asked::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    // A list may have empty members, which do not count (§5.6.1.2).
    let members = || set.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    if members().nth(MAX_RANGES).is_some() {
        return Asked::Whole;
    }
    let Some(specs) = members().map(|member| spec(member, size)).collect::<Option<Vec<_>>>() else {
        return Asked::Whole;
    };
    if specs.is_empty() {
        return Asked::Whole;
    }
    let parts = specs.into_iter().filter_map(|spec| match spec {
        Spec::Part(part) => Some(part),
        Spec::Outside => None,
    });
    let mut parts = coalesce(parts.collect());
    match parts.len() {
        0 => Asked::Unsatisfiable,
        1 => Asked::Part(parts.remove(0)),
        _ => Asked::Parts(parts),
    }
}

/// Reads one member; `None` if it is no range at all.
fn spec(member: &str, size: u64) -> Option<Spec> {
    let (first, last) = member.split_once('-')?;
    let part = match (first, last) {
        ("", suffix) => size.saturating_sub(number(suffix)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if part.start < part.end { Spec::Part(part) } else { Spec::Outside })
}

/// Parts that overlap or touch become one, where the first of them stood.
fn coalesce(parts: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut kept: Vec<Range<u64>> = Vec::with_capacity(parts.len());
    for mut part in parts {
        let mut at = kept.len();
        while let Some(other) = kept.iter().position(|held| held.start <= part.end && part.start <= held.end) {
            let held = kept.remove(other);
            part = part.start.min(held.start)..part.end.max(held.end);
            at = at.min(other);
        }
        kept.insert(at.min(kept.len()), part);
    }
    kept
}

/// Digits only: `str::parse` would take a sign. A number too large for 64 bits is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_cut_to_the_size() {
        for (header, asked) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=0-", Asked::Part(0..10)),
            ("bytes=3-5", Asked::Part(3..6)),
            ("bytes=9-99", Asked::Part(9..10)),
            ("bytes=0-18446744073709551615", Asked::Part(0..10)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
        ] {
            assert_eq!(asked, parse(header, 10), "{header}");
        }
    }

    #[test]
    fn what_lies_outside_is_unsatisfiable() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(Asked::Unsatisfiable, parse(header, 10), "{header}");
        }
        assert_eq!(Asked::Unsatisfiable, parse("bytes=-1", 0));
        assert_eq!(Asked::Unsatisfiable, parse("bytes=0-", 0));
    }

    #[test]
    fn nonsense_is_the_whole() {
        let nonsense = ["", "items=0-1", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=+1-2", "bytes 0-1"];
        for header in nonsense.into_iter().chain(["bytes=,", "bytes=0-1,x", "bytes=0-1,5-3", "bytes=0 -1"]) {
            assert_eq!(Asked::Whole, parse(header, 10), "{header}");
        }
    }

    #[test]
    fn several_ranges_are_sent_apart_unless_they_meet() {
        for (header, asked) in [
            ("bytes=0-1,3-4", Asked::Parts(vec![0..2, 3..5])),
            ("bytes=5-6, ,0-0", Asked::Parts(vec![5..7, 0..1])),
            ("BYTES=0-0,-1", Asked::Parts(vec![0..1, 9..10])),
            ("bytes=0-1,2-4", Asked::Part(0..5)),
            ("bytes=4-6,0-0,1-9", Asked::Part(0..10)),
            ("bytes=0-0,20-30", Asked::Part(0..1)),
            ("bytes=20-30,10-", Asked::Unsatisfiable),
        ] {
            assert_eq!(asked, parse(header, 10), "{header}");
        }
        let ranges = |count: usize| (0..count).map(|i| format!("{0}-{0}", i * 2)).collect::<Vec<_>>().join(",");
        assert!(matches!(parse(&format!("bytes={}", ranges(MAX_RANGES)), 1000), Asked::Parts(_)));
        assert_eq!(Asked::Whole, parse(&format!("bytes={}", ranges(MAX_RANGES + 1)), 1000));
    }

    /// Which bytes a header asks for, one by one; `None` if it is no header of ranges.
    fn slow(members: &[(Option<u64>, Option<u64>)], size: u64) -> Option<Vec<bool>> {
        let mut wanted = vec![false; usize::try_from(size).expect("small")];
        for (first, last) in members {
            let takes = |at: u64| match (first, last) {
                (Some(first), Some(last)) => (*first..=*last).contains(&at),
                (Some(first), None) => at >= *first,
                (None, Some(count)) => at + count >= size,
                (None, None) => false,
            };
            match (first, last) {
                (None, None) => return None,
                (Some(first), Some(last)) if last < first => return None,
                _ => {}
            }
            for (at, wanted) in wanted.iter_mut().enumerate() {
                *wanted |= takes(at as u64);
            }
        }
        Some(wanted)
    }

    proptest::proptest! {
        #[test]
        fn exactly_the_bytes_that_are_asked_for_are_sent(
            members in proptest::collection::vec((proptest::option::of(0_u64..40), proptest::option::of(0_u64..40)), 1..8),
            size in 0_u64..30,
        ) {
            let text = |bound: &Option<u64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
            let list: Vec<_> = members.iter().map(|(first, last)| format!("{}-{}", text(first), text(last))).collect();
            let asked = parse(&format!("bytes={}", list.join(",")), size);
            let mut sent = vec![false; usize::try_from(size).expect("small")];
            let parts = match &asked {
                Asked::Whole => {
                    proptest::prop_assert_eq!(None, slow(&members, size));
                    return Ok(());
                }
                Asked::Unsatisfiable => Vec::new(),
                Asked::Part(part) => vec![part.clone()],
                Asked::Parts(parts) => parts.clone(),
            };
            for at in parts.iter().cloned().flatten() {
                let at = usize::try_from(at).expect("small");
                proptest::prop_assert!(!sent[at], "byte {} twice", at);
                sent[at] = true;
            }
            proptest::prop_assert_eq!(Some(sent), slow(&members, size));
        }

        #[test]
        fn any_text_is_read_without_a_panic(header in ".{0,60}", size: u64) {
            let _ = parse(&header, size);
        }
    }
}
