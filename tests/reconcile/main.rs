//! The comparison on sides in memory: the real reader, mapping, spill and join, without servers.
//!
//! Each test is a fault that some other tool missed, or made up. Rows are plain and few; what matters is that exactly what
//! was damaged is found, whatever the order and the number of rows. What moves while it is compared is simulated.

mod bench;
mod dual;
mod faults;
mod matched;
mod plain;
mod recall;
mod resume;
mod settling;
mod sim;
mod simulation;
