//! The binary form of `numeric`: groups of four decimal digits, printed as the server prints them.
//!
//! Its layout is `numeric_send`'s in the server's source: count of groups, weight of the first group in powers of 10,000,
//! sign, number of decimal places shown, then the groups.

use crate::event::Decimal;
use crate::event::encoding::put_decimal_with;

/// Sign words of the wire form.
const POSITIVE: u16 = 0x0000;
/// See [`POSITIVE`].
const NEGATIVE: u16 = 0x4000;
/// See [`POSITIVE`].
const NAN: u16 = 0xC000;
/// See [`POSITIVE`].
const INFINITY: u16 = 0xD000;
/// See [`POSITIVE`].
const NEG_INFINITY: u16 = 0xF000;

/// Reads a `numeric`: count of digit groups, weight of the first, sign, scale, then the groups, all 16-bit.
pub(super) fn from_binary(bytes: &[u8]) -> Option<Decimal> {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    put_text(bytes, &mut text)?;
    Decimal::parse(std::str::from_utf8(&text).ok()?).ok()
}

/// Appends the canonical encoding of what [`from_binary`] reads.
pub(super) fn put_canonical(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    put_decimal_with(|out| put_text(bytes, out), out)
}

/// Appends what [`from_binary`] reads, as text.
fn put_text(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let word = |index: usize| Some(u16::from_be_bytes(bytes.get(index * 2..index * 2 + 2)?.try_into().ok()?));
    let count = usize::from(word(0)?);
    let weight = i32::from(word(1)?.cast_signed());
    let scale = usize::from(word(3)?);
    let sign = match word(2)? {
        POSITIVE => "",
        NEGATIVE => "-",
        NAN => "NaN",
        INFINITY => "Infinity",
        NEG_INFINITY => "-Infinity",
        _ => return None,
    };
    out.extend_from_slice(sign.as_bytes());
    if sign.len() > 1 {
        return Some(());
    }
    if bytes.len() != 8 + count * 2 {
        return None;
    }
    // The group at decimal place `place` (0 holds the ones); groups not sent are zero.
    let group = |place: i32| -> Option<u16> {
        match usize::try_from(weight - place) {
            Ok(index) if index < count => word(4 + index).filter(|group| *group < 10_000),
            _ => Some(0),
        }
    };
    if weight < 0 {
        out.push(b'0');
    } else {
        put_first(out, group(weight)?);
        for place in (0..weight).rev() {
            put_group(out, group(place)?);
        }
    }
    if scale > 0 {
        out.push(b'.');
        let whole = out.len();
        let mut place = -1;
        while out.len() < whole + scale {
            put_group(out, group(place)?);
            place -= 1;
        }
        out.truncate(whole + scale);
    }
    Some(())
}

/// Most digits on either side of the point that are written in groups; the server takes more, and reads them as text.
const SIDE_MAX: usize = 1_000;

/// Appends a number in binary form; answers false, with nothing appended, for one that is not plain digits: it has an exponent,
/// is none, or is very long.
pub(super) fn put_binary(number: &str, out: &mut Vec<u8>) -> bool {
    let (sign, unsigned) = number.strip_prefix('-').map_or((POSITIVE, number), |rest| (NEGATIVE, rest));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let plain = |digits: &str| digits.len() <= SIDE_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || whole.len() + fraction.len() == 0 {
        return false;
    }
    // Groups are counted from the point: the first is filled up in front, the last behind.
    let (before, behind) = (whole.len().div_ceil(4), fraction.len().div_ceil(4));
    let (whole, fraction) = (whole.as_bytes(), fraction.as_bytes());
    let group = |at: usize| -> u16 {
        let digit = |digits: &[u8], place: Option<usize>| {
            place.and_then(|place| digits.get(place)).map_or(0, |digit| digit - b'0')
        };
        let digits = (0..4).map(|within| match at.checked_sub(before) {
            None => digit(whole, (at * 4 + within + whole.len()).checked_sub(before * 4)),
            Some(at) => digit(fraction, Some(at * 4 + within)),
        });
        digits.fold(0, |group, digit| group * 10 + u16::from(digit))
    };
    let groups = before + behind;
    let zeros = (0..groups).take_while(|at| group(*at) == 0).count();
    let end = groups - (zeros..groups).rev().take_while(|at| group(*at) == 0).count();
    // Zero has no groups, no weight and no sign.
    let (count, weight, sign) =
        if zeros == end { (0, 0, POSITIVE) } else { (end - zeros, before as i16 - zeros as i16 - 1, sign) };
    for word in [count as u16, weight.cast_unsigned(), sign, fraction.len() as u16] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    (zeros..end).for_each(|at| out.extend_from_slice(&group(at).to_be_bytes()));
    true
}

