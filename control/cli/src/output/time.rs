//! Points in time in the three notations commands print.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// How an absent time is written in JSON and YAML.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// `2026-01-02T03:04:05Z`, without fractions, for tables.
pub(crate) fn to_seconds(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    exact(whole)
}

/// RFC 3339 with as many fractional digits as it has, for documents.
pub(crate) fn exact(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| NEVER.to_owned())
}

/// `2026-01-02 03:04:05 +0000 UTC`, for the head of `info`.
pub(crate) fn spelled_out(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let mut text = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if at.nanosecond() != 0 {
        text.push_str(format!(".{:09}", at.nanosecond()).trim_end_matches('0'));
    }
    text.push_str(" +0000 UTC");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, seconds: &str, exactly: &str, spelled: &str) {
        let at = OffsetDateTime::parse(written, &Rfc3339).unwrap();
        assert_eq!(to_seconds(at), seconds);
        assert_eq!(exact(at), exactly);
        assert_eq!(spelled_out(at), spelled);
    }

    #[test]
    fn the_three_notations_of_a_time() {
        check(
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05Z",
            "2026-01-02 03:04:05 +0000 UTC",
        );
        check(
            "2026-01-02T03:04:05.120Z",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.12Z",
            "2026-01-02 03:04:05.12 +0000 UTC",
        );
    }
}
