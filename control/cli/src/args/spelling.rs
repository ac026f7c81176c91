//! Accepts the single-dash spelling of long flags (`-cred-file`, `-rd`) that cloudflared's parser allows.
//!
//! Only names that are flags are rewritten, so a value that begins with a dash stays what it is.

use std::ffi::OsString;

/// Rewrites `-name` and `-name=value` to their double-dash form where `is_flag(name)` holds.
///
/// Stops at `--`, after which nothing is a flag.
pub(crate) fn double_dashes(
    arguments: impl IntoIterator<Item = OsString>,
    is_flag: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let mut ended = false;
    let rewrite = |argument: OsString| {
        ended |= argument == "--";
        match argument.to_str() {
            Some(text) if !ended && is_single_dashed(text, &is_flag) => OsString::from(format!("-{text}")),
            Some(_) | None => argument,
        }
    };
    arguments.into_iter().map(rewrite).collect()
}

fn is_single_dashed(text: &str, is_flag: impl Fn(&str) -> bool) -> bool {
    let Some(rest) = text.strip_prefix('-') else {
        return false;
    };
    let name = rest.split('=').next().unwrap_or(rest);
    name.len() > 1 && !rest.starts_with('-') && is_flag(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[&str], expected: &[&str]) {
        let known = |name: &str| ["edge", "rd", "cred-file"].contains(&name);
        let rewritten = double_dashes(given.iter().map(OsString::from), known);
        let expected: Vec<OsString> = expected.iter().map(OsString::from).collect();
        assert_eq!(rewritten, expected);
    }

    #[test]
    fn known_long_names_with_one_dash_get_a_second_one() {
        check(
            &["-edge", "a:1", "-rd", "-cred-file=x"],
            &["--edge", "a:1", "--rd", "--cred-file=x"],
        );
    }

    #[test]
    fn short_flags_values_and_double_dashes_stay() {
        check(
            &["-o", "json", "-secretish", "--edge", "-"],
            &["-o", "json", "-secretish", "--edge", "-"],
        );
        check(&["--", "-edge"], &["--", "-edge"]);
    }
}
