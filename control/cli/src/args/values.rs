//! Text of a flag or variable to the value it means, in the notations cloudflared's users write.

use std::time::Duration;

/// Reads a switch: `true`, `1`, `t` and the like.
pub(crate) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("'{other}' is neither true nor false")),
    }
}

/// Reads a duration such as `30s`, `1m30s` or `1.5h`; a bare `0` needs no unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || match text.parse::<f64>() {
        Ok(number) if number >= 0.0 => format!("'{text}' has no unit; for seconds write {text}s"),
        Ok(_) | Err(_) => format!("'{text}' is not a duration such as 30s, 1m30s or 500ms"),
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(wrong());
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let seconds_per_unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = next;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_parts() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_without_unit_or_number_are_refused() {
        for text in ["", "30", "s", "1x", "-1s", "1..2s", "99999999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let told = parse_duration("30").unwrap_err();
        assert_eq!(told, "'30' has no unit; for seconds write 30s");
    }

    #[test]
    fn switches_know_the_usual_words() {
        assert_eq!(parse_switch("1"), Ok(true));
        assert_eq!(parse_switch("False"), Ok(false));
        assert!(parse_switch("yes").is_err());
    }
}
