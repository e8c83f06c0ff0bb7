//! What terms compute of single values: pure, exact, the same on every machine.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::event::{Timestamp, to_hex};

/// SHA-256 of a text's bytes as lower-case digits.
pub(super) fn sha256(text: &str) -> String {
    to_hex(&Sha256::digest(text.as_bytes()))
}

/// Whether a text is a UUID with hyphens, in any letter case.
pub(super) fn hyphenated_uuid(text: &str) -> bool {
    // The parser also takes forms without hyphens, in braces and as URN; none of them is 36 bytes long.
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// The first 63 bits of a UUID: what a signed column of 64 bits holds of it without a sign.
pub(super) fn first_63_bits(uuid: Uuid) -> i64 {
    i64::try_from(uuid.as_u64_pair().0 >> 1).unwrap_or(i64::MAX)
}

/// The last part of a text that is not empty; the text itself when there is none.
pub(super) fn last_part<'a>(text: &'a str, by: &str) -> &'a str {
    text.rsplit(by).find(|part| !part.is_empty()).unwrap_or(text)
}

/// A whole number in at least `width` characters, filled with zeros after its sign.
pub(super) fn padded(number: i64, width: usize) -> String {
    format!("{number:0width$}")
}

/// Whole seconds since 1970, the time before when there is a rest; `None` for the infinities.
pub(super) fn epoch(time: Timestamp) -> Option<i64> {
    i64::try_from(time.unix_us()?.div_euclid(1_000_000)).ok()
}

/// Microseconds within the second of [`epoch`]; `None` for the infinities.
pub(super) fn microseconds(time: Timestamp) -> Option<i64> {
    i64::try_from(time.unix_us()?.rem_euclid(1_000_000)).ok()
}

/// Reads ISO 8601 as Python, JavaScript and SQLite write it: date, `T` or a space, hours and minutes, seconds with up to
/// nine digits after the point, and an offset or none; without one the time is one of `zone`. Digits after the sixth are
/// cut off. Anything else, a day that no calendar has too, is `None`.
pub(super) fn time(text: &str, zone: Offset) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-', &[4, 2, 2])?;
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, offset) = clock.split_at(at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, digits)) => (clock, fraction_us(digits)?),
        None => (clock, 0),
    };
    let [hour, minute, second] = match clock.len() {
        5 if fraction == 0 && !rest.contains('.') => {
            let [hour, minute] = numbers(clock, ':', &[2, 2])?;
            [hour, minute, 0]
        }
        _ => numbers(clock, ':', &[2, 2, 2])?,
    };
    let offset = if offset.is_empty() { zone } else { offset_of(offset)? };
    let small = |number: i16| i8::try_from(number).ok();
    let civil =
        DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    let seconds = offset.to_timestamp(civil).ok()?.as_second();
    Timestamp::from_unix_us(i128::from(seconds) * 1_000_000 + i128::from(fraction))
}

/// Reads `UTC`, or an offset such as `+02:00`: zones by name would read otherwise on another machine.
pub(super) fn zone(text: &str) -> Option<Offset> {
    if text == "UTC" { Some(Offset::UTC) } else { offset_of(text) }
}

/// `Z`, `±HH`, `±HHMM` or `±HH:MM`.
fn offset_of(text: &str) -> Option<Offset> {
    if matches!(text, "Z" | "z") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let [hours, minutes] = match digits.len() {
        2 => [numbers::<1>(digits, ':', &[2])?[0], 0],
        4 => numbers(&format!("{}:{}", digits.get(..2)?, digits.get(2..)?), ':', &[2, 2])?,
        _ => numbers(digits, ':', &[2, 2])?,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (i32::from(hours) * 3_600 + i32::from(minutes) * 60)).ok()
}

/// Numbers of fixed widths between separators.
fn numbers<const N: usize>(text: &str, by: char, widths: &[usize; N]) -> Option<[i16; N]> {
    let mut found = [0; N];
    let mut parts = text.split(by);
    for (slot, width) in found.iter_mut().zip(widths) {
        let part = parts.next()?;
        let digits = part.len() == *width && part.bytes().all(|byte| byte.is_ascii_digit());
        *slot = part.parse().ok().filter(|_| digits)?;
    }
    parts.next().is_none().then_some(found)
}

/// Digits after the point as microseconds.
fn fraction_us(digits: &str) -> Option<i64> {
    let all = (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    format!("{digits:0<6}").get(..6)?.parse().ok().filter(|_| all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> Option<i128> {
        time(text, Offset::UTC)?.unix_us()
    }

    #[test]
    fn mixed_forms_of_one_moment_are_one_moment() {
        let moment = 1_750_806_000_059_000;
        for text in [
            "2025-06-24T23:00:00.059Z",
            "2025-06-25T01:00:00.059000+02:00",
            "2025-06-25T01:00:00.0590009+0200",
            "2025-06-24 23:00:00.059",
            "2025-06-24T18:30:00.059-04:30",
        ] {
            assert_eq!(us(text), Some(moment), "{text}");
        }
        assert_eq!(us("2025-06-24T23:00"), Some(1_750_806_000_000_000));
        assert_eq!(
            time("2025-06-25T01:00:00", zone("+02:00").expect("an offset")).map(|t| t.unix_us()),
            Some(us("2025-06-24T23:00:00"))
        );
        assert_eq!(us("1969-12-31T23:59:59.999999"), Some(-1));
    }

    #[test]
    fn what_no_writer_wrote_is_refused() {
        for text in [
            "",
            "yesterday",
            "2025-06-24",
            "2025-02-30T00:00:00",
            "2025-06-24T24:00:00",
            "2025-06-24T23:00:60",
            "2025-06-24T23:00:00.",
            "2025-06-24T23:00:00.1234567890",
            "2025-06-24T23:00:00+2",
            "2025-06-24T23:00:00Europe",
            "2025-06-24T23:00:00+25:00",
            "2025-6-24T23:00:00",
            "2025-06-24T23:00.5",
            " 2025-06-24T23:00:00",
            "２０25-06-24T23:00:00",
        ] {
            assert_eq!(us(text), None, "{text}");
        }
        assert_eq!(zone("Europe/Warsaw"), None);
    }

    #[test]
    fn numbers_and_parts_are_as_other_languages_have_them() {
        assert_eq!(padded(1_728_446_626, 20), "00000000001728446626");
        assert_eq!(padded(-1, 5), "-0001");
        assert_eq!(last_part("/data/ü c/file 2.pdf", "/"), "file 2.pdf");
        assert_eq!((last_part("/data/", "/"), last_part("///", "/"), last_part("", "/")), ("data", "///", ""));
        let before = Timestamp::from_unix_us(-1).expect("a time");
        assert_eq!((epoch(before), microseconds(before)), (Some(-1), Some(999_999)));
        assert_eq!(epoch(Timestamp::INFINITY), None);
        assert_eq!(first_63_bits(Uuid::from_u128(u128::MAX)), i64::MAX);
        assert_eq!(first_63_bits(Uuid::from_u128(3 << 64)), 1);
        assert!(hyphenated_uuid("7789BA38-5965-405d-b814-cac3b2931823"));
        for text in
            ["7789ba385965405db814cac3b2931823", "{7789ba38-5965-405d-b814-cac3b2931823}", "client-chosen-id", ""]
        {
            assert!(!hyphenated_uuid(text), "{text}");
        }
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
