//! A hundred command lines, odd ones most of them, of our executable and the stock one side by side.
//!
//! Both ask the same control, with a stock connector connected. Compared are the status, standard output to
//! the byte, and whether our error says what theirs says. Intended differences are listed with their reasons
//! in `cases`, and in `docs/compatibility.md`.

mod cases;

use std::path::Path;
use std::process::Output;

use adit_tests::binary::{self, IoMode};
use adit_tests::process::command;
use adit_tests::site::Site;
use serde_json::Value;

use self::cases::{Beside, CASES};

/// Shorter causes say too little to be compared alone.
const POINT_BYTES_MIN: usize = 8;

/// What one program said, with everything replaced that is its own.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    output: String,
    error: String,
}

/// What the words of a line stand for.
struct Places<'a> {
    site: &'a Site,
    id: String,
}

impl Places<'_> {
    /// The arguments of a line: `''` is an empty one, `~` a space inside of one.
    fn arguments(&self, line: &str, own: &str) -> Vec<String> {
        let control = &self.site.control;
        let cert = control.origin_cert().display().to_string();
        let line = line.replacen(
            "T ",
            &format!("tunnel --api-url {} --origincert {cert} ", control.api()),
            1,
        );
        let word = |word: &str| match word {
            "''" => String::new(),
            word => word
                .replace('~', " ")
                .replace("{id}", &self.id)
                .replace("{api}", control.api())
                .replace("{cert}", &cert)
                .replace("{own}", own),
        };
        line.split(' ').map(word).collect()
    }

    fn run(&self, program: &Path, line: &str, own: &str) -> Said {
        let mut called = command(program);
        called
            .env("HOME", self.site.folder())
            .current_dir(self.site.folder());
        let done = binary::output(called.args(self.arguments(line, own)));
        Said::of(&done, program, own)
    }
}

impl Said {
    fn of(done: &Output, program: &Path, own: &str) -> Self {
        let neutral = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes)
                .replace(&program.display().to_string(), "PROGRAM")
                .replace("cloudflared", "PROGRAM")
                .replace("adit", "PROGRAM")
                .replace(own, "OWN");
            let lines: Vec<&str> = text.lines().map(without_time).collect();
            lines.join("\n").trim_end().to_owned()
        };
        Self {
            status: done.status.code(),
            output: neutral(&done.stdout),
            error: neutral(&done.stderr),
        }
    }

    /// Whether our error says what theirs ends with, perhaps more.
    fn says_what(&self, theirs: &Self) -> bool {
        let is_told = |line: &&str| !line.is_empty() && !line.starts_with("See '");
        let Some(last) = theirs.error.lines().rev().find(is_told) else {
            return self.error.is_empty();
        };
        // The cause behind the last colon, and what is before it if that is a number or the like.
        let starts = last.rmatch_indices(": ").map(|(at, colon)| at + colon.len());
        let point = starts
            .map(|start| &last[start..])
            .find(|point| point.len() >= POINT_BYTES_MIN);
        let point = point.unwrap_or(last).to_lowercase();
        self.error.to_lowercase().contains(point.trim_end_matches('.'))
    }
}

/// A log line without its time; any other as it is.
fn without_time(line: &str) -> &str {
    match line.split_once(' ') {
        Some((time, rest)) if time.len() == 20 && time.ends_with('Z') && time.starts_with("20") => rest,
        Some(_) | None => line,
    }
}

fn judge(case: &Beside, ours: &Said, theirs: &Said) -> Result<(), String> {
    let is_alike = ours.status == theirs.status && ours.output == theirs.output && ours.says_what(theirs);
    let is_right = match case {
        Beside::Alike => is_alike,
        Beside::Words(_) => ours.status == theirs.status && !is_alike,
        Beside::Status(here, there, _) => (ours.status, theirs.status) == (Some(*here), Some(*there)),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("{case:?}\n  ours: {ours:?}\n  theirs: {theirs:?}"))
    }
}

fn the_same_words_do_the_same(io: IoMode) {
    let Some(stock) = crate::stock("the_same_words_do_the_same") else {
        return;
    };
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    for name in ["idle", "gone"] {
        site.control
            .create(name, &site.folder().join(format!("{name}.json")));
    }
    site.control.run(["delete", "gone"]);
    let _connector = crate::serve(
        stock.clone(),
        &site,
        &tunnel,
        "http_status:204",
        crate::Over::Quic,
    );
    for (name, text) in cases::FILES {
        site.write(name, &text.replace("{id}", &tunnel.id.to_string()));
    }
    let places = Places {
        site: &site,
        id: tunnel.id.to_string(),
    };
    let mut wrong = Vec::new();
    for (line, beside) in CASES {
        let ours = places.run(binary::adit(), line, "first");
        let theirs = places.run(&stock, line, "other");
        if let Err(why) = judge(beside, &ours, &theirs) {
            wrong.push(format!("{line}: {why}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        CASES.len(),
        wrong.join("\n")
    );
}

/// What differs is told, once and with its reason.
#[test]
fn the_table_of_differences_is_in_the_docs() {
    assert!(CASES.len() >= 100, "{}", CASES.len());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let docs = std::fs::read_to_string(docs).expect("the docs");
    for (line, beside) in CASES {
        if let Beside::Words(reason) | Beside::Status(_, _, reason) = beside {
            assert!(docs.contains(reason), "{line}: {reason}");
        }
    }
}

/// A new tunnel as a document, without what is its own.
fn shape(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((key, _)) => key.to_owned(),
        None => line.to_owned(),
    });
    lines.collect()
}

fn a_new_tunnel_is_printed_with_its_token(io: IoMode) {
    let Some(stock) = crate::stock("a_new_tunnel_is_printed_with_its_token") else {
        return;
    };
    let site = Site::start(io);
    let create = |program: &Path, format: &str, name: &str| {
        let file = site.folder().join(format!("{name}.json")).display().to_string();
        let mut tool = site.control.tool(program);
        let made = binary::output(tool.args(["create", "-o", format, "--credentials-file", &file, name]));
        assert!(made.status.success(), "{made:?}");
        String::from_utf8_lossy(&made.stdout).into_owned()
    };
    for format in ["json", "yaml"] {
        let ours = create(binary::adit(), format, &format!("ours-{format}"));
        let theirs = create(&stock, format, &format!("theirs-{format}"));
        assert_eq!(shape(&ours), shape(&theirs), "{ours}\n{theirs}");
    }
    let made: Value = serde_json::from_str(&create(binary::adit(), "json", "lab")).expect("JSON");
    let token = made["token"].as_str().expect("a token");
    assert_eq!(site.control.run(["token", "lab"]).trim(), token);
}

adit_tests::in_both_modes!(the_same_words_do_the_same, a_new_tunnel_is_printed_with_its_token);
