//! Where this node is: region, VPC and account, from the configuration or learnt from metadata once.

use std::sync::{Arc, OnceLock};

use super::error::Failure;
use super::metadata::Metadata;
use super::rpc::Product;
use super::turn::Turn;
use super::{CloudError, Endpoints};
use crate::deadline::Deadline;

pub(super) struct Place {
    endpoints: Endpoints,
    region: OnceLock<String>,
    vpc_id: OnceLock<String>,
    account: OnceLock<String>,
    turn: Turn,
    metadata: Arc<Metadata>,
}

impl Place {
    pub fn new(region: Option<String>, vpc_id: Option<String>, endpoints: Endpoints, metadata: Arc<Metadata>) -> Self {
        let (region, vpc_id) = (known(region), known(vpc_id));
        Self { endpoints, region, vpc_id, account: OnceLock::new(), turn: Turn::default(), metadata }
    }

    pub fn region(&self, deadline: Deadline) -> Result<&str, CloudError> {
        self.learn(&self.region, "region-id", deadline)
    }

    pub fn vpc_id(&self, deadline: Deadline) -> Result<&str, CloudError> {
        self.learn(&self.vpc_id, "vpc-id", deadline)
    }

    /// The number of the account that owns this instance.
    pub fn account(&self, deadline: Deadline) -> Result<&str, CloudError> {
        self.learn(&self.account, "owner-account-id", deadline)
    }

    /// The service's address, without a slash at its end.
    pub fn base(&self, product: Product, region: &str) -> String {
        let given = match product {
            Product::Vpc => &self.endpoints.vpc,
            Product::Ecs => &self.endpoints.ecs,
            Product::Sts => &self.endpoints.sts,
        };
        match given {
            Some(base) => base.trim_end_matches('/').to_string(),
            None => product.url(region, self.endpoints.plain_http),
        }
    }

    fn learn<'a>(
        &'a self,
        cell: &'a OnceLock<String>,
        path: &'static str,
        deadline: Deadline,
    ) -> Result<&'a str, CloudError> {
        if let Some(known) = cell.get() {
            return Ok(known);
        }
        let failed = |reason: &str| CloudError::new("instance metadata", path, 1, Failure::NotTried(reason.into()));
        let _turn = self.turn.take(deadline).ok_or_else(|| failed("no time left while another thread asks"))?;
        if let Some(known) = cell.get() {
            return Ok(known);
        }
        let text = self.metadata.text(path, deadline)?;
        let text = text.ok_or_else(|| failed("it has no such entry; set it in eni_conf"))?;
        Ok(cell.get_or_init(|| text))
    }
}

/// A cell that already holds `text` unless it is missing or empty.
fn known(text: Option<String>) -> OnceLock<String> {
    text.filter(|text| !text.is_empty()).map(OnceLock::from).unwrap_or_default()
}
