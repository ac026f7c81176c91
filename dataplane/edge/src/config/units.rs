//! Durations and sizes as people write them: `30s`, `1m30s`, `500ms`; `512MiB`, `2GiB`, `65536`.

use std::time::Duration;

/// Reads one or more numbers, each with a unit: `h`, `m`, `s`, `ms`; or says what is wrong.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    read_duration(text).ok_or_else(|| {
        if is_number(text) {
            format!("{text:?} has no unit; for seconds write {}s", text.trim())
        } else {
            format!("{text:?} is not a duration such as 30s, 1m30s or 500ms")
        }
    })
}

fn read_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

/// Writes a duration so that [`duration`] reads it back.
pub(super) fn show(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// Reads a number of bytes, plain or with `KiB`, `MiB`, `GiB`; or says what is wrong.
pub(super) fn size(text: &str) -> Result<u64, String> {
    read_size(text)
        .ok_or_else(|| format!("{text:?} is not a size; write a number with KiB, MiB or GiB, such as 512MiB"))
}

/// Refuses `bytes`, as they were read from `text`, if they are too few.
pub(super) fn at_least(text: &str, bytes: u64, min: u64) -> Result<u64, String> {
    if bytes >= min {
        return Ok(bytes);
    }
    let unit = if is_number(text) {
        "; without a unit they are bytes"
    } else {
        ""
    };
    Err(format!("{text:?} is less than {}MiB{unit}", min >> 20))
}

fn is_number(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn read_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("2h", Some(7_200_000)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("5 days", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(duration(text).ok(), wanted.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_missing_unit_is_told() {
        let told = duration("30").unwrap_err();
        assert_eq!(told, "\"30\" has no unit; for seconds write 30s");
        let told = duration("soon").unwrap_err();
        assert_eq!(told, "\"soon\" is not a duration such as 30s, 1m30s or 500ms");
        let told = size("1GB").unwrap_err();
        assert!(told.contains("write a number with KiB, MiB or GiB"), "{told}");
        let told = at_least("512", 512, 64 << 20).unwrap_err();
        assert_eq!(told, "\"512\" is less than 64MiB; without a unit they are bytes");
        assert_eq!(
            at_least("1MiB", 1 << 20, 64 << 20).unwrap_err(),
            "\"1MiB\" is less than 64MiB"
        );
    }

    #[test]
    fn sizes_are_binary() {
        let cases = [
            ("65536", Some(65_536)),
            ("512MiB", Some(536_870_912)),
            ("2 GiB", Some(2 << 30)),
            ("1GB", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(size(text).ok(), wanted, "{text}");
        }
    }
}
