//! The lines, and how ours fares beside the stock one.

use Beside::{Alike, Status, Words};

/// How a line fares.
#[derive(Debug)]
pub(super) enum Beside {
    /// Status and standard output are the same, and our error says what theirs ends with.
    Alike,
    /// The status is the same, words are not.
    Words(&'static str),
    /// The status is another: ours, theirs.
    Status(i32, i32, &'static str),
}

/// Files that lines name.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "good.yml",
        "ingress:\n- {hostname: '*.app.test', path: ^/a, service: 'http://127.0.0.1:80'}\n- service: http_status:404\n",
    ),
    ("odd.yml", "ingres: 1\ningress:\n- service: http_status:404\n"),
    ("bad.yml", "ingress: [1\n"),
    ("empty.yml", ""),
    ("tunnel.yml", "tunnel: {id}\n"),
    ("not-a-token", "%%%"),
    ("broken.json", "{"),
];

// Each reason stands in docs/compatibility.md as well.
const REFUSED: &str = "a wrong flag, a wrong value of one or an unknown command is status 2 and a line on standard error; cloudflared prints its help on standard output and ends with 0 or 3, and a script goes on";
const ANYWHERE: &str = "flags may stand behind arguments, where cloudflared takes them for arguments";
const CLEANUP: &str = "a cleanup that failed ends with 1; cloudflared logs the failure and ends with 0";
const WHEN: &str = "`--when` filters; cloudflared reads it under another name and ignores it";
const PLACE: &str = "`tunnel` and its commands take each other's flags";
const PARSER: &str = "the words of parsers and of the system are those of other libraries";
const CERT: &str = "a credential that is missing or unfit is told in a line with what to try";
const EMPTY: &str = "an empty configuration file is told to whom it concerns, `run` and `ingress`";
const UNKNOWN_KEY: &str = "unknown keys are told, with the nearest known one";
const CASE: &str = "hostnames match whatever the case of their letters";
const SCHEME: &str = "`app.test:80` and `mailto:x` are no URLs with a hostname; cloudflared takes what stands before the colon for a scheme and matches an empty hostname";
const HELP: &str = "help texts are other texts";
const VERSION: &str = "another program has another version";
const TAIL: &str =
    "`tail` without a tunnel, a hostname or a credential is an error; cloudflared logs it and ends with 0";
const GONE: &str = "commands that cloudflared has given up, or that need its cloud, are unknown";
const UNDONE: &str = "a tunnel whose credentials file cannot be written is deleted again, in other words";
const QUICK: &str = "nobody gives quick tunnels by default, so `--quick-service` is asked for";
const NO_COMMAND: &str = "`tunnel` without anything to do says so in other words";
const SORT: &str = "a field that cannot be sorted by is told, also where there is nothing to sort";
const NO_FILE: &str = "without a configuration file the text says where one may lie";
const SHORT_LIVED: &str = "nobody issues short-lived certificates";

