//! The mapping of the migrations that ship, and of copies of them with every name changed.

mod copy;
mod jobs;
mod jsonl;
mod language;
mod luthien;
mod oracle;
mod rename;
mod rename_rows;
mod semantik;
mod support;
