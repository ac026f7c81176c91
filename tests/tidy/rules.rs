//! Rules about the inside of one source file.

use super::File;
use super::code::{has_word, lines_before_tests, without_comments_and_literals};

/// Longest source without its tests: what one reader can hold.
const LINES_MAX: usize = 500;

/// Longest `main.rs` of a program: parse, load, start, wait, exit.
const MAIN_LINES_MAX: usize = 80;

/// The only folder with unsafe code.
const UNSAFE_FOLDER: &str = "dataplane/driver/src/ring/";

/// The only crate whose root does not forbid unsafe code: it denies it and allows it on `ring`.
const UNSAFE_CRATE: &str = "dataplane/driver/";

/// Whether the file holds nothing but tests, which may be long.
fn is_tests_alone(path: &str) -> bool {
    path.ends_with("/tests.rs") || (path.contains("tests/") && !path.starts_with("tests/src/"))
}

pub(crate) fn length(file: &File) -> Vec<String> {
    if is_tests_alone(&file.path) {
        return Vec::new();
    }
    let limit = if file.path.ends_with("src/main.rs") {
        MAIN_LINES_MAX
    } else {
        LINES_MAX
    };
    let lines = lines_before_tests(&file.text);
    breach(lines > limit, || {
        format!(
            "{} has {lines} lines, more than {limit}; split it along a noun",
            file.path
        )
    })
}

pub(crate) fn module_docs(file: &File) -> Vec<String> {
    breach(!file.text.starts_with("//!"), || {
        format!("{} does not start with `//!` and what it owns", file.path)
    })
}

pub(crate) fn unsafe_code(file: &File) -> Vec<String> {
    let is_found = has_word(&without_comments_and_literals(&file.text), "unsafe");
    breach(is_found && !file.path.starts_with(UNSAFE_FOLDER), || {
        format!(
            "{} has unsafe code, which lives in {UNSAFE_FOLDER} only",
            file.path
        )
    })
}

pub(crate) fn forbids_unsafe(file: &File) -> Vec<String> {
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    let is_bound = is_root && !file.path.starts_with(UNSAFE_CRATE);
    breach(is_bound && !file.text.contains("#![forbid(unsafe_code)]"), || {
        format!("{} lacks #![forbid(unsafe_code)]", file.path)
    })
}

pub(crate) fn unfinished(file: &File) -> Vec<String> {
    let code = without_comments_and_literals(&file.text);
    ["todo!", "unimplemented!"]
        .into_iter()
        .filter(|name| code.contains(name))
        .map(|name| format!("{} has a {name}(); finish it or leave it out", file.path))
        .collect()
}

fn breach(is_broken: bool, message: impl FnOnce() -> String) -> Vec<String> {
    is_broken.then(message).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&File) -> Vec<String>, path: &str, text: &str, is_broken: bool) {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(!rule(&file).is_empty(), is_broken, "{path}: {text:.80}");
    }

    #[test]
    fn length_counts_code_and_spares_tests() {
        let long = "x\n".repeat(LINES_MAX + 1);
        check(length, "a/src/b.rs", &long, true);
        check(length, "a/src/b.rs", &long[2..], false);
        check(
            length,
            "a/src/b.rs",
            &format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}\n"),
            false,
        );
        check(length, "a/src/b/tests.rs", &long, false);
        check(length, "a/tests/b.rs", &long, false);
        check(length, "tests/e2e/b.rs", &long, false);
        check(length, "tests/src/b.rs", &long, true);
        check(length, "a/src/main.rs", &"x\n".repeat(MAIN_LINES_MAX + 1), true);
    }

    #[test]
    fn docs_come_first() {
        check(module_docs, "a.rs", "//! Owns.\n", false);
        check(module_docs, "a.rs", "use x;\n//! Late.\n", true);
    }

    #[test]
    fn unsafe_is_seen_in_code_only() {
        check(unsafe_code, "a/src/b.rs", "unsafe { x() }", true);
        check(unsafe_code, "a/src/b.rs", "// unsafe\nlet x = \"unsafe\";", false);
        check(
            unsafe_code,
            "dataplane/driver/src/ring/sqe.rs",
            "unsafe { x() }",
            false,
        );
        check(
            unsafe_code,
            "dataplane/driver/src/ring.rs",
            "unsafe { x() }",
            true,
        );
        check(forbids_unsafe, "a/src/lib.rs", "//! x", true);
        check(
            forbids_unsafe,
            "a/src/lib.rs",
            "//! x\n#![forbid(unsafe_code)]",
            false,
        );
        check(forbids_unsafe, "dataplane/driver/src/lib.rs", "//! x", false);
        check(forbids_unsafe, "a/src/other.rs", "//! x", false);
    }

    #[test]
    fn unfinished_code_is_seen() {
        check(unfinished, "a.rs", "fn f() { todo!() }", true);
        check(unfinished, "a.rs", "fn f() { unimplemented!(\"x\") }", true);
        check(unfinished, "a.rs", "// todo!()", false);
    }
}
