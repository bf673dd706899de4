//! Everything the simulated cloud remembers, and the look-ups in it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;

use crate::cloud::credentials::Temporary;
use crate::cloud::eip::Eip;
use crate::cloud::eni::Eni;
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::limits::Windows;
use crate::cloud::package::Package;
use crate::cloud::rpc::Rpc;
use crate::cloud::settings::Settings;
use crate::cloud::tokens::Tokens;

/// The first address handed out; made up, as every address of the simulated cloud.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([47, 98, 0, 1]);

/// Says whether an OIDC token's signature is genuine.
pub(crate) type TokenVerifier = Box<dyn Fn(&str) -> bool + Send>;

pub(crate) struct State {
    pub region: String,
    pub settings: Settings,
    /// In the order of allocation, released ones included.
    pub eips: Vec<Eip>,
    pub enis: BTreeMap<String, Eni>,
    pub packages: BTreeMap<String, Package>,
    pub tokens: Tokens,
    pub windows: Windows,
    /// Nonces that were seen, and when by the machine's clock.
    pub nonces: BTreeMap<String, Timestamp>,
    pub temporaries: Vec<Temporary>,
    /// Tokens of hardened metadata access and when they expire.
    pub metadata_tokens: BTreeMap<String, Timestamp>,
    pub verify_oidc: Option<TokenVerifier>,
    /// Ids and addresses handed out so far.
    serial: u32,
}

impl State {
    pub fn new(region: &str) -> Self {
        Self {
            region: region.into(),
            settings: Settings::default(),
            eips: Vec::new(),
            enis: BTreeMap::new(),
            packages: BTreeMap::new(),
            tokens: Tokens::default(),
            windows: Windows::default(),
            nonces: BTreeMap::new(),
            temporaries: Vec::new(),
            metadata_tokens: BTreeMap::new(),
            verify_oidc: None,
            serial: 0,
        }
    }

    /// Finishes everything that is due by now.
    pub fn settle(&mut self, now: Timestamp) {
        for eip in &mut self.eips {
            eip.settle(now);
        }
    }

    pub fn next_serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    /// An address that no EIP ever had.
    pub fn fresh_address(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from(FIRST_ADDRESS + self.next_serial());
            if !self.eips.iter().any(|eip| eip.facts().address == address) {
                return address;
            }
        }
    }

    /// # Errors
    /// 404 `InvalidAllocationId.NotFound` for an EIP that never was or is gone.
    pub fn eip(&self, id: &str) -> ApiResult<usize> {
        self.eips.iter().position(|eip| eip.id == id && eip.exists()).ok_or_else(|| {
            let message = format!("The specified AllocationId does not exist: {id}.");
            ApiError::not_found("InvalidAllocationId.NotFound", message)
        })
    }

    pub fn living_eips(&self) -> impl Iterator<Item = &Eip> {
        self.eips.iter().filter(|eip| eip.exists())
    }

    /// `RegionId` has to be given, and to be ours.
    pub fn in_region(&self, call: &Rpc) -> ApiResult<()> {
        call.required("RegionId")?;
        self.in_region_if_given(call)
    }

    pub fn in_region_if_given(&self, call: &Rpc) -> ApiResult<()> {
        match call.text("RegionId") {
            Some(region) if region != self.region => {
                let message = format!("The specified RegionId does not exist here: {region}.");
                Err(ApiError::not_found("InvalidRegionId.NotFound", message))
            }
            _ => Ok(()),
        }
    }
}

/// `YYYY-MM-DDThh:mm:ssZ`.
pub(crate) fn api_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