/// Appends a group as four digits.
fn put_group(out: &mut Vec<u8>, group: u16) {
    out.extend([1000, 100, 10, 1].map(|unit| digit(group / unit)));
}

/// Appends the first group, without zeros in front.
fn put_first(out: &mut Vec<u8>, group: u16) {
    [1000, 100, 10].iter().filter(|unit| group >= **unit).for_each(|unit| out.push(digit(group / unit)));
    out.push(digit(group));
}

/// The last digit of a number.
fn digit(number: u16) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Canonical as _, Value};

    fn wire(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn digits_and_scale_are_printed_as_the_server_does() {
        let cases: [(&[u16], &str); 9] = [
            (&[0, 0, POSITIVE, 0], "0"),
            (&[0, 0, POSITIVE, 3], "0.000"),
            (&[1, 0, POSITIVE, 2, 1], "1.00"),
            (&[2, 0, NEGATIVE, 2, 12, 5000], "-12.50"),
            (&[1, 1, POSITIVE, 0, 1], "10000"),
            (&[3, 1, POSITIVE, 4, 1, 2, 3], "10002.0003"),
            (&[1, 0xffff, POSITIVE, 4, 1], "0.0001"),
            (&[1, 0xfffe, POSITIVE, 8, 1], "0.00000001"),
            (&[0, 0, NAN, 0], "NaN"),
        ];
        for (words, expected) in cases {
            assert_eq!(from_binary(&wire(words)).expect("a numeric").as_str(), expected);
        }
    }

    #[test]
    fn plain_digits_are_written_as_the_server_sends_them_and_read_back() {
        let cases: [(&[u16], &str); 9] = [
            (&[0, 0, POSITIVE, 0], "0"),
            (&[0, 0, POSITIVE, 3], "-0.000"),
            (&[1, 0, POSITIVE, 2, 1], "1.00"),
            (&[2, 0, NEGATIVE, 2, 12, 5000], "-12.50"),
            (&[1, 1, POSITIVE, 0, 1], "10000"),
            (&[3, 1, POSITIVE, 4, 1, 2, 3], "10002.0003"),
            (&[1, 0xffff, POSITIVE, 4, 1], "0.0001"),
            (&[1, 0xfffe, POSITIVE, 8, 1], ".00000001"),
            (&[1, 0, POSITIVE, 0, 7], "007"),
        ];
        for (words, number) in cases {
            let mut out = Vec::new();
            assert!(put_binary(number, &mut out));
            assert_eq!(out, wire(words), "{number}");
        }
        for number in ["NaN", "Infinity", "1E5", "", "-", &"1".repeat(SIDE_MAX + 1)] {
            let mut out = Vec::new();
            assert!(!put_binary(number, &mut out) && out.is_empty(), "{number}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_plain_number_reads_back(number in "-?(0|[1-9][0-9]{0,90})(\\.[0-9]{1,90})?") {
            let mut out = Vec::new();
            proptest::prop_assert!(put_binary(&number, &mut out));
            let read = from_binary(&out).expect("a numeric");
            let zero = number.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
            let mut encoded = Vec::new();
            put_canonical(&out, &mut encoded).expect("a numeric");
            let mut plain = Vec::new();
            Value::Decimal(read.clone()).put(&mut plain);
            proptest::prop_assert_eq!(encoded, plain);
            proptest::prop_assert_eq!(read.as_str(), if zero { number.trim_start_matches('-') } else { &*number });
        }
    }

    #[test]
    fn damaged_forms_are_refused() {
        for words in [&[1u16, 0, POSITIVE, 0][..], &[1, 0, POSITIVE, 0, 10_000], &[0, 0, 0x1234, 0], &[0]] {
            assert_eq!(from_binary(&wire(words)), None);
        }
    }
}
