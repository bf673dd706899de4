//! What becomes of an EIP when its pod goes: release strategies and Go's duration notation.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The release strategy as the annotation spells it: `Follow`, `Never` or a Go duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The EIP goes with its pod.
    #[default]
    Follow,
    /// The EIP stays until someone deletes its PodEIP.
    Never,
    /// The EIP stays this long after its pod was last seen.
    After(GoDuration),
}

impl Strategy {
    /// Whether the EIP outlives its pod.
    pub fn lasting(self) -> bool {
        self != Strategy::Follow
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Follow => f.write_str("Follow"),
            Strategy::Never => f.write_str("Never"),
            Strategy::After(span) => span.fmt(f),
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Follow" => Ok(Strategy::Follow),
            "Never" => Ok(Strategy::Never),
            _ => match text.parse::<GoDuration>() {
                Ok(span) if span.0.is_zero() => Err("a duration must be longer than zero".into()),
                Ok(span) => Ok(Strategy::After(span)),
                Err(reason) => Err(format!("neither Follow nor Never nor a duration such as 5m30s ({reason})")),
            },
        }
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A span of time in the notation of Go's `time.ParseDuration`, without a sign: `1h2m3.5s`, `300ms`.
///
/// The crates that read durations accept what Go refuses (`5d`, `1h 30m`, ISO 8601) or refuse
/// what Go accepts (`0`, `.5s`), and other tools read our PodEIPs with Go's parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

/// Go counts nanoseconds in a signed 64-bit integer.
const LONGEST_NANOS: u128 = i64::MAX as u128;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, micro sign
    ("μs", 1_000), // U+03BC, Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(GoDuration(Duration::ZERO));
        }
        if text.is_empty() {
            return Err("it is empty".into());
        }
        let mut nanos = 0u128;
        let mut rest = text;
        while !rest.is_empty() {
            let (part, after) = part_in_nanos(rest)?;
            nanos += part;
            if nanos > LONGEST_NANOS {
                return Err("it is longer than 292 years".into());
            }
            rest = after;
        }
        Ok(GoDuration(Duration::from_nanos(nanos as u64)))
    }
}

/// Reads one number with its unit off the front of `text`, of which no error repeats anything: whoever reports it shows
/// the whole text, on one line and no longer than people read.
fn part_in_nanos(text: &str) -> Result<(u128, &str), String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, rest) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err("a number is missing".into());
    }
    let (unit, after) = rest.split_at(rest.find(is_number).unwrap_or(rest.len()));
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() { "a unit is missing" } else { "unknown unit" }.into());
    };
    let whole: u128 =
        if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| "too long".to_string())?.into() };
    // Beyond 15 digits a fraction of an hour is below one nanosecond.
    let digits = &fraction[..fraction.len().min(15)];
    let fraction =
        if digits.is_empty() { 0 } else { digits.parse::<u128>().map_err(|_| "not a number".to_string())? };
    Ok((whole * scale + fraction * scale / 10u128.pow(digits.len() as u32), after))
}

impl fmt::Display for GoDuration {
    /// Hours, minutes and seconds as Go prints them, but without the parts that are zero: `10m`,
    /// not `10m0s`. Go's parser reads both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let nanos = self.0.subsec_nanos();
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (seconds, nanos) {
            (0, 0) if self.0.is_zero() => f.write_str("0s"),
            (0, 0) => Ok(()),
            (_, 0) => write!(f, "{seconds}s"),
            _ => {
                let fraction = format!("{nanos:09}");
                write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> u128 {
        text.parse::<GoDuration>().unwrap().0.as_nanos()
    }

    #[test]
    fn reads_what_go_reads() {
        assert_eq!(nanos("1h2m3.5s"), 3_723_500_000_000);
        assert_eq!(nanos("300ms"), 300_000_000);
        assert_eq!(nanos(".5s"), 500_000_000);
        assert_eq!(nanos("1.s"), 1_000_000_000);
        assert_eq!(nanos("1µs"), 1_000);
        assert_eq!(nanos("1μs"), 1_000);
        assert_eq!(nanos("0"), 0);
        assert_eq!(nanos("3s1h"), 3_603_000_000_000);
        assert_eq!(nanos("0.000000000000000001h"), 0);
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", "5", "5d", "1h 30m", "-", ".", ".s", "1..5s", "1M", "PT1H", "9999999h", "s", "１s"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn strategies_and_their_refusals() {
        assert_eq!("Follow".parse(), Ok(Strategy::Follow));
        assert_eq!("Never".parse(), Ok(Strategy::Never));
        assert_eq!("5m30s".parse(), Ok(Strategy::After(GoDuration(Duration::from_secs(330)))));
        for text in ["never", "follow", "0s", "0", "-5m", "5", ""] {
            assert!(text.parse::<Strategy>().is_err(), "{text}");
        }
        for text in ["e\r\nip", "5e\r\nip", "5\u{202e}"] {
            let reason = text.parse::<Strategy>().unwrap_err();
            assert!(!reason.contains(&text[1..]), "the text stands beside it already: {reason}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["10m", "5m30s", "1h", "1h0.25s", "0.3s"] {
            assert_eq!(nanos(&text.parse::<GoDuration>().unwrap().to_string()), nanos(text), "{text}");
        }
        assert_eq!(GoDuration(Duration::from_secs(600)).to_string(), "10m");
    }
}
