//! Durations as Go writes them: `30s`, `1m30s`, `1.5h`, `250ms`.

use std::time::Duration;

/// Longest accepted: anything above is a typing error, and sums of such values cannot overflow.
const SECONDS_MAX: f64 = 1e9;

/// Reads one; `None` if it is none, is negative, or lacks its unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = next;
    }
    (seconds <= SECONDS_MAX).then(|| Duration::from_secs_f64(seconds))
}

/// What is wrong with a text that [`parse`] does not take.
pub(crate) fn complaint(text: &str) -> String {
    if text.parse::<f64>().is_ok_and(|number| number >= 0.0) {
        return format!("it has no unit; for seconds write {text}s");
    }
    "a duration such as 30s or 1m30s is needed".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("99999999999999h", None),
        ] {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_missing_unit_is_told() {
        assert_eq!(complaint("30"), "it has no unit; for seconds write 30s");
        assert_eq!(complaint("1.5"), "it has no unit; for seconds write 1.5s");
        for text in ["", "-1", "30x"] {
            assert_eq!(
                complaint(text),
                "a duration such as 30s or 1m30s is needed",
                "{text}"
            );
        }
    }
}
