//! Holds the tree to what lints cannot: names and sizes of files, where unsafe code may live, which
//! crates may touch the outside, what lies at the top, whether what is cited exists.
//!
//! Only files that git tracks count, as they are in the working tree. A rule is a function from a file to its
//! breaches and lies in a module with cases of its own. Here each is applied to the whole tree, and all
//! breaches are shown at once.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Command;

mod code;
mod rules;
mod layout;
mod manifest;
mod citations;
mod width;
mod glossary;

/// A tracked file: path from the root of the repository, with `/` between its parts.
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests lie in a folder of the repository")
        .to_owned()
}

/// Code of others, which keeps its own habits: quinn-proto with the changes that its `CHANGES.md` lists.
const FOREIGN: &str = "dataplane/quinn-proto/";

/// Paths of all tracked files of ours that are still there.
fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files", "-z"])
        .output()
        .expect("git runs");
    assert!(
        listed.status.success(),
        "tidy reads the list of tracked files, so it needs a clone"
    );
    let text = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let paths: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    paths
        .into_iter()
        .filter(|path| !path.starts_with(FOREIGN) && root().join(path).exists())
        .collect()
}

/// Tracked files that end with `suffix`.
fn files(suffix: &str) -> Vec<File> {
    let files: Vec<File> = tracked()
        .into_iter()
        .filter(|path| path.ends_with(suffix))
        .map(|path| {
            let text =
                std::fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            File { path, text }
        })
        .collect();
    assert!(!files.is_empty(), "no tracked {suffix} file");
    files
}

/// Sources that people write.
fn sources() -> Vec<File> {
    files(".rs")
        .into_iter()
        .filter(|file| !file.path.contains("/generated/"))
        .collect()
}

fn assert_none(breaches: Vec<String>) {
    assert!(
        breaches.is_empty(),
        "{} breaches:\n  {}",
        breaches.len(),
        breaches.join("\n  ")
    );
}

/// Applies one rule to every source.
fn assert_sources(rule: fn(&File) -> Vec<String>) {
    assert_none(sources().iter().flat_map(rule).collect());
}

#[test]
fn files_are_short() {
    assert_sources(rules::length);
}

#[test]
fn every_file_says_what_it_owns() {
    assert_sources(rules::module_docs);
}

#[test]
fn unsafe_code_lives_in_one_folder() {
    assert_sources(rules::unsafe_code);
}

#[test]
fn every_other_crate_forbids_unsafe_code() {
    assert_sources(rules::forbids_unsafe);
}

#[test]
fn nothing_is_left_for_later() {
    assert_sources(rules::unfinished);
}

#[test]
fn comments_are_narrow() {
    assert_sources(width::comments);
}

#[test]
fn one_word_has_one_meaning() {
    let documents = files(".md");
    let sources = sources();
    let all = documents.iter().chain(&sources);
    assert_none(all.flat_map(glossary::words).collect());
}

#[test]
fn names_are_nouns_of_the_domain() {
    assert_none(tracked().iter().flat_map(|path| layout::names(path)).collect());
}

#[test]
fn the_top_keeps_its_agreed_names() {
    assert_none(
        tracked()
            .iter()
            .flat_map(|path| layout::top_level(path))
            .collect(),
    );
}

#[test]
fn pure_crates_depend_on_no_io() {
    assert_none(files("Cargo.toml").iter().flat_map(manifest::pure).collect());
}

#[test]
fn what_is_cited_is_there() {
    let tracked = tracked();
    let documents = files(".md");
    let in_documents = documents
        .iter()
        .flat_map(|file| citations::document(file, &tracked));
    let sources = sources();
    let in_comments = sources
        .iter()
        .flat_map(|file| citations::comments(file, &tracked));
    assert_none(in_documents.chain(in_comments).collect());
}
