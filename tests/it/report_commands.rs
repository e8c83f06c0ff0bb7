//! `rehome report` and `rehome certificate`: exit codes, forms, alarms, signatures.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rehome::event::from_hex;
use rehome::reconcile::{Summary, Verdict};
use rehome::report::{Contents, SigningKey, Written};
use tempfile::TempDir;

use crate::support::nights::{MIGRATION, discrepancy, matching, with_verdict, write, write_with};
use crate::support::rig::{Outcome, bare, finish};

fn mismatch(night: i64) -> Summary {
    with_verdict(matching(night), Verdict::Mismatch, &[("confirmed", "rows differ", 1)])
}

fn incomplete(night: i64) -> Summary {
    with_verdict(matching(night), Verdict::Incomplete, &[("cut_off", "the scan was cut off", 1)])
}

fn report(reports: &Path, arguments: &[&str]) -> Outcome {
    let mut command = bare();
    command.args(["report", MIGRATION]).args(arguments).arg("--reports").arg(reports);
    finish(command)
}

#[test]
fn the_exit_code_is_the_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = report(folder.path(), &[]).expect(3);
    assert!(missing.err.contains("no report in") && missing.err.contains("--reports"), "{missing:?}");
    write(folder.path(), matching(0), []);
    report(folder.path(), &[]).expect(0);
    let written = write(folder.path(), mismatch(1), [discrepancy(1)]);
    let shown = report(folder.path(), &[]).expect(1);
    let first = shown.out.lines().next().expect("a line");
    assert_eq!(first, "MISMATCH orders: 1 discrepancy is proven among 9,383,350 expected rows.");
    for text in
        ["all equations hold", "changed, confirmed", "32 of 32 planted faults found", "report.html", "3/A81C0D88"]
    {
        assert!(shown.out.contains(text), "{text}: {}", shown.out);
    }
    write(folder.path(), incomplete(2), []);
    report(folder.path(), &[]).expect(2);
    report(folder.path(), &["--night", "2026-03-01T02-00-00Z"]).expect(0);
    for night in ["2026-03-01T02:00:00Z", "../x", "2031-01-01T00-00-00Z"] {
        report(folder.path(), &["--night", night]).expect(3);
    }
    let json = report(folder.path(), &["--night", "2026-03-02T02-00-00Z", "--json"]).expect(1);
    assert_eq!(serde_json::from_str::<Summary>(&json.out).expect("a summary"), written.summary);
    let markdown = report(folder.path(), &["--night", "2026-03-02T02-00-00Z", "--markdown"]).expect(1);
    let kept = fs::read_to_string(written.folder.join("report.md")).expect("Markdown");
    assert_eq!(markdown.out, kept);
    assert!(kept.starts_with("# orders: MISMATCH\n"), "{kept}");
    let list = report(folder.path(), &["--list"]).expect(0);
    let verdicts: Vec<_> = list.out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(verdicts, ["verdict", "INCOMPLETE", "MISMATCH", "MATCH"]);
    assert_eq!(report(folder.path(), &["--list", "--json"]).expect(0).json().as_array().map(Vec::len), Some(3));
}

#[test]
fn a_command_is_told_of_what_is_not_a_match() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let command = format!(
        "cat > '{told}'; test -s \"$REHOME_REPORT_PAGE\" && test -s \"$REHOME_REPORT/summary.json\" && \
         echo \"$REHOME_MIGRATION $REHOME_VERDICT\" && echo heard >> '{told}.count'",
        told = told.display()
    );
    let reports = folder.path().join("reports");
    write(&reports, matching(0), []);
    report(&reports, &["--on-alarm", &command]).expect(0);
    assert!(!told.exists());
    let written = write(&reports, mismatch(1), [discrepancy(1)]);
    let outcome = report(&reports, &["--on-alarm", &command, "--json"]).expect(1);
    let heard: Summary = serde_json::from_str(&fs::read_to_string(&told).expect("told")).expect("a summary");
    assert_eq!(heard, written.summary);
    assert_eq!(outcome.json()["verdict"], "MISMATCH");
    assert!(outcome.err.contains("orders MISMATCH"), "what the command says is talk: {outcome:?}");
    write(&reports, incomplete(2), []);
    report(&reports, &["--on-alarm", &command]).expect(2);
    let count = fs::read_to_string(folder.path().join("told.count")).expect("heard");
    assert_eq!(count.lines().count(), 2);
    // Looking at a night is no alarm: what `reconcile` finds in the environment is not for `report`.
    let mut looks = bare();
    looks.args(["report", MIGRATION, "--reports"]).arg(&reports);
    looks.env("REHOME_ON_ALARM", &command).env("REHOME_WEBHOOK", "ftp://nowhere");
    let looked = finish(looks).expect(2);
    assert!(!looked.err.contains("webhook") && !looked.err.contains("orders INCOMPLETE"), "{looked:?}");
    // One that reads nothing and fails changes no exit code.
    let failed = report(&reports, &["--on-alarm", "exit 7"]).expect(2);
    assert!(failed.err.contains("the alarm command failed: exit status: 7"), "{failed:?}");
}

