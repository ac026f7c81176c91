//! Rules about where files lie and what they are called.

/// Names that say nothing of what is inside.
const BANNED: [&str; 9] = [
    "utils", "util", "common", "helpers", "helper", "misc", "types", "manager", "managers",
];

/// Everything at the top but dot-files.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "dataplane",
    "control",
    "bench",
    "ansible",
    "tests",
    "docs",
];

/// A file or folder with a banned name, or a `mod.rs`.
pub(crate) fn names(path: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if path.rsplit('/').next() == Some("mod.rs") {
        breaches.push(format!("{path}: write foo.rs and foo/, not foo/mod.rs"));
    }
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or(part);
        if BANNED.contains(&stem) {
            breaches.push(format!("{path}: {stem:?} does not say what is inside"));
        }
    }
    breaches
}

/// A new name at the top.
pub(crate) fn top_level(path: &str) -> Option<String> {
    let top = path.split('/').next().unwrap_or(path);
    (!top.starts_with('.') && !TOP_LEVEL.contains(&top))
        .then(|| format!("{path}: {top} is not agreed at the top"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_seen() {
        for bad in [
            "a/utils.rs",
            "a/common/b.rs",
            "docs/misc.md",
            "a/src/mod.rs",
            "helpers/x.rs",
        ] {
            assert_eq!(names(bad).len(), 1, "{bad}");
        }
        for good in ["a/model.rs", "a/typesetting.rs", "tests/run"] {
            assert!(names(good).is_empty(), "{good}");
        }
    }

    #[test]
    fn the_top_takes_dot_files_and_agreed_names() {
        for good in ["README.md", ".ci/run", ".deny.toml", "dataplane/wire/Cargo.toml"] {
            assert_eq!(top_level(good), None);
        }
        for bad in ["build.sh", "scripts/x", "deny.toml", "CHANGELOG.md"] {
            assert!(top_level(bad).is_some(), "{bad}");
        }
    }
}
