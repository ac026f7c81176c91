//! Where cloudflared's users keep files: the default directories, and `~` in paths.

use std::path::{Path, PathBuf};

/// The default directories, best first; those below the home directory only if there is one.
pub(super) fn directories() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let in_home = home
        .iter()
        .flat_map(|home| [".cloudflared", ".cloudflare-warp", "cloudflare-warp"].map(|name| home.join(name)));
    let system = ["/etc/cloudflared", "/usr/local/etc/cloudflared"].map(PathBuf::from);
    in_home.chain(system).collect()
}

/// The first default directory that holds one of `names`, joined with it.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let candidates = directories()
        .into_iter()
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

/// The directories in one line, for errors.
pub(super) fn listed() -> String {
    let names: Vec<String> = directories()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// Replaces a leading `~` by the home directory.
pub(super) fn expand(path: &str) -> PathBuf {
    let home = std::env::home_dir();
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_) | None, _) => Path::new(path).to_owned(),
    }
}
