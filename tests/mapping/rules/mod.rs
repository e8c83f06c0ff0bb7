//! The rules by which rows are compared: the language, the faults that other tools have, and the rules that ship.

mod bench;
mod compared;
mod faults;
mod language;
mod shipped;
