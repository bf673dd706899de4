//! Every refusal that is documented for the calls of ours, and the class it must have.

use super::*;

/// Action, status, class, codes. The black-box matrix plays the same lines to the executable.
const DOCUMENTED: &str = include_str!("../../../tests/fixtures/refusals.txt");

#[test]
fn every_documented_refusal_has_its_class() {
    let mut checked = 0;
    for line in DOCUMENTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let [action, status, class] = [(); 3].map(|()| words.next().unwrap());
        for code in words {
            let found = classify(code, status.parse().unwrap(), "some prose");
            assert_eq!(format!("{found:?}"), class, "{action} {status} {code}");
            checked += 1;
        }
    }
    assert!(checked >= 300, "only {checked}");
}

#[test]
fn what_the_code_does_not_say() {
    assert_eq!(
        classify("InvalidParameter", 400, "Specified SecurityToken.Expired is not valid"),
        Class::CredentialExpired
    );
    assert_eq!(classify("Anything.FinancialLocked", 400, ""), Class::Money);
    assert_eq!(classify("", 429, ""), Class::Throttled);
    assert_eq!(classify("", 502, ""), Class::ServerTrouble);
    assert_eq!(classify("Never.Seen", 500, ""), Class::ServerTrouble);
    assert_eq!(classify("Never.Seen", 403, ""), Class::Permission);
    assert_eq!(classify("Never.Seen", 400, ""), Class::Other);
}

#[test]
fn no_code_is_listed_twice() {
    let mut seen = std::collections::HashSet::new();
    for (_, codes) in EXACT {
        for code in *codes {
            assert!(seen.insert(code), "{code}");
        }
    }
}
