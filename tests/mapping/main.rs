//! The mapping of the migrations that ship, and of copies of them with every name changed.

mod copy;
mod delphi;
mod docs;
mod fifth;
mod jobs;
mod jsonl;
mod language;
mod luthien;
mod oracle;
mod rename;
mod semantik;
mod support;
