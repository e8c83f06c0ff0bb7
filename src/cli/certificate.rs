//! `rehome certificate`: checks what someone else's comparison claims.

use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::event::to_hex;
use crate::report::certificate::verify;
use crate::report::{Certificate, PublicKey, words};

use super::args::{CertificateAction, Global};
use super::exit::Exit;
use super::{Failure, output};

/// What became of a file that a certificate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Beside {
    /// It is what the certificate says.
    Same,
    /// It is something else.
    Changed,
    /// It is not there, which takes nothing from the certificate.
    Absent,
}

/// Does what is asked with a certificate.
pub fn run(global: &Global, action: CertificateAction) -> Result<Exit, Failure> {
    let CertificateAction::Verify { file, public_key } = action;
    let key = PublicKey::read(&public_key)?;
    let text = std::fs::read_to_string(&file).map_err(|error| Failure {
        message: format!("cannot read {}: {error}", file.display()),
        hint: Some("name the certificate.json of a night".to_owned()),
    })?;
    let certificate = match verify(&text, &key) {
        Ok(certificate) => certificate,
        Err(invalid) => {
            if global.json {
                output::json(&json!({ "valid": false, "reason": invalid.to_string() }));
            } else {
                output::line(format!("NOT VALID {}: {invalid}", file.display()));
            }
            return Ok(Exit::Mismatch);
        }
    };
    let files = beside(&file, &certificate)?;
    let valid = files.iter().all(|(_, beside)| *beside != Beside::Changed);
    if global.json {
        let files: serde_json::Map<_, _> = files.iter().map(|(name, beside)| (name.clone(), json!(beside))).collect();
        output::json(&json!({ "valid": valid, "files": files, "certificate": certificate }));
    } else {
        show(&file, &certificate, &files, valid);
    }
    Ok(if valid { Exit::Success } else { Exit::Mismatch })
}

/// Compares the files beside a certificate with what it says of them.
fn beside(file: &Path, certificate: &Certificate) -> Result<Vec<(String, Beside)>, Failure> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for (name, digest) in &certificate.files {
        // Names come from a signed text, and still lead nowhere but beside it.
        let path = folder.join(Path::new(name).file_name().unwrap_or_default());
        let beside = match std::fs::File::open(&path) {
            Ok(mut file) => {
                let mut hasher = Sha256::new();
                std::io::copy(&mut file, &mut Writes(&mut hasher))
                    .map_err(|error| Failure::from(format!("cannot read {}: {error}", path.display())))?;
                if to_hex(&hasher.finalize()) == *digest { Beside::Same } else { Beside::Changed }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Beside::Absent,
            Err(error) => return Err(Failure::from(format!("cannot read {}: {error}", path.display()))),
        };
        found.push((name.clone(), beside));
    }
    Ok(found)
}

fn show(file: &Path, certificate: &Certificate, files: &[(String, Beside)], valid: bool) {
    let word = if valid { "VALID" } else { "NOT VALID" };
    output::line(format!("{word} {}", file.display()));
    for (name, beside) in files {
        let words = match beside {
            Beside::Same => "as signed",
            Beside::Changed => "CHANGED since it was signed",
            Beside::Absent => "not beside the certificate",
        };
        output::line(format!("  {}: {words}", words::plain(name)));
    }
    let (migration, verdict) = (words::plain(&certificate.migration), words::verdict(certificate.verdict));
    output::line(format!(
        "  says: {migration} {verdict}, {}, begun {}",
        words::grade(certificate.grade),
        words::time(certificate.started)
    ));
}

/// Lets a digest be copied into.
struct Writes<'a>(&'a mut Sha256);

impl std::io::Write for Writes<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
