//! The rule about how wide a comment is.

use super::File;

/// Widest line with a comment, in characters: what rustfmt allows code, and it leaves comments alone.
const COLUMNS_MAX: usize = 110;

/// Comments on lines of their own that are too wide.
pub(crate) fn comments(file: &File) -> Vec<String> {
    let lines = file.text.lines().zip(1..);
    lines
        .filter(|(line, _)| line.trim_start().starts_with("//") && line.chars().count() > COLUMNS_MAX)
        .map(|(_, number)| format!("{}:{number} has a comment wider than {COLUMNS_MAX}", file.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_comments_are_seen_and_code_is_left_to_rustfmt() {
        let check = |text: &str, expected: usize| {
            let file = File {
                path: "dataplane/proto/src/lib.rs".to_owned(),
                text: text.to_owned(),
            };
            assert_eq!(comments(&file).len(), expected, "{text}");
        };
        let wide = "ü".repeat(COLUMNS_MAX);
        check(&format!("// {wide}"), 1);
        check(&format!("    /// {wide}\n//! {wide}"), 2);
        check(&format!("//{}", &wide[..2 * (COLUMNS_MAX - 2)]), 0);
        check(&format!("let text = \"{wide}\";"), 0);
    }
}