/// Answers requests with these codes, one each, and gives back what was posted.
fn receiver(codes: Vec<u16>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/hook?token=QuiteSecret", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let mut posted = Vec::new();
        for code in codes {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (mut text, mut buffer) = (Vec::new(), [0; 65_536]);
            loop {
                let read = stream.read(&mut buffer).expect("it is read");
                text.extend_from_slice(&buffer[..read]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
                if body.len() == length.expect("a length") {
                    posted.push(whole);
                    break;
                }
            }
            let answer = format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("it is answered");
        }
        posted
    });
    (address, thread)
}

#[test]
fn an_address_is_told_again_until_it_takes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = write(folder.path(), mismatch(0), [discrepancy(1)]);
    let (address, thread) = receiver(vec![503, 204]);
    let outcome = report(folder.path(), &["--webhook", &address]).expect(1);
    assert!(!outcome.err.contains("warning"), "{outcome:?}");
    let posted = thread.join().expect("it answered");
    assert_eq!(posted.len(), 2);
    for request in posted {
        let (head, body) = request.split_once("\r\n\r\n").expect("a request");
        assert!(head.starts_with("POST /hook?token=QuiteSecret HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
        assert_eq!(serde_json::from_str::<Summary>(body).expect("a summary"), written.summary);
    }
}

#[test]
fn an_address_that_refuses_is_told_of_without_its_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), incomplete(0), []);
    let (address, thread) = receiver(vec![302]);
    let refused = report(folder.path(), &["--webhook", &address]).expect(2);
    assert!(refused.err.contains("the webhook answered 302"), "{refused:?}");
    assert_eq!(thread.join().expect("it answered").len(), 1, "a redirect is not followed, and not asked again");
    for address in ["ftp://127.0.0.1/QuiteSecret", "QuiteSecret"] {
        let outcome = report(folder.path(), &["--webhook", address]).expect(2);
        assert!(outcome.err.contains("http or https"), "{outcome:?}");
        assert!(!outcome.err.contains("QuiteSecret"));
    }
    assert!(!refused.err.contains("QuiteSecret"));
}

/// A key pair as files of the usual form.
struct Keys {
    folder: TempDir,
    signing: SigningKey,
}

impl Keys {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let private = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private.as_ref()).expect("a key");
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a key");
        let pem = |kind: &str, bytes: &[u8]| {
            format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(bytes))
        };
        fs::write(folder.path().join("private.pem"), pem("PRIVATE KEY", private.as_ref())).expect("a file");
        fs::write(folder.path().join("public.pem"), pem("PUBLIC KEY", public.as_ref())).expect("a file");
        let signing = SigningKey::read(&folder.path().join("private.pem")).expect("a key");
        Self { folder, signing }
    }

    fn public(&self) -> PathBuf {
        self.folder.path().join("public.pem")
    }

    fn verify(&self, certificate: &Path) -> Outcome {
        let mut command = bare();
        command.args(["certificate", "verify"]).arg(certificate).arg("--public-key").arg(self.public());
        finish(command)
    }
}

fn signed(reports: &Path, keys: &Keys) -> Written {
    write_with(reports, mismatch(0), [discrepancy(1)], Contents::Hidden, Some(&keys.signing))
}

#[test]
fn a_signed_certificate_holds_for_its_key_and_its_files_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::new();
    let written = signed(folder.path(), &keys);
    let certificate = written.folder.join("certificate.json");
    let valid = keys.verify(&certificate).expect(0);
    assert!(valid.out.starts_with("VALID") && valid.out.contains("orders MISMATCH"), "{valid:?}");
    assert_eq!(valid.out.matches("as signed").count(), 4);
    let other = Keys::new().verify(&certificate).expect(1);
    assert!(other.out.contains("NOT VALID") && other.out.contains("by this key"), "{other:?}");
    // A certificate by itself, away from its files, still holds.
    let alone = folder.path().join("alone.json");
    fs::copy(&certificate, &alone).expect("a copy");
    assert_eq!(keys.verify(&alone).expect(0).out.matches("not beside").count(), 4);
    fs::write(written.folder.join("summary.json"), "{}").expect("it is changed");
    let changed = keys.verify(&certificate).expect(1);
    assert!(changed.out.contains("summary.json: CHANGED"), "{changed:?}");
}

