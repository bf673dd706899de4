//! Internet Shared Bandwidth: joined after allocation, left before release.

use std::time::Duration;

use crate::cloud::{Class, Cloud};
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::request::{Source, Wish};
use crate::names::{BandwidthPackageId, ClientToken, EipId, EipKind};

/// A package takes one change at a time; the one in front of us needs about this long.
const CONFLICT_PAUSE: Duration = Duration::from_millis(500);

/// Puts a newly allocated EIP into the package that the pod asks for.
pub fn join_wished(cloud: &Cloud, journal: &mut Journal, wish: &Wish, deadline: Deadline) -> Result<(), Failure> {
    let Source::Allocate(parameters) = &wish.source else { return Ok(()) };
    let Some(package) = &parameters.bandwidth_package else { return Ok(()) };
    let Some(eip) = journal.record().eip.clone() else { return Ok(()) };
    if eip.kind != EipKind::Auto || is_member(cloud, journal, package, &eip.id, deadline)? {
        return Ok(());
    }
    journal.save(|record| record.bandwidth_package = Some(package.clone()))?;
    loop {
        match cloud.join_bandwidth_package(package, &eip.id, &ClientToken::random(), deadline) {
            Ok(()) => return Ok(()),
            Err(error) if error.class() == Class::Conflict && deadline.sleep(CONFLICT_PAUSE) => {}
            Err(error) if error.class() == Class::AlreadyInPackage => {
                return match cloud.eip(&eip.id, deadline)?.and_then(|eip| eip.bandwidth_package) {
                    Some(other) if other != *package => Err(Failure::new(
                        Kind::CloudRefused,
                        format!("{} is in bandwidth package {other}, not in {package}", eip.id),
                    )),
                    _ => Ok(()),
                };
            }
            Err(error) => return Err(error.into()),
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
    loop {
        match cloud.leave_bandwidth_package(package, eip, &ClientToken::random(), deadline) {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.class(), Class::NotInPackage | Class::Gone | Class::TargetGone) => {
                return Ok(());
            }
            Err(error) if error.class() == Class::Conflict && deadline.sleep(CONFLICT_PAUSE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
