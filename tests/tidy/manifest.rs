//! Rules about manifests.

use super::File;

/// Crates that hold no I/O, so that everything in them can be simulated and fuzzed.
const PURE: [&str; 2] = ["dataplane/wire/Cargo.toml", "dataplane/proto/Cargo.toml"];

/// Starts of the names of crates that reach the outside.
const IO: [&str; 18] = [
    "async-io",
    "async-std",
    "getrandom",
    "h2",
    "h3",
    "hyper",
    "io-uring",
    "libc",
    "mio",
    "nix",
    "quinn",
    "reqwest",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "tonic",
    "ureq",
];

/// Dependencies of a pure crate that do I/O.
pub(crate) fn pure(file: &File) -> Vec<String> {
    if !PURE.contains(&file.path.as_str()) {
        return Vec::new();
    }
    dependencies(&file.text)
        .into_iter()
        .filter(|name| {
            IO.iter()
                .any(|io| *name == *io || name.starts_with(&format!("{io}-")))
        })
        .map(|name| format!("{} depends on {name}, which does I/O", file.path))
        .collect()
}

/// Names in all dependency tables, also those written as a table each or renamed with `package`.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            is_inside = header.split('.').any(|part| part.ends_with("dependencies"));
            let table = header.rsplit_once("dependencies.").map(|(_, name)| name);
            names.extend(table);
        } else if is_inside && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            let package = line
                .split_once("package")
                .and_then(|(_, value)| value.split('"').nth(1));
            names.extend(
                [Some(name), package]
                    .into_iter()
                    .flatten()
                    .filter(|name| !name.is_empty()),
            );
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(manifest: &str, expected: usize) {
        let file = |path: &str| File {
            path: path.to_owned(),
            text: manifest.to_owned(),
        };
        assert_eq!(pure(&file(PURE[0])).len(), expected, "{manifest}");
        assert!(pure(&file("dataplane/driver/Cargo.toml")).is_empty());
    }

    #[test]
    fn io_is_seen_however_it_is_written() {
        check("[dependencies]\ntokio = \"1\"\n", 1);
        check(
            "[dependencies]\ntokio.workspace = true\nhyper-util = { version = \"1\" }\n",
            2,
        );
        check("[target.'cfg(unix)'.dependencies]\nnix = \"0\"\n", 1);
        check("[dev-dependencies.socket2]\nversion = \"0\"\n", 1);
        check(
            "[dependencies]\nring = { package = \"io-uring\", version = \"0\" }\n",
            1,
        );
        check(
            "[dependencies]\nbytes = \"1\"\n# tokio = \"1\"\n[features]\ntokio = []\n",
            0,
        );
    }
}
