//! What a comparison came to, kept by night and shown to people: files for programs, a page, Markdown, a certificate.
//!
//! [`folder`] is the layout, [`mod@write`] fills one night, [`ahead`], [`ages`] and [`causes`] are the pure parts of that. [`page`],
//! [`markdown`] and [`words`] show it, [`certificate`] is what can be handed to someone who was not there. Contents of rows
//! are in none of it unless asked for (I12).

pub mod ages;
pub mod ahead;
pub mod causes;
pub mod certificate;
mod error;
pub mod folder;
pub mod markdown;
pub mod page;
mod page_books;
mod page_checks;
mod page_parts;
pub mod words;
pub mod write;

pub use ahead::Ahead;
pub use certificate::{Certificate, PublicKey, SigningKey};
pub use error::Error;
pub use folder::{Night, Reports};
pub use write::{Contents, Writing, Written};
