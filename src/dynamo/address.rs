//! Addresses of DynamoDB as people write them.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::connect::{Access, Address};
use crate::source::Error;

/// What a service's address begins with.
const SERVICE: &str = "dynamodb://";
/// What a local server's address begins with.
const LOCAL: &str = "dynamodb+local://";

impl Address {
    /// Whether a text is meant as an address of DynamoDB.
    pub fn meant(text: &str) -> bool {
        text.starts_with(SERVICE) || text.starts_with(LOCAL)
    }
}

/// `dynamodb://REGION?profile=NAME&endpoint=URL`, all of it optional, or `dynamodb+local://HOST:PORT` for a local server, which
/// takes any credentials.
impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(place) = text.strip_prefix(LOCAL) {
            return match place.trim_end_matches('/') {
                "" => Err(wrong("a local server needs HOST:PORT")),
                place => Ok(Address::local(format!("http://{place}"))),
            };
        }
        let rest = text
            .strip_prefix(SERVICE)
            .ok_or_else(|| wrong("it does not begin with dynamodb:// or dynamodb+local://"))?;
        let (region, query) = rest.split_once('?').unwrap_or((rest, ""));
        let region = region.trim_end_matches('/');
        let mut address = Address { region: (!region.is_empty()).then(|| region.to_owned()), ..Address::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?.into_owned();
            match name {
                "profile" => address.profile = Some(value),
                "endpoint" => address.endpoint_url = Some(value),
                "credentials" if value == "made-up" => address.credentials = Access::MadeUp,
                _ => {
                    return Err(wrong(
                        "it may have profile=, endpoint= and credentials=made-up behind the ?, nothing else",
                    ));
                }
            }
        }
        Ok(address)
    }
}

fn wrong(reason: &str) -> Error {
    Error::Address { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_written() {
        let read = |text: &str| text.parse::<Address>().expect("an address");
        assert_eq!(read("dynamodb://"), Address::default());
        let full = read("dynamodb://eu-west-1?profile=ops&endpoint=http%3A%2F%2Fh%3A1");
        assert_eq!(full.region.as_deref(), Some("eu-west-1"));
        assert_eq!((full.profile.as_deref(), full.endpoint_url.as_deref()), (Some("ops"), Some("http://h:1")));
        assert_eq!(read("dynamodb+local://127.0.0.1:8000"), Address::local("http://127.0.0.1:8000"));
        for bad in ["postgres://x", "dynamodb+local://", "dynamodb://r?password=x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
