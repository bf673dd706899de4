//! Internet Shared Bandwidth: joined after allocation, left before release.

use std::time::Duration;

use crate::cloud::{Class, Cloud, CloudError};
use crate::deadline::Deadline;
use crate::eip::bind::READ_LAG;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::request::{Notice, Source, Wish};
use crate::names::{BandwidthPackageId, ClientToken, EipId, EipKind};

/// A package takes one change at a time; the one in front of us needs about this long.
const CONFLICT_PAUSE: Duration = Duration::from_millis(500);

/// Puts an automatic EIP into the package that the pod asks for. One that is in another package
/// stays there: like every parameter of an EIP that exists already, that is a notice.
pub fn join_wished(
    cloud: &Cloud,
    journal: &mut Journal,
    wish: &Wish,
    notices: &mut Vec<Notice>,
    deadline: Deadline,
) -> Result<(), Failure> {
    let Source::Allocate(parameters) = &wish.source else { return Ok(()) };
    let Some(package) = &parameters.bandwidth_package else { return Ok(()) };
    let Some(eip) = journal.record().eip.clone() else { return Ok(()) };
    if eip.kind != EipKind::Auto || is_member(cloud, journal, package, &eip.id, deadline)? {
        return Ok(());
    }
    journal.save(|record| record.bandwidth_package = Some(package.clone()))?;
    let Some(other) = join(cloud, package, &eip.id, deadline)? else { return Ok(()) };
    notices.push(Notice {
        reason: "EIPInOtherPackage",
        message: format!("{} stays in bandwidth package {other}; the pod asks for {package}", eip.id),
        warning: true,
    });
    journal.save(|record| record.bandwidth_package = Some(other))
}

/// Puts the EIP into the package. The result is the other package that it is in already, if any.
pub fn join(
    cloud: &Cloud,
    package: &BandwidthPackageId,
    eip: &EipId,
    deadline: Deadline,
) -> Result<Option<BandwidthPackageId>, Failure> {
    let visible_by = Deadline::after(READ_LAG);
    let mut refused = None;
    loop {
        match cloud.join_bandwidth_package(package, eip, &ClientToken::random(), deadline) {
            Ok(()) => return Ok(None),
            Err(error) if asks_for_another_try(&error) && deadline.sleep(CONFLICT_PAUSE) => refused = Some(error),
            // Not visible yet, or gone: binding it tells.
            Err(error) if error.class() == Class::Gone => {
                if visible_by.passed() || !deadline.sleep(CONFLICT_PAUSE) {
                    return Ok(None);
                }
            }
            Err(error) if error.class() == Class::AlreadyInPackage => {
                let seen = cloud.eip(eip, deadline)?;
                return Ok(seen.and_then(|seen| seen.bandwidth_package).filter(|other| other != package));
            }
            Err(error) if error.class() == Class::TargetGone => {
                let refused = Failure { kind: Kind::CloudRefused, ..error.into() };
                return Err(refused.hinting("correct eip-common-bandwidth-package-id; it must be of this region"));
            }
            Err(error) => return Err(error.or_else_said(refused).into()),
        }
    }
}

/// The record says "joined or may have joined"; only a resumed try has to ask.
fn is_member(
    cloud: &Cloud,
    journal: &Journal,
    package: &BandwidthPackageId,
    eip: &EipId,
    deadline: Deadline,
) -> Result<bool, Failure> {
    if journal.record().bandwidth_package.as_ref() != Some(package) {
        return Ok(false);
    }
    Ok(cloud.eip(eip, deadline)?.is_some_and(|eip| eip.bandwidth_package.as_ref() == Some(package)))
}

/// Takes the EIP out of its package. Not being in it, or being gone, is success.
pub fn leave(cloud: &Cloud, package: &BandwidthPackageId, eip: &EipId, deadline: Deadline) -> Result<(), Failure> {
    let mut refused = None;
    loop {
        match cloud.leave_bandwidth_package(package, eip, &ClientToken::random(), deadline) {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.class(), Class::NotInPackage | Class::Gone | Class::TargetGone) => {
                return Ok(());
            }
            Err(error) if asks_for_another_try(&error) && deadline.sleep(CONFLICT_PAUSE) => refused = Some(error),
            Err(error) => return Err(error.or_else_said(refused).into()),
        }
    }
}

/// Each try has a token of its own.
fn asks_for_another_try(error: &CloudError) -> bool {
    matches!(error.class(), Class::Conflict | Class::TokenMisuse)
}
