//! The RPC endpoints: which action, who calls, how often, and whether the call is a repetition.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cloud::credentials::{Principal, caller_identity};
use crate::cloud::eip::{allocate, associate, describe, release};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::State;
use crate::cloud::tokens::Verdict;
use crate::cloud::{CloudSim, eni, package, sts, tags, vswitch, wire};
use crate::exchange::{Reply, Request, Service};

/// A product's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Vpc,
    Ecs,
    Sts,
}

impl Product {
    fn version(self) -> &'static str {
        match self {
            Self::Vpc => "2016-04-28",
            Self::Ecs => "2014-05-26",
            Self::Sts => "2015-04-01",
        }
    }

    fn actions(self) -> &'static [Action] {
        match self {
            Self::Vpc => VPC,
            Self::Ecs => ECS,
            Self::Sts => STS,
        }
    }
}

type Read = fn(&State, Timestamp, &Rpc) -> ApiResult<Value>;
type Write = fn(&mut State, Timestamp, &Rpc) -> ApiResult<Value>;

enum Run {
    Read(Read),
    Write(Write),
    /// A write that takes a ClientToken.
    Once(Write),
    /// A call that needs no signature.
    Anonymous(Write),
    Identity,
}

struct Action {
    name: &'static str,
    run: Run,
}

const VPC: &[Action] = &[
    Action { name: "AllocateEipAddress", run: Run::Once(allocate::allocate) },
    Action { name: "AllocateEipAddressPro", run: Run::Once(allocate::allocate) },
    Action { name: "DescribeEipAddresses", run: Run::Read(describe::describe) },
    Action { name: "AssociateEipAddress", run: Run::Once(associate::associate) },
    Action { name: "UnassociateEipAddress", run: Run::Once(associate::unassociate) },
    Action { name: "ReleaseEipAddress", run: Run::Write(release::release) },
    Action { name: "ModifyEipAddressAttribute", run: Run::Write(release::modify) },
    Action { name: "AddCommonBandwidthPackageIp", run: Run::Once(package::add) },
    Action { name: "RemoveCommonBandwidthPackageIp", run: Run::Once(package::remove) },
    Action { name: "TagResources", run: Run::Write(tags::tag) },
    Action { name: "UnTagResources", run: Run::Write(tags::untag) },
    Action { name: "ListTagResources", run: Run::Read(tags::list) },
    Action { name: "DescribeVSwitches", run: Run::Read(|state, _, call| vswitch::describe(state, call)) },
];
const ECS: &[Action] = &[Action { name: "DescribeNetworkInterfaces", run: Run::Read(eni::describe) }];
const STS: &[Action] = &[
    Action { name: "AssumeRoleWithOIDC", run: Run::Anonymous(sts::assume_role_with_oidc) },
    Action { name: "GetCallerIdentity", run: Run::Identity },
];

/// One product's RPC service.
pub struct Endpoint {
    cloud: Arc<CloudSim>,
    product: Product,
}

impl Endpoint {
    pub fn new(cloud: Arc<CloudSim>, product: Product) -> Self {
        Self { cloud, product }
    }
}

impl Service for Endpoint {
    fn call_name(&self, request: &Request) -> String {
        wire::parameter(request, "Action").unwrap_or_else(|| "(no action)".into())
    }

    fn answer(&self, request: &Request) -> Reply {
        match self.cloud.rpc(self.product, &request.method, &Rpc::of(request)) {
            Ok(answer) => wire::success(request, answer),
            Err(error) => wire::error_reply(request, &error),
        }
    }
}

impl CloudSim {
    pub(crate) fn rpc(&self, product: Product, method: &str, call: &Rpc) -> ApiResult<Value> {
        if !matches!(method, "GET" | "POST") {
            return Err(ApiError::new(403, "UnsupportedHTTPMethod", "This http method is not supported."));
        }
        let action = action(product, call)?;
        let caller = match action.run {
            Run::Anonymous(_) => Principal::User,
            _ => self.lock().authenticate(call, self.now())?,
        };
        {
            let state = &mut *self.lock();
            state.windows.admit(action.name, self.now(), &state.settings)?;
        }
        match action.run {
            Run::Read(run) => self.process(action.name, |state, now| run(state, now, call)),
            Run::Write(run) | Run::Anonymous(run) => self.process(action.name, |state, now| run(state, now, call)),
            Run::Once(run) => self.once(action.name, run, call),
            Run::Identity => Ok(caller_identity(&caller)),
        }
    }

    /// Carries a call with a ClientToken out, or repeats the answer of the first with that token.
    fn once(&self, action: &str, run: Write, call: &Rpc) -> ApiResult<Value> {
        let Some(token) = call.text("ClientToken") else {
            return self.process(action, |state, now| run(state, now, call));
        };
        let begun = {
            let state = &mut *self.lock();
            state.tokens.begin(action, token, call.operation(), self.now(), state.settings.token_lifetime)?
        };
        match begun {
            Verdict::Replay(result) => result,
            Verdict::New => self.process(action, |state, now| {
                let result = run(state, now, call);
                state.tokens.finish(action, token, &result, state.settings.token_remembers_failure);
                result
            }),
        }
    }

    /// Takes the action's processing time, then does it.
    fn process<T>(&self, action: &str, run: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let millis = self.lock().settings.processing.get(action).copied().unwrap_or(0);
        std::thread::sleep(Duration::from_millis(millis));
        let mut state = self.lock();
        run(&mut state, self.now())
    }
}

fn action(product: Product, call: &Rpc) -> ApiResult<&'static Action> {
    let name = call.required("Action")?;
    let version = call.required("Version")?;
    if version != product.version() {
        let other = [Product::Vpc, Product::Ecs, Product::Sts].iter().any(|other| other.version() == version);
        return Err(match other {
            true => ApiError::not_found(
                "InvalidProduct.NotFound",
                "Cannot find the product of the Version at this endpoint.",
            ),
            false => ApiError::bad("InvalidVersion", "Specified parameter Version is not valid."),
        });
    }
    product.actions().iter().find(|action| action.name == name).ok_or_else(|| {
        ApiError::not_found("InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
    })
}
