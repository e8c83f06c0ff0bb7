//! The certificate: what a comparison claims, in a form that can be handed on, checked against the files beside it, and
//! signed.
//!
//! It is canonical JSON as RFC 8785 describes it, restricted to what it holds: no fractions, no integers beyond 2^53. The
//! signature is Ed25519 over [`DOMAIN`] and the canonical text of the member `certificate`, so that any tool can check it.
//! A text that is not in that form is refused, whatever it says: two readers must not read it differently.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use crate::event::{from_hex, to_hex};
use crate::reconcile::{
    Budget, CanaryClass, Cut, Details, ExpectResult, Grade, Hop, Ids, LedgerEntry, RuleUse, SourceCount, Summary,
    TargetCount, Verdict, Why,
};

/// Begins every text that is signed, so that a signature of something else is none of a certificate.
pub const DOMAIN: &str = "rehome certificate 1\n";
/// Name of the only algorithm.
const ALGORITHM: &str = "ed25519";

/// What is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Version of this form, as of the summary.
    pub version: u32,
    /// Name of the migration.
    pub migration: String,
    /// When the comparison began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How sure the verdict is.
    pub grade: Grade,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is that.
    pub why: Vec<Why>,
    /// What it speaks of.
    pub cut: Cut,
    /// What both sides were compared by.
    pub ids: Ids,
    /// Counts and roots of legacy tables.
    pub sources: Vec<SourceCount>,
    /// Counts and roots of target tables.
    pub targets: Vec<TargetCount>,
    /// Rows from stage to stage.
    pub hops: Vec<Hop>,
    /// Rules, with how often each was used.
    pub rules: Vec<RuleUse>,
    /// Invariants that do not go through the mapping.
    pub expects: Vec<ExpectResult>,
    /// Planted faults, and how many were found.
    pub canaries: Vec<CanaryClass>,
    /// What was read.
    pub ledger: Vec<LedgerEntry>,
    /// What it cost.
    pub budget: Budget,
    /// How many discrepancies there are.
    pub details: Details,
    /// SHA-256 of the other files of the night, by name, in hex.
    pub files: BTreeMap<String, String>,
}

/// The file: a certificate and who vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    certificate: Certificate,
    /// Absent when no key was set.
    signature: Option<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    algorithm: String,
    /// The public key, 32 bytes in hex: which of several keys it was; not to be trusted by itself.
    key: String,
    /// 64 bytes in hex.
    value: String,
}

/// Signs certificates.
pub struct SigningKey(Ed25519KeyPair);

/// Checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

/// Why a certificate does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is not in the form of a certificate.
    #[error("it is not a certificate in canonical form")]
    Form,
    /// Nobody signed it.
    #[error("it is not signed")]
    Unsigned,
    /// Someone else signed it, or it was changed since.
    #[error("the signature is not of this text by this key")]
    Signature,
}

impl Certificate {
    /// The certificate of a summary, with digests of the files beside it.
    pub fn of(summary: &Summary, files: BTreeMap<String, String>) -> Self {
        let summary = summary.clone();
        Self {
            version: summary.version,
            migration: summary.migration,
            started: summary.started,
            finished: summary.finished,
            grade: summary.grade,
            verdict: summary.verdict,
            why: summary.why,
            cut: summary.cut,
            ids: summary.ids,
            sources: summary.sources,
            targets: summary.targets,
            hops: summary.hops,
            rules: summary.rules,
            expects: summary.expects,
            canaries: summary.canaries,
            ledger: summary.ledger,
            budget: summary.budget,
            details: summary.details,
            files,
        }
    }

    /// What is signed.
    fn signed_text(&self) -> String {
        DOMAIN.to_owned() + &canonical(self)
    }
}

/// The text of the file.
pub fn seal(certificate: &Certificate, key: Option<&SigningKey>) -> String {
    let signature = key.map(|SigningKey(pair)| Signature {
        algorithm: ALGORITHM.to_owned(),
        key: to_hex(pair.public_key().as_ref()),
        value: to_hex(pair.sign(certificate.signed_text().as_bytes()).as_ref()),
    });
    canonical(&Sealed { certificate: certificate.clone(), signature })
}

/// Reads the text of a file, and checks that the owner of a key vouches for it.
///
/// # Errors
/// When it does not hold, and why.
pub fn verify(text: &str, PublicKey(key): &PublicKey) -> Result<Certificate, Invalid> {
    let sealed: Sealed = serde_json::from_str(text).map_err(|_| Invalid::Form)?;
    if canonical(&sealed) != text {
        return Err(Invalid::Form);
    }
    let signature = sealed.signature.ok_or(Invalid::Unsigned)?;
    // The name of the key and the writing of the signature are not signed: they are what sealing makes of this key, or it is another.
    let value = from_hex(&signature.value).ok_or(Invalid::Signature)?;
    let made = Signature { algorithm: ALGORITHM.to_owned(), key: to_hex(raw(key)), value: to_hex(&value) };
    if signature != made {
        return Err(Invalid::Signature);
    }
    let signed = sealed.certificate.signed_text();
    let checked = UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &value);
    checked.map(|()| sealed.certificate).map_err(|_| Invalid::Signature)
}

/// The key itself, which stands at the end of what a PEM file holds of a public key (RFC 8410).
fn raw(public: &[u8]) -> &[u8] {
    &public[public.len().saturating_sub(ED25519_PUBLIC_KEY_LEN)..]
}

impl SigningKey {
    /// Reads a private key from a PEM file in PKCS #8, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`Error::Key`] when it holds none.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = || Error::Key { path: path.to_owned(), wanted: "a private Ed25519 key in PEM, without a password" };
        let text = fs::read(path).map_err(Error::file("read", path))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| wrong())?;
        // Files of OpenSSL leave the public key out, so there is none to check against.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).map_err(|_| wrong())?;
        Ok(Self(pair))
    }
}

impl PublicKey {
    /// Reads a public key from a PEM file, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`Error::Key`] when it holds none.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = || Error::Key { path: path.to_owned(), wanted: "a public Ed25519 key in PEM" };
        let text = fs::read(path).map_err(Error::file("read", path))?;
        let key = SubjectPublicKeyInfoDer::from_pem_slice(&text).map_err(|_| wrong())?;
        UnparsedPublicKey::new(&ED25519, &key).parse().map_err(|_| wrong())?;
        Ok(Self(key.to_vec()))
    }
}

/// JSON in the one form that is signed: no blanks, members in the order of their names' UTF-16 code units.
fn canonical(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("a certificate is plain data under text keys");
    let mut text = String::new();
    put(&value, &mut text);
    text
}

fn put(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                put(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (index, (name, item)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                put(&Value::from(name.as_str()), text);
                text.push(':');
                put(item, text);
            }
            text.push('}');
        }
        // The library's own form of these is the canonical one: shortest escapes, plain integers.
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_has_one_order_and_one_way_to_escape() {
        // Beyond the basic plane a character sorts by its surrogates, before U+FB33.
        let value: Value = serde_json::from_str(
            "{ \"\u{fb33}\": 1, \"\u{1f600}\": [true, null, -7], \"a\\u0041\": \"\\u000f\\u00e9\\/\\\"\\n\" }",
        )
        .expect("it is JSON");
        let wanted = "{\"aA\":\"\\u000fé/\\\"\\n\",\"\u{1f600}\":[true,null,-7],\"\u{fb33}\":1}";
        assert_eq!(canonical(&value), wanted);
    }
}
