//! Reads Rust just well enough to tell code from comments and literals.

/// The code alone: comments and the insides of string and character literals become spaces. Lines
/// stay where they are.
pub(crate) fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest)
            .or_else(|| raw_string(rest, &out))
            .or_else(|| quoted(rest))
            .unwrap_or(0);
        if skipped > 0 {
            out.extend(
                rest[..skipped]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[skipped..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Size of the comment that `text` starts with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = text.as_bytes().get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(text.len())
}

/// Size of the raw string that `text` starts with; `before` ends with its prefix's neighbour.
fn raw_string(text: &str, before: &str) -> Option<usize> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let start = text
        .strip_prefix('b')
        .or_else(|| text.strip_prefix('c'))
        .unwrap_or(text)
        .strip_prefix('r')?;
    let hashes = start.len() - start.trim_start_matches('#').len();
    let inside = start[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let open = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| open + at + end.len()))
}

/// Size of the string or character literal that `text` starts with. A lifetime is none.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|&c| c == '"' || c == '\'')?;
    let mut inside = text[1..].char_indices();
    let (_, first) = inside.next()?;
    if quote == '\'' && first != '\\' {
        // One character and the closing quote, or else a lifetime.
        let (at, second) = inside.next()?;
        return (second == '\'').then_some(at + 2);
    }
    let mut escaped = first == '\\';
    if first == quote {
        return Some(2);
    }
    for (at, c) in inside {
        if !escaped && c == quote {
            return Some(at + 2);
        }
        escaped = c == '\\' && !escaped;
    }
    Some(text.len())
}

/// Whether `word` stands in `code` as a whole word.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

/// Lines before the tests at the foot of the file.
pub(crate) fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let opens_tests = |at: usize| {
        let item = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        lines[at] == "#[cfg(test)]"
            && item.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    (0..lines.len())
        .find(|&at| opens_tests(at))
        .unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        for (text, expected) in [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("un\"safe") + 1"#, "f(          ) + 1"),
            (r##"r#"un"safe"# x"##, "             x"),
            ("br\"x\" y", "      y"),
            ("'a', '\\'', '\"', x", "   ,     ,    , x"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for r in \"\" {}", "for r in    {}"),
            ("\"open", "     "),
        ] {
            assert_eq!(without_comments_and_literals(text), expected, "{text}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("pub unsafe fn", "unsafe"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
    }

    #[test]
    fn only_an_inline_test_module_ends_the_count() {
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), 1);
        assert_eq!(
            lines_before_tests("a\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n"),
            1
        );
        assert_eq!(lines_before_tests("#[cfg(test)]\nmod tests;\na\n"), 3);
        assert_eq!(lines_before_tests("#[cfg(test)]\nuse x;\na\n"), 3);
    }
}
