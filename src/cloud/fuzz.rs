//! What the fuzzer calls: every decoder of an answer, without the network before it.

use std::path::Path;

use super::credentials::{Credentials, Found, role_credentials};
use super::error::{CloudError, Failure};
use super::rpc::{clean, decode};
use super::rrsa::Assumed;
use super::wire::Done;
use super::{AccessKey, CallerIdentity, Eip, EipFilter, Eni, addon_token, ecs, metadata, vpc};
use crate::http::Answer;
use crate::names::EipId;
use crate::secret::Secret;

/// What an answer can be read as.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Allocated,
    Eips,
    Enis,
    Caller,
    Role,
    Done,
}

/// What came of it.
#[derive(Debug)]
pub enum Read {
    Eips(Vec<Eip>),
    Enis(Vec<Eni>),
    Text(String),
}

/// An answer read as `shape`; the error as the callers print it. `secret` is key and token of the call.
///
/// # Errors
/// As for the call that is answered so.
pub fn answer(shape: Shape, status: u16, body: &[u8], secret: &str) -> Result<Read, CloudError> {
    let answer = Answer { status, date: None, body: body.to_vec() };
    let credentials = credentials(secret);
    let read = match shape {
        Shape::Allocated => decode(&answer).map(|it: vpc::AllocateAnswer| Read::Text(it.allocation_id.to_string())),
        Shape::Eips => decode(&answer).map(|it: vpc::DescribeAnswer| Read::Eips(it.eip_addresses)),
        Shape::Enis => decode(&answer).map(|it: ecs::DescribeAnswer| Read::Enis(it.network_interface_sets)),
        Shape::Caller => decode(&answer).map(|it: CallerIdentity| Read::Text(format!("{it:?}"))),
        Shape::Role => decode(&answer).map(|it: Assumed| Read::Text(logged(&Credentials::from(it.credentials)))),
        Shape::Done => decode(&answer).map(|_: Done| Read::Text(String::new())),
    };
    let signed = format!("POST&%2F&SecurityToken%3D{secret}");
    read.map_err(|failure| CloudError::new("Action", "of the fuzzer", 1, clean(failure, &signed, &credentials)))
}

/// Whether a listing of this id keeps `eip`.
pub fn is_listed(id: &str, eip: &Eip) -> bool {
    EipFilter::Ids(vec![EipId::new(id)]).matches(eip)
}

/// The credentials that metadata answers below a role's name, as they are logged, or why there are none.
pub fn metadata_role(body: &[u8]) -> Option<String> {
    let text = metadata::trimmed(body)?;
    Some(match role_credentials(&text, "role", "ram/security-credentials/role") {
        Ok(Found::Here(credentials)) => logged(&credentials),
        Ok(Found::Absent(reason)) => reason,
        Err(failure) => failure.to_string(),
    })
}

/// The credentials in an add-on token file, as they are logged, and their secret texts.
///
/// # Errors
/// As people see it.
pub fn addon(text: &[u8]) -> Result<(String, Vec<String>), CloudError> {
    let broken = |why: addon_token::TokenError| {
        CloudError::new("cloud credentials", "", 1, Failure::BrokenSource(format!("credential_path {why}")))
    };
    let credentials = addon_token::decode(Path::new("/token-config"), text).map_err(broken)?;
    Ok((logged(&credentials), credentials.secrets().map(str::to_owned).collect()))
}

/// Of credentials, what must not be seen when they are logged.
fn logged(credentials: &Credentials) -> String {
    format!("{:?} {:?}", credentials.key.secret, credentials.token)
}

fn credentials(secret: &str) -> Credentials {
    let key = AccessKey { id: "LTAI".into(), secret: Secret::new(secret) };
    Credentials { key, token: Some(Secret::new(secret)), expires: None }
}
