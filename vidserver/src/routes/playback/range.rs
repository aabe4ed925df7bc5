//! Byte ranges (RFC 9110 §14): one range; several, other units and nonsense are answered with the
//! whole, which the standard allows.

use std::ops::Range;

/// What a `Range` header asks of a representation of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it, with 200.
    Whole,
    /// A part, with 206: offsets, end exclusive, never empty.
    Part(Range<u64>),
    /// Nothing that exists, with 416.
    Unsatisfiable,
}

/// Reads a `Range` header.
pub fn parse(header: &str, size: u64) -> Asked {
    let Some(spec) = header.trim().strip_prefix("bytes=") else { return Asked::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Asked::Whole };
    if spec.contains(',') {
        return Asked::Whole;
    }
    match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            Some(0) => Asked::Unsatisfiable,
            Some(length) if size > 0 => Asked::Part(size.saturating_sub(length)..size),
            Some(_) => Asked::Unsatisfiable,
            None => Asked::Whole,
        },
        (first, last) => {
            let Some(first) = number(first) else { return Asked::Whole };
            let end = match last {
                "" => size,
                last => match number(last) {
                    Some(last) if last < first => return Asked::Whole,
                    Some(last) => last.saturating_add(1).min(size),
                    None => return Asked::Whole,
                },
            };
            if first >= size { Asked::Unsatisfiable } else { Asked::Part(first..end) }
        }
    }
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
    fn nonsense_and_several_ranges_are_the_whole() {
        for header in ["", "items=0-1", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=+1-2", "bytes=0-1,3-4"] {
            assert_eq!(Asked::Whole, parse(header, 10), "{header}");
        }
    }
}
