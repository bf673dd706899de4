//! Token files, encrypted here as ACK encrypts them.

use aes::cipher::BlockModeEncrypt;
use serde_json::{Value, json};

use super::*;

const KEYRINGS: [&str; 3] = ["0123456789abcdef", "0123456789abcdef01234567", "0123456789abcdef0123456789abcdef"];

fn sealed<E: KeyIvInit + BlockModeEncrypt>(keyring: &str, text: &str) -> String {
    let vector = [7; BLOCK];
    let cipher = E::new_from_slices(keyring.as_bytes(), &vector).unwrap();
    let ciphertext = cipher.encrypt_padded_vec::<Pkcs7>(text.as_bytes());
    STANDARD.encode([&vector[..], &ciphertext].concat())
}

fn encrypt(keyring: &str, text: &str) -> String {
    match keyring.len() {
        16 => sealed::<cbc::Encryptor<Aes128>>(keyring, text),
        24 => sealed::<cbc::Encryptor<Aes192>>(keyring, text),
        _ => sealed::<cbc::Encryptor<Aes256>>(keyring, text),
    }
}

fn token(keyring: &str, minutes: i64) -> Value {
    let end = Timestamp::now() + SignedDuration::from_mins(minutes);
    json!({
        "access.key.id": encrypt(keyring, "STS.addon"),
        "access.key.secret": encrypt(keyring, "hush-addon"),
        "security.token": encrypt(keyring, "token of more than one block's length"),
        "expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "keyring": keyring,
    })
}

fn decoded(file: &Value) -> Result<Credentials, TokenError> {
    decode(Path::new("/var/addon/token-config"), file.to_string().as_bytes())
}

#[test]
fn every_length_of_keyring() {
    for keyring in KEYRINGS {
        let credentials = decoded(&token(keyring, 60)).unwrap();
        assert_eq!(credentials.key.id, "STS.addon");
        assert_eq!(credentials.key.secret, Secret::new("hush-addon"));
        assert_eq!(credentials.token, Some(Secret::new("token of more than one block's length")));
        assert!(!credentials.end_within(SignedDuration::from_mins(59)));
    }
}

/// AES-128-CBC of NIST SP 800-38A, F.2.1: its first block, and PKCS#7's block of padding after it.
#[test]
fn a_published_vector() {
    let key = [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
    let vector: Vec<u8> = (0..16).collect();
    let first = [0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46, 0xce, 0xe9, 0x8e, 0x9b, 0x12, 0xe9, 0x19, 0x7d];
    let plain = [0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a];
    let cipher = cbc::Encryptor::<Aes128>::new_from_slices(&key, &vector).unwrap();
    let padded = cipher.encrypt_padded_vec::<Pkcs7>(&plain);
    assert_eq!(padded[..BLOCK], first);
    assert_eq!(opened::<cbc::Decryptor<Aes128>>(&key, &vector, &padded).unwrap(), plain);
}

#[test]
fn what_cannot_be_used_says_why_and_quotes_no_secret() {
    let keyring = KEYRINGS[1];
    let with = |key: &str, value: Value| {
        let mut file = token(keyring, 60);
        file[key] = value;
        file
    };
    let other = encrypt(KEYRINGS[2], "hush-addon");
    let refused =
        json!({"error": {"roleName": "AliyunCSManagedNetworkRole", "code": "EntityNotExist", "message": "no"}});
    for (file, words) in [
        (json!("hush-addon"), "not the JSON"),
        (with("expiration", "soon".into()), "not the JSON"),
        (with("expiration", Value::Null), "lacks the key \"expiration\""),
        (with("keyring", Value::Null), "lacks the key \"keyring\""),
        (with("keyring", "hush".into()), "the keyring is 4 bytes long"),
        (with("security.token", Value::Null), "lacks the key \"security.token\""),
        (with("access.key.id", "%".into()), "\"access.key.id\" is not encrypted"),
        (with("access.key.id", "AAAA".into()), "\"access.key.id\" is not encrypted"),
        (with("access.key.secret", "AAAAAAAAAAAAAAAAAAAAAA==".into()), "\"access.key.secret\" is not encrypted"),
        (with("access.key.secret", other.into()), "\"access.key.secret\" is not encrypted"),
        (refused, "ACK could not get a token for the role AliyunCSManagedNetworkRole (EntityNotExist: no)"),
        (token(keyring, -1), "nobody has renewed the file"),
    ] {
        let error = decoded(&file).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.starts_with("/var/addon/token-config"), "{error}");
        assert!(!error.contains("hush") && !error.contains(keyring), "{error}");
    }
}

#[test]
fn no_file_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read(&directory.path().join("token-config")).unwrap(), None);
    assert!(matches!(read(directory.path()), Err(TokenError::Read { .. })));
}
