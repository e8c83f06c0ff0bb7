//! The mapping of the migrations that ship, and of copies of them with every name changed; and the rules by which their rows
//! are compared.

mod copy;
mod delphi;
mod docs;
mod editor;
mod fifth;
mod jobs;
mod jsonl;
mod language;
mod luthien;
mod oracle;
mod rename;
mod rename_rows;
mod rules;
mod semantik;
mod shapes;
mod support;
mod values;