/// What `docs/nightly.md` says about other tools.
#[test]
fn openssl_makes_the_keys_and_checks_the_signature() {
    let folder = tempfile::tempdir().expect("a folder");
    let openssl = |arguments: &[&str]| {
        let output =
            Command::new("openssl").args(arguments).current_dir(folder.path()).output().expect("openssl starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]);
    openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "key.pub.pem"]);
    let signing = SigningKey::read(&folder.path().join("key.pem")).expect("a key");
    let written = write_with(folder.path(), mismatch(0), [discrepancy(1)], Contents::Hidden, Some(&signing));
    let certificate = written.folder.join("certificate.json");
    let mut command = bare();
    command
        .args(["certificate", "verify"])
        .arg(&certificate)
        .arg("--public-key")
        .arg(folder.path().join("key.pub.pem"));
    finish(command).expect(0);
    let text = fs::read_to_string(&certificate).expect("a certificate");
    let inner = text.strip_prefix("{\"certificate\":").and_then(|text| text.split_once(",\"signature\":{"));
    let (inner, signature) = inner.expect("the two members");
    let value = signature.split_once("\"value\":\"").and_then(|(_, value)| value.split_once('"')).expect("a value").0;
    fs::write(folder.path().join("signed"), format!("rehome certificate 1\n{inner}")).expect("a file");
    fs::write(folder.path().join("signature"), from_hex(value).expect("digits")).expect("a file");
    let verify =
        ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pub.pem", "-in", "signed", "-sigfile", "signature"];
    openssl(&verify);
}

#[test]
fn a_certificate_that_was_touched_does_not_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::new();
    let text = fs::read_to_string(signed(folder.path(), &keys).folder.join("certificate.json")).expect("a certificate");
    let unsigned = write(&folder.path().join("unsigned"), mismatch(0), []).folder.join("certificate.json");
    assert!(keys.verify(&unsigned).expect(1).out.contains("it is not signed"));
    let touched = folder.path().join("touched.json");
    let (_, key) = text.split_once("\"key\":\"").expect("the key's name");
    let (key, _) = key.split_once('"').expect("the key's name");
    let (_, value) = text.split_once("\"value\":\"").expect("the signature");
    let (value, _) = value.split_once('"').expect("the signature");
    let cases = [
        (text.replace(key, &"ab".repeat(32)), "by this key"),
        (text.replace(value, &value.to_uppercase()), "by this key"),
        (text.replacen("\"MISMATCH\"", "\"MATCH\"", 1), "by this key"),
        (text.replacen("\"found\":1", "\"found\":0", 1), "by this key"),
        // Another way to write the same is refused too: two readers might see two things in it.
        (text.replacen("{", "{ ", 1), "canonical"),
        (text.replacen("\"verdict\":\"MISMATCH\"", "\"verdict\":\"MATCH\",\"verdict\":\"MISMATCH\"", 1), "canonical"),
        (text.replacen("\"algorithm\":\"ed25519\"", "\"algorithm\":\"none\"", 1), "by this key"),
        (text.replacen("\"value\":\"", "\"value\":\"00", 1), "by this key"),
        ("{}".to_owned(), "canonical"),
    ];
    for (case, reason) in cases {
        assert_ne!(case, text);
        fs::write(&touched, &case).expect("a file");
        let outcome = keys.verify(&touched).expect(1);
        assert!(outcome.out.contains("NOT VALID") && outcome.out.contains(reason), "{reason}: {outcome:?}");
    }
    fs::write(&touched, &text).expect("a file");
    keys.verify(&touched).expect(0);
}

#[test]
fn a_file_that_is_no_key_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::new();
    let certificate = signed(folder.path(), &keys).folder.join("certificate.json");
    let mut command = bare();
    command.args(["certificate", "verify"]).arg(&certificate).arg("--public-key").arg(&certificate);
    let outcome = finish(command).expect(3);
    assert!(outcome.err.contains("a public Ed25519 key") && outcome.err.contains("openssl"), "{outcome:?}");
    assert!(SigningKey::read(&keys.public()).is_err());
}
