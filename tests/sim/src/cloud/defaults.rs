//! The names of the default world. All of them are made up.

use crate::cloud::settings::OidcTrust;

pub const REGION: &str = "cn-hangzhou";
pub const ZONE: &str = "cn-hangzhou-i";
pub const ACCOUNT: &str = "100000000000000001";
pub const CLUSTER: &str = "c0simulatedcluster";

pub const ACCESS_KEY_ID: &str = "LTAI5tSimulatedKeyId01";
pub const ACCESS_KEY_SECRET: &str = "simulatedSecretKey000000000001";
/// The bearer token of the simulated API server.
pub const KUBE_TOKEN: &str = "simulated-service-account-token";
/// RAM role of the node.
pub const ROLE: &str = "KubernetesWorkerRole-sim";
/// RAM role that the cluster's service accounts may take.
pub const RRSA_ROLE: &str = "podeip-rrsa";

pub const VPC: &str = "vpc-bp1sim000000000000001";
pub const VPC_CIDR: &str = "10.0.0.0/8";
pub const VSWITCH: &str = "vsw-bp1sim000000000000001";
pub const VSWITCH_CIDR: &str = "10.219.0.0/20";
pub const SECURITY_GROUP: &str = "sg-bp1sim0000000000000001";

/// The node.
pub const INSTANCE: &str = "i-bp1sim00000000000001";
pub const INSTANCE_TYPE: &str = "ecs.g7.2xlarge";
/// The node's eth0.
pub const PRIMARY_ENI: &str = "eni-bp1sim00000000000001";
pub const PRIMARY_MAC: &str = "00:16:3e:00:00:01";
pub const PRIMARY_IP: &str = "10.219.1.10";
/// The ENI of the pods: its secondary IPs are 10.219.0.2 to 10.219.0.254.
pub const POD_ENI: &str = "eni-bp1sim00000000000002";
pub const POD_ENI_MAC: &str = "00:16:3e:00:00:02";
pub const POD_ENI_PRIMARY_IP: &str = "10.219.1.20";

/// A bandwidth package of 100 Mbit/s for BGP.
pub const PACKAGE: &str = "cbwp-bp1sim0000000000001";
/// An EIP that the user made, in no use.
pub const USER_EIP: &str = "eip-bp1user0000000000001";
pub const RESOURCE_GROUP: &str = "rg-acfmsimdefault01";
pub const OTHER_RESOURCE_GROUP: &str = "rg-acfmsimother0001";
pub const ADDRESS_POOL: &str = "pippool-bp1sim000000001";

/// Calls per 60 s, account, region and action.
pub(crate) const RATES: [(&str, usize); 5] = [
    ("AllocateEipAddress", 120),
    ("AssociateEipAddress", 120),
    ("UnassociateEipAddress", 120),
    ("DescribeEipAddresses", 600),
    ("ReleaseEipAddress", 600),
];

/// RRSA as ACK sets it up for [`CLUSTER`].
pub(crate) fn oidc_trust() -> OidcTrust {
    OidcTrust {
        provider_arn: format!("acs:ram::{ACCOUNT}:oidc-provider/ack-rrsa-{CLUSTER}"),
        role_arn: format!("acs:ram::{ACCOUNT}:role/{RRSA_ROLE}"),
        audience: "sts.aliyuncs.com".into(),
        issuer: None,
        subjects: Vec::new(),
    }
}
