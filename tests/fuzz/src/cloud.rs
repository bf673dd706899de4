//! Answers of Vpc, Ecs, STS and instance metadata.

use libfuzzer_sys::Corpus;
use podeip::cloud::fuzz::{self, Read, Shape};

use crate::oracle::{SECRET, chain, check_readable};

const SHAPES: [Shape; 6] = [Shape::Allocated, Shape::Eips, Shape::Enis, Shape::Caller, Shape::Role, Shape::Done];

/// A line with shape and status, and the body behind it.
pub fn answer(data: &[u8]) -> Corpus {
    let Some((shape, status, body)) = crate::oracle::headed(data) else { return Corpus::Reject };
    let Some(shape) = SHAPES.into_iter().find(|known| format!("{known:?}") == shape) else { return Corpus::Reject };
    match fuzz::answer(shape, status, body, SECRET) {
        Ok(read) => {
            assert!((200..300).contains(&status), "HTTP {status} is no success");
            check_read(shape, read);
        }
        Err(error) => {
            let text = chain(&error);
            assert!(!text.contains(SECRET), "a secret is printed: {text}");
            check_readable(&text);
            // What is decided upon must be there whatever was answered.
            let _ = (error.class(), error.hint(), error.code(), error.request_id());
        }
    }
    Corpus::Keep
}

fn check_read(shape: Shape, read: Read) {
    match read {
        Read::Eips(eips) => {
            for eip in eips {
                assert!(fuzz::is_listed(eip.id.as_str(), &eip));
                assert!(eip.private_ip.is_none_or(|ip| ip.to_string().parse() == Ok(ip)));
            }
        }
        Read::Enis(enis) => {
            assert!(enis.iter().all(|eni| eni.mac == eni.mac.to_ascii_lowercase()));
        }
        Read::Text(text) => {
            assert!(!matches!(shape, Shape::Role) || !text.contains("hush-"), "a secret is logged: {text}");
        }
    }
}

/// What metadata answers for a role's credentials.
pub fn metadata(data: &[u8]) -> Corpus {
    let Some(text) = fuzz::metadata_role(data) else { return Corpus::Keep };
    check_readable(&text);
    // A number that is too large for a value is passed over in a structure.
    let Ok(answered) = serde_json::from_slice::<serde_json::Value>(data) else { return Corpus::Keep };
    if !crate::oracle::stands_elsewhere(&answered, &["AccessKeySecret", "SecurityToken"]) {
        crate::oracle::check_hides(&text);
    }
    Corpus::Keep
}
