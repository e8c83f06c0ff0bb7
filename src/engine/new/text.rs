//! Names and literals as the files of a migration write them, whatever the live store calls its tables.

use std::collections::BTreeSet;

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A TOML key: bare where it may be.
pub(super) fn key(name: &str) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A TOML array of strings.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", texts.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// A text on one line, as a comment has it: a name may hold a line's end.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// An identifier of SQL: quoted where it has to be.
pub(super) fn identifier(name: &str, reserved: &BTreeSet<String>) -> String {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_');
    if begins && name.chars().all(plain) && !reserved.contains(name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal of SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Gives things names that are not taken yet.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Names that are taken from the beginning.
    pub(super) fn taken(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The first of these names that is free, or else the first with a number behind it; it is taken then.
    pub(super) fn free(&mut self, wanted: &[String]) -> String {
        let numbered = (2_u32..).map(|number| format!("{}_{number}", wanted[0]));
        let mut names = wanted.iter().cloned().chain(numbered);
        let name = names.find(|name| !self.0.contains(name)).expect("there is a number for each name");
        self.0.insert(name.clone());
        name
    }
}

/// A table's name as the mapping calls it: letters, digits and underscores.
pub(super) fn plain_name(live: &str) -> String {
    let plain: String = live.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    if plain.chars().all(|letter| letter == '_') { "table".to_owned() } else { plain }
}

/// A column's name as terms can say it: a path is cut at points, a template at braces.
pub(super) fn sayable(live: &str) -> String {
    let cut = |letter: char| matches!(letter, '.' | '{' | '}' | '*') || letter.is_control();
    live.chars().map(|letter| if cut(letter) { '_' } else { letter }).collect()
}

/// The longest beginning of a text that has so many bytes.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_holds_it_stays_a_name() {
        assert_eq!(quoted("a\"b\\c\n\u{1}"), "\"a\\\"b\\\\c\\n\\u0001\"");
        assert_eq!((key("a-b_1"), key("a b"), key("")), ("a-b_1".into(), "\"a b\"".into(), "\"\"".into()));
        assert_eq!(one_line("a\n[x]"), "a [x]");
        let reserved = BTreeSet::from(["order".to_owned()]);
        for (name, written) in
            [("id", "id"), ("order", "\"order\""), ("Id", "\"Id\""), ("a\"b", "\"a\"\"b\""), ("1a", "\"1a\"")]
        {
            assert_eq!(identifier(name, &reserved), written);
        }
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(
            (sayable("a.b{c}"), plain_name("Order Lines"), plain_name("표")),
            ("a_b_c_".into(), "Order_Lines".into(), "table".into())
        );
        assert_eq!(beginning("héé", 2), "h");
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::taken(["t".to_owned()]);
        let wanted = ["t".to_owned(), "s_t".to_owned()];
        assert_eq!([names.free(&wanted), names.free(&wanted), names.free(&wanted)], ["s_t", "t_2", "t_3"]);
    }
}
