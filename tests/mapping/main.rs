//! The mapping of the migrations that ship, and of copies of them with every name changed.

mod jsonl;
mod language;
mod luthien;
mod rename;
mod semantik;
mod support;
