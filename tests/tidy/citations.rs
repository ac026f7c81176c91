//! Rules about what comments and documents point at: it must be there.

use super::File;

/// Folders at the top. A word in a comment that begins with one of them and ends like a file is a path.
const FOLDERS: [&str; 5] = ["docs/", "dataplane/", "control/", "tests/", "bench/"];

/// Documents in which every file between backticks is one of ours. Others also name files of users.
const MAPS: [&str; 2] = ["docs/architecture.md", "docs/CONTRIBUTING.md"];

/// Links of a document, and files that a map names, that are not among the `tracked`.
pub(crate) fn document(file: &File, tracked: &[String]) -> Vec<String> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let prose = without_code(&file.text);
    let mut missing: Vec<&str> = links(&prose)
        .filter(|link| !exists(&resolve(folder, link), tracked))
        .collect();
    if MAPS.contains(&file.path.as_str()) {
        let named = prose.split('`').skip(1).step_by(2).filter(|word| is_file(word));
        missing.extend(named.filter(|word| !spread(word).iter().all(|path| ends_one(path, tracked))));
    }
    missing.extend(decisions(&prose).filter(|number| !is_decision(number, tracked)));
    breaches(file, &missing)
}

/// Paths and decisions that comments of a source name and that are not among the `tracked`.
pub(crate) fn comments(file: &File, tracked: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    for line in file.text.lines().map(str::trim) {
        if line.starts_with("//") {
            let words = line.split(|c: char| c.is_whitespace() || "`()[],;:".contains(c));
            let paths = words
                .map(|word| word.trim_end_matches('.'))
                .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && is_file(word));
            missing.extend(paths.filter(|path| !exists(path, tracked)));
            missing.extend(decisions(line).filter(|number| !is_decision(number, tracked)));
        }
    }
    breaches(file, &missing)
}

fn breaches(file: &File, missing: &[&str]) -> Vec<String> {
    missing
        .iter()
        .map(|path| format!("{} points at {path}, which is not there", file.path))
        .collect()
}

/// Text with the lines of code blocks left out.
fn without_code(text: &str) -> String {
    let mut is_inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_inside = !is_inside;
        } else if !is_inside {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// Targets of links into the repository, without the anchor.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or(target))
}

/// Joins a link with the folder of the document that has it.
fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether `path` is a tracked file, or a folder with one.
fn exists(path: &str, tracked: &[String]) -> bool {
    let folder = format!("{path}/");
    tracked
        .iter()
        .any(|file| file == path || file.starts_with(&folder))
}

/// Whether a tracked file ends with the parts of `path`: maps leave out how a path begins.
fn ends_one(path: &str, tracked: &[String]) -> bool {
    let end = format!("/{path}");
    tracked.iter().any(|file| file == path || file.ends_with(&end))
}

/// Whether `word` reads like the path of a file that people write here.
fn is_file(word: &str) -> bool {
    let is_path = word.contains('/') && word.chars().all(|c| c.is_alphanumeric() || "/_-.{},".contains(c));
    is_path && [".rs", ".md", ".capnp"].iter().any(|end| word.ends_with(end))
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn spread(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (inside, after) = rest.split_once('}').unwrap_or((rest, ""));
    let each = inside.split(',').map(|name| format!("{before}{name}{after}"));
    each.flat_map(|path| spread(&path)).collect()
}

/// Numbers of decisions that `text` names, as `decisions/0007`.
fn decisions(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices("decisions/").map(|(at, word)| at + word.len());
    starts
        .filter_map(|at| text.get(at..at + 4))
        .filter(|number| number.chars().all(|c| c.is_ascii_digit()))
}

fn is_decision(number: &str, tracked: &[String]) -> bool {
    let start = format!("docs/decisions/{number}-");
    tracked.iter().any(|file| file.starts_with(&start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked() -> Vec<String> {
        [
            "docs/a.md",
            "docs/protocol/rpc.md",
            "docs/decisions/0001-x.md",
            "dataplane/edge/src/run/core.rs",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn links_lead_somewhere() {
        for (text, missing) in [
            (
                "[a](a.md) [b](protocol/rpc.md#x) [c](https://x.test/y.md) [d](#here)",
                0,
            ),
            ("[a](../docs/a.md) [folder](decisions/)", 0),
            ("[a](b.md)", 1),
            ("```\n[a](b.md)\n```\n", 0),
            ("see decisions/0001, decisions/0002", 1),
        ] {
            assert_eq!(
                document(&file("docs/x.md", text), &tracked()).len(),
                missing,
                "{text}"
            );
        }
    }

    #[test]
    fn maps_name_files_that_are_there() {
        for (text, missing) in [
            ("`edge/src/run/core.rs`, `run/core.rs`, `accept`, `a.md`", 0),
            ("`run/{core,other}.rs`", 1),
            ("`edge/src/core.rs`", 1),
        ] {
            assert_eq!(
                document(&file(MAPS[0], text), &tracked()).len(),
                missing,
                "{text}"
            );
            assert!(
                document(&file("docs/x.md", text), &tracked()).is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn comments_name_files_that_are_there() {
        for (text, missing) in [
            ("//! Source: docs/protocol/rpc.md §2, `docs/a.md`.", 0),
            ("    // Why: docs/protocol/http.md.", 1),
            ("let path = \"docs/none.md\";", 0),
            ("/// See decisions/0009.", 1),
            ("/// Source: cloudflared `connection/http2.go`.", 0),
        ] {
            assert_eq!(comments(&file("a.rs", text), &tracked()).len(), missing, "{text}");
        }
    }
}