/// The lines. `T` stands for `tunnel` with the address and the credential of control.
pub(super) const CASES: &[(&str, Beside)] = &[
    ("T list", Alike),
    ("T list -o json", Alike),
    ("T list -o yaml", Alike),
    ("T list -o xml", Alike),
    ("T --output json list", Alike),
    ("T list extra", Alike),
    ("T list --sort-by bogus", Alike),
    ("T list --sort-by createdAt --invert-sort", Alike),
    ("T list --sort-by numConnections", Alike),
    ("T list --id bad", Words(PARSER)),
    ("T list --id 00000000-0000-0000-0000-000000000001", Alike),
    ("T list --id {id}", Alike),
    ("T list --name lab", Alike),
    ("T list --name nobody", Alike),
    ("T list -d --name lab", Alike),
    ("T list --name-prefix l", Alike),
    ("T list -np l", Alike),
    ("T list -enp l", Alike),
    ("T list -rd", Alike),
    ("T list --when bad", Status(1, 0, REFUSED)),
    ("T list --when 2020-01-02T03:04:05Z", Words(WHEN)),
    ("T list --bogus", Status(2, 0, REFUSED)),
    ("T list --max-fetch-size 1", Words(PLACE)),
    ("T --max-fetch-size 1 list", Alike),
    ("T --max-fetch-size x list", Status(2, 0, REFUSED)),
    ("T --loglevel bogus list", Words(PARSER)),
    ("T --loglevel WARN list", Words(PARSER)),
    ("T --output bogus list", Alike),
    ("T --config bad.yml list", Words(PARSER)),
    ("T --config nonexistent.yml list", Alike),
    ("T --config empty.yml list", Words(EMPTY)),
    ("T --config odd.yml list", Alike),
    ("tunnel list", Words(CERT)),
    ("tunnel --origincert nonexistent list", Words(CERT)),
    ("tunnel --origincert good.yml --api-url {api} list", Alike),
    (
        "tunnel --origincert {cert} --api-url http://127.0.0.1:1/x list",
        Alike,
    ),
    ("T info", Alike),
    ("T info lab idle", Alike),
    ("T info lab", Alike),
    ("T info {id}", Alike),
    ("T info 00000000-0000-0000-0000-000000000001", Alike),
    ("T info nobody", Alike),
    ("T info idle", Alike),
    ("T info -o json lab", Alike),
    ("T info -o yaml lab", Alike),
    ("T info -o json idle", Alike),
    ("T info -o xml lab", Alike),
    ("T info --sort-by bogus lab", Words(SORT)),
    ("T info --sort-by version --invert-sort lab", Alike),
    ("T info -rd lab", Alike),
    ("T info ''", Alike),
    ("T info lab --bogus", Status(2, 255, ANYWHERE)),
    ("T cleanup", Alike),
    ("T cleanup nobody", Alike),
    (
        "T cleanup 00000000-0000-0000-0000-000000000001",
        Status(1, 0, CLEANUP),
    ),
    ("T cleanup -c bad idle", Words(PARSER)),
    ("T cleanup -c 00000000-0000-0000-0000-000000000001 idle", Alike),
    ("T cleanup idle", Alike),
    ("T cleanup idle nobody", Alike),
    (
        "T cleanup 00000000-0000-0000-0000-000000000001 idle",
        Status(1, 0, CLEANUP),
    ),
    ("T delete", Alike),
    ("T delete nobody", Alike),
    ("T delete 00000000-0000-0000-0000-000000000001", Alike),
    ("T delete lab", Alike),
    ("T delete idle nobody", Alike),
    ("T token", Alike),
    ("T token lab idle", Alike),
    ("T token nobody", Alike),
    ("T token 00000000-0000-0000-0000-000000000001", Alike),
    ("T token lab", Alike),
    ("T token --cred-file good.yml lab", Alike),
    ("T create", Alike),
    ("T create a b", Alike),
    ("T create ''", Alike),
    ("T create 00000000-0000-0000-0000-000000000001", Alike),
    ("T create lab", Alike),
    ("T create --secret short x", Words(PARSER)),
    ("T create -s AAAA x", Alike),
    ("T create --cred-file nowhere/x.json x", Words(UNDONE)),
    ("T route", Words(HELP)),
    ("T route bogus", Status(2, 3, REFUSED)),
    ("T route dns", Alike),
    ("T route dns lab", Alike),
    ("T route dns lab a b", Alike),
    ("T route dns nobody a.example.test", Alike),
    ("T route dns lab a~b", Alike),
    ("T route dns lab ''", Alike),
    ("T route dns lab {own}.example.test", Alike),
    ("T route dns lab {own}.example.test", Alike),
    ("T route dns idle {own}.example.test", Alike),
    ("T route dns -f idle {own}.example.test", Alike),
    ("tunnel run", Alike),
    ("tunnel run a b", Alike),
    ("tunnel run --token x", Alike),
    ("tunnel run --token YWJj", Alike),
    ("tunnel run --token ''", Alike),
    ("tunnel run --token-file nonexistent", Alike),
    ("tunnel run --token-file not-a-token", Alike),
    ("tunnel run nobody", Words(CERT)),
    ("T run nobody", Alike),
    ("tunnel run 00000000-0000-0000-0000-000000000001", Alike),
    (
        "tunnel run --cred-file nonexistent.json 00000000-0000-0000-0000-000000000001",
        Alike,
    ),
    (
        "tunnel run --cred-file broken.json 00000000-0000-0000-0000-000000000001",
        Alike,
    ),
    (
        "tunnel run --cred-file {cert} 00000000-0000-0000-0000-000000000001",
        Words(CERT),
    ),
    (
        "tunnel run --credentials-contents { 00000000-0000-0000-0000-000000000001",
        Alike,
    ),
    ("tunnel run --bogus", Status(2, 0, REFUSED)),
    ("tunnel --config nonexistent.yml run", Alike),
    ("tunnel --config bad.yml run", Words(PARSER)),
    ("tunnel --config tunnel.yml run", Alike),
    ("tunnel --grace-period soon run {id}", Status(2, 0, REFUSED)),
    ("tunnel ingress", Words(HELP)),
    ("tunnel ingress bogus", Status(2, 3, REFUSED)),
    ("tunnel ingress validate", Words(NO_FILE)),
    ("tunnel --config good.yml ingress validate", Alike),
    ("tunnel --config good.yml ingress validate extra", Alike),
    ("tunnel --config bad.yml ingress validate", Words(PARSER)),
    ("tunnel --config empty.yml ingress validate", Words(NO_FILE)),
    ("tunnel --config odd.yml ingress validate", Words(UNKNOWN_KEY)),
    ("tunnel --config nonexistent.yml ingress validate", Alike),
    ("tunnel --config good.yml --url http://x ingress validate", Alike),
    (
        r#"tunnel ingress validate --json {"ingress":[{"service":"http_status:404"}]}"#,
        Alike,
    ),
    ("tunnel ingress validate --json {", Words(PARSER)),
    ("tunnel ingress validate -j {}", Alike),
    ("tunnel ingress rule", Alike),
    ("tunnel --config good.yml ingress rule ''", Alike),
    ("tunnel --config good.yml ingress rule a b", Alike),
    (
        "tunnel --config good.yml ingress rule https://q.app.test/a b",
        Alike,
    ),
    (
        "tunnel --config good.yml ingress rule https://q.app.test/a?b",
        Alike,
    ),
    (
        "tunnel --config good.yml ingress rule https://q.app.test/%61",
        Alike,
    ),
    (
        "tunnel --config good.yml ingress rule https://q.app.test/a~b",
        Alike,
    ),
    (
        "tunnel --config good.yml ingress rule https://Q.APP.test/a",
        Words(CASE),
    ),
    ("tunnel --config good.yml ingress rule /a", Alike),
    ("tunnel --config good.yml ingress rule q.app.test/a", Alike),
    (
        "tunnel --config good.yml ingress rule q.app.test:80",
        Status(1, 0, SCHEME),
    ),
    (
        "tunnel --config good.yml ingress rule mailto:x",
        Status(1, 0, SCHEME),
    ),
    ("tunnel --config good.yml ingress rule http://[::1", Alike),
    ("tunnel --config good.yml ingress rule http://%zz", Alike),
    ("tunnel --config bad.yml ingress rule http://x", Words(PARSER)),
    ("tunnel --config nonexistent.yml ingress rule http://x", Alike),
    ("tunnel", Words(NO_COMMAND)),
    ("tunnel bogus", Status(2, 1, REFUSED)),
    ("tunnel --bogus", Status(2, 0, REFUSED)),
    ("tunnel --config tunnel.yml", Alike),
    (
        "tunnel --url http://127.0.0.1:1 --quick-service http://127.0.0.1:1",
        Alike,
    ),
    ("tunnel --url http://127.0.0.1:1 --quick-service ''", Words(QUICK)),
    ("tunnel --name x --url x.test --hostname x.test", Words(PARSER)),
    ("tunnel ready", Alike),
    ("tunnel --metrics 127.0.0.1:1 ready", Alike),
    ("tunnel --metrics 127.0.0.1:1 ready extra", Alike),
    ("tunnel db-connect", Status(2, 255, GONE)),
    ("proxy-dns", Status(2, 1, GONE)),
    ("bogus", Status(2, 1, REFUSED)),
    ("version", Words(VERSION)),
    ("version --short", Words(VERSION)),
    ("--version", Words(VERSION)),
    ("-v", Words(VERSION)),
    ("access", Words(HELP)),
    ("access bogus", Status(2, 3, REFUSED)),
    ("access tcp", Status(2, 0, REFUSED)),
    ("access ssh-config", Alike),
    ("access ssh-config --hostname a.test", Alike),
    (
        "access ssh-config --hostname a.test --short-lived-cert",
        Status(1, 0, SHORT_LIVED),
    ),
    ("tail --management-hostname m.test", Status(255, 0, TAIL)),
    ("tail --management-hostname m.test {id}", Status(1, 0, TAIL)),
    ("tail {id}", Status(2, 0, TAIL)),
    ("tail token bad", Words(CERT)),
    ("management token {id}", Status(2, 0, REFUSED)),
    ("management token --resource bogus {id}", Alike),
];
