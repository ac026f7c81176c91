//! The rule about words that mean what another word of the glossary (`docs/CONTRIBUTING.md`) means.

use super::File;

/// Each word, also as plural, and what to say.
const REPLACED: [(&str, &str); 10] = [
    ("backend", "origin"),
    ("courier", "outbox"),
    ("daemon", "edge, connector or control"),
    ("datacenter", "colo"),
    ("downstream", "public side"),
    ("eyeball", "visitor"),
    ("frontend", "public side"),
    ("instance", "replica"),
    ("tether", "signal"),
    ("upstream", "origin"),
];

/// Files that must name such a word, each with the word: names and texts of others.
const NAMES_OF_OTHERS: [(&str, &str); 10] = [
    // Settings of nginx and haproxy.
    ("bench/src/suite/subject/proxy.rs", "backend"),
    ("bench/src/suite/subject/proxy.rs", "daemon"),
    ("bench/src/suite/subject/proxy.rs", "frontend"),
    ("bench/src/suite/subject/proxy.rs", "upstream"),
    ("tests/src/origin/nginx.rs", "daemon"),
    // A part of redb.
    ("control/server/src/store/redb/tests.rs", "backend"),
    // Error texts that must be cloudflared's.
    ("dataplane/proto/src/ingress/error.rs", "eyeball"),
    ("dataplane/proto/src/ingress/service.rs", "eyeball"),
    ("docs/protocol/ingress-config.md", "eyeball"),
    // RFC 8305.
    ("dataplane/connector/src/origin/race.rs", "eyeball"),
];

/// The glossary itself, and this list.
const LISTS: [&str; 2] = ["docs/CONTRIBUTING.md", "tests/tidy/glossary.rs"];

/// Lines with a word that another one replaces.
pub(crate) fn words(file: &File) -> Vec<String> {
    if LISTS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let mut breaches = Vec::new();
    for (line, number) in file.text.lines().zip(1..) {
        let lower = line.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric()) {
            let Some((word, better)) = replaced(word) else {
                continue;
            };
            // The name of a flag and of a technique.
            let is_happy = word == "eyeball" && lower.contains("happy");
            if !is_happy && !NAMES_OF_OTHERS.contains(&(file.path.as_str(), word)) {
                breaches.push(format!("{}:{number} says {word}; say {better}", file.path));
            }
        }
    }
    breaches
}

fn replaced(word: &str) -> Option<(&'static str, &'static str)> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    REPLACED.into_iter().find(|(replaced, _)| *replaced == singular)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_words_are_seen_in_code_and_prose() {
        for (path, text, expected) in [
            ("docs/x.md", "All backends of the Upstream.", 2),
            ("a.rs", "let backend_count = 1; // Upstreams.", 2),
            ("a.rs", "for instance", 1),
            ("a.rs", "no-happy-eyeballs", 0),
            ("a.rs", "instant, upstreaming", 0),
            (LISTS[0], "backend", 0),
            ("tests/src/origin/nginx.rs", "daemon off; upstream", 1),
        ] {
            let file = File {
                path: path.to_owned(),
                text: text.to_owned(),
            };
            assert_eq!(words(&file).len(), expected, "{text}");
        }
    }
}
