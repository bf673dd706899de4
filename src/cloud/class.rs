//! What a refusal means: the cloud's code, status and message sorted into classes. Pure.
//!
//! Codes come first because the same code arrives with different statuses from different products.

/// What kind of failure a call met, by what the caller should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Refused before execution: too many calls of this account. Repeated here with long pauses.
    Throttled,
    /// 5xx and busy answers; the call may have had its effect. Repeated here with the same token.
    ServerTrouble,
    /// Another operation is in the way, or a back-end of the cloud refused for the moment:
    /// look at the resource, then call again with a new token.
    Conflict,
    /// The first request with this token still runs. Repeated here with the same token.
    TokenInFlight,
    /// The token was used with other parameters, or cannot be used: call again with a new one.
    TokenMisuse,
    /// The EIP does not exist (any more): success wherever something is taken away.
    Gone,
    /// The ENI, instance or bandwidth package does not exist (any more). An ENI that goes takes
    /// its bindings along.
    TargetGone,
    /// A limit of the account, the ENI or the package is reached.
    Quota,
    /// The cloud has no such address to give now.
    Stock,
    /// Balance or arrears.
    Money,
    /// The credentials, the account or the resource's owner forbid the call.
    Permission,
    /// The temporary credentials expired. Renewed and repeated once here.
    CredentialExpired,
    /// Unknown, disabled or mismatched credentials, or a wrong signature. Read anew and repeated once here.
    CredentialWrong,
    /// The node's clock is off, or a nonce was seen twice. Repeated once here.
    Clock,
    /// Parameters, action or region that the cloud does not accept.
    BadCall,
    /// The private IP (or its instance) already has a public address: perhaps the wanted one.
    AlreadyBound,
    /// The EIP is in a bandwidth package: perhaps the wanted one.
    AlreadyInPackage,
    /// The EIP is in no package, or not in this one.
    NotInPackage,
    /// This private IP or VPC cannot carry an EIP as it is set up: prefix address, EIP mode of the
    /// ENI, IPv4 gateway.
    Unfit,
    /// The EIP's own state forbids it until a person acts: locked, protected, prepaid, managed.
    Locked,
    /// Sent, and not answered or answered with something unreadable: the effect is unknown.
    Unanswered,
    /// Never reached the cloud.
    NotSent,
    /// No source of credentials had any.
    NoCredentials,
    /// A refusal we do not know.
    Other,
}

impl Class {
    /// Whether the request was turned away or not answered before its ClientToken meant anything: the
    /// next one carries the same token, since an earlier one with it may still be at work.
    pub fn leaves_token(self) -> bool {
        use Class::{Clock, CredentialExpired, CredentialWrong, NoCredentials, NotSent, ServerTrouble};
        use Class::{Throttled, TokenInFlight, Unanswered};
        matches!(self, NotSent | Unanswered | ServerTrouble | TokenInFlight | Throttled)
            || matches!(self, NoCredentials | CredentialExpired | CredentialWrong | Clock)
    }
}

/// The class of an answered refusal. `code` may be empty.
pub(super) fn classify(code: &str, status: u16, message: &str) -> Class {
    if code.contains("Throttling") || status == 429 {
        return Class::Throttled;
    }
    // With a 4xx status it is an answer to this token; a 5xx is trouble on the way.
    if status < 500 && matches!(code, "SystemBusy" | "OperationFailed.SystemBusy") {
        return Class::Conflict;
    }
    // Some products hide an expired token in a parameter error.
    if message.contains("SecurityToken.Expired") {
        return Class::CredentialExpired;
    }
    exact(code).or_else(|| by_pattern(code)).unwrap_or_else(|| by_status(status))
}

fn exact(code: &str) -> Option<Class> {
    EXACT.iter().find(|(_, codes)| codes.contains(&code)).map(|(class, _)| *class)
}

fn by_pattern(code: &str) -> Option<Class> {
    if code.ends_with(".FinancialLocked") {
        return Some(Class::Money);
    }
    PREFIXES
        .iter()
        .find(|(_, prefixes)| prefixes.iter().any(|prefix| code.starts_with(prefix)))
        .map(|(class, _)| *class)
}

fn by_status(status: u16) -> Class {
    match status {
        500.. => Class::ServerTrouble,
        401 | 403 => Class::Permission,
        _ => Class::Other,
    }
}

/// Codes whose meaning their prefix does not tell. Spellings are the cloud's.
const EXACT: &[(Class, &[&str])] = &[
    (Class::ServerTrouble, &["InternalError", "ServiceUnavailable", "SystemBusy", "OperationFailed.SystemBusy"]),
    (
        Class::Conflict,
        &[
            "OperationConflict",
            "VPC_TASK_CONFLICT",
            "IncorrectStatus",
            "IncorrectEipStatus",
            "IncorrectInstanceStatus",
            "IncorrectHaVipStatus",
            "InvalidBindingStatus",
            "InvalidAction.Denied", // an earlier change of the EIP is not finished
            "EipOperation.TooFrequently",
            "BandwidthPackageOperation.conflict",
            "OperationFailed.DistibuteLock",
            "OperationFailed.EcsMigrating",
            "FrequentPurchase.EIP",
            "OrderFailed.ConcurrentOperate",
            "InvalidIpStatus.HasBeenUsedBySnatTable",
            "InvalidIpStatus.HasBeenUsedByForwardEntry",
            // Billing and inner services behind the API: answered 400, so the token is spent.
            "OperationFailed.InvokeInnerApi",
            "OperationFailed.QueryPrice",
            "OperationFailed.QueryUserLabel",
            "OperationFailed.QueryCredtiInfo",
            "OperationFailed.QueryCommodityInfo",
            "OperationFailed.SaleValidate",
            "OperationFailed.SaleExpression",
            "OrderFailed",
            "OrderError.EIP",
            "Trade_Sync_Create_Sub_ERROR",
            "FAILED_INVOKE_INNER_API",
            "ResourceQueryError",
        ],
    ),
    (Class::TokenInFlight, &["LastTokenProcessing", "OperationFailed.LastTokenProcessing"]),
    (
        Class::TokenMisuse,
        &[
            "IdempotentParameterMismatch",
            "IdempotenceParamNotMatch",
            "InvalidIdempotenceParameter.Mismatch",
            "InvalidClientToken.ValueNotSupported",
            "IdempotentFailed",
        ],
    ),
    (Class::Gone, &["InvalidAllocationId.NotFound", "InvalidIpInstanceId.NotFound"]),
    (
        Class::TargetGone,
        &[
            "InvalidEniId.NotFound",
            "InvalidInstanId.NotFound",
            "InvalidInstanceId.NotFound",
            "InvalidNicOrVm.NotFound",
            "InvalidInstance.NotExist",
            "OperationFailed.InstanceNotExist",
            "InvalidBindInstance.NotFound",
            "InvalidBandwidthPackageId.NotFound",
            "InvalidBandwidthPackage.NotExist",
            "InvalidEcsId.NotFound",
            "InvalidVSwitchId.NotFound",
            "InvalidSecurityGroupId.NotFound",
            "InvalidLoadBalancerId.NotFound",
        ],
    ),
    (
        Class::Quota,
        &[
            "OperationFailed.QuotaNotEnough",
            "ORDER.QUANTITY_INVALID",
            "InvalidEip.EipQuotaExceeded",
            "IpInstanceId.QuotaExceeded",
        ],
    ),
    (
        Class::Stock,
        &[
            "ReserveIpFail",
            "OperationFailed.InsufficientEIP",
            "OperationFailed.ResourceNotEnough",
            "ResourceNotEnough.PublicIpAddressPool",
        ],
    ),
    (
        Class::Money,
        &[
            "PAY.INSUFFICIENT_BALANCE",
            "PAYFOR.CREDIT_PAY_INSUFFICIENT_BALANCE",
            "CreditPayInsufficientBalance",
            "OperationFailed.CreditPayInsufficientBalance",
            "AccountMoneyValidateError",
            "OperationFailed.AccountMoneyInvalid",
            "Account.Arrearage",
            "SYSTEM.SALE_VALIDATE_UNEXPECTED_ERROR",
            "PAY.MAYI_WITHHOLDING_AGREEMENT_ILLEGAL",
            "NATGATEWAY_FINANCIALLOCKED",
        ],
    ),
    (
        Class::Permission,
        &[
            "Forbbiden",
            "InvalidUserType.NotSupported",
            "Abs.InvalidAccount.NotFound",
            "OperationFailed.RiskControl",
            "OperationFailed.CompleteUserInfo",
            "OperationFailed.BasicInfoUncompleted",
        ],
    ),
    (Class::CredentialExpired, &["InvalidSecurityToken.Expired"]),
    (Class::CredentialWrong, &["MissingSecurityToken", "SignatureDoesNotMatch", "IncompleteSignature"]),
    (Class::Clock, &["SignatureNonceUsed", "InvalidTimeStamp.Expired", "IllegalTimestamp"]),
    (
        Class::AlreadyBound,
        &[
            "InvalidAssociation.Duplicated",
            "ResourceAlreadyAssociated.IpAddress",
            "BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP",
            "EIP_CAN_NOT_ASSOCIATE_WITH_PUBLIC_IP",
            "Forbidden.InstanceBandwidthNotZero",
        ],
    ),
    (Class::AlreadyInPackage, &["IpInstanceId.AlreadyInBandwidthPackage"]),
    (Class::NotInPackage, &["OperationUnsupported.IpNotInCbwp", "IpInstanceId.NotBandwidthPackage"]),
    (
        Class::Unfit,
        &[
            "OperationFailed.IpPrefixConflict",
            "UnsupportedFeature.EipBindPrefixIp",
            "OperationFailed.Ipv4GatewayNotOpenedInVpc",
            "OperationFailed.Ipv4GatewayNotActivatedInVpc",
            "OperationDenied.Ipv4GatewayExist",
            "OperationDenied.VpcIpv4GatewayEnabled",
            "OperationDenied.NoAvailablePrivateIp",
            "OperationDenied.UnsupportedEipBindMode",
            "OperationDenied.L2EipBindIpAddress",
            "OperationDenied.SecurityProtectionTypesInconsistent",
            "OperationFailed.EniSubIp",
            "OperationFailed.EipBindModeConflict",
            "OperationUnsupported.EipBindModel",
            "OperationUnsupported.MultiIp",
            "Invalid.DirectEip.BindType",
            "IllegalParam.Mode",
        ],
    ),
    (
        Class::Locked,
        &[
            "InvalidEIPStatus.BizDisabled",
            "InvalidOperation.DeletionProtection",
            "Forbidden.ChargeTypeIsPrepaid",
            "Forbidden.ReleaseSegmentEip",
            "OperationUnsupported.ServiceManaged",
        ],
    ),
    (
        Class::BadCall,
        &[
            // These three look like conflicts, but waiting never mends them.
            "IncorrectStatus.PublicIpAddressPool",
            "IncorrectStatus.Ip",
            "InvalidStatus.ValueNotSupported",
            // These look like missing permissions, and are wrong parameters.
            "Forbidden.RegionNotFound",
            "Forbidden.RegionId",
            "Forbidden.EipCanNotBindGatgw",
            // No family tells these.
            "Ip.Allocated",
            "OperationFailed.AllocateUnfamiliarIp",
            "OperationFailed.HavipBoundPortmap",
            "OperationFailed.SnatPoolIp",
            "OperationFailed.ZoneIdInconsistent",
            "TokenVerfiy.Failed",
            "COMMODITY_NO_EXIST",
            "INSTANCE_TYPE_NOT_SUPPORT",
            "FUWU_BIZ_COMMODITY_VERIFY_FAIL",
            "BIND_INSTANCE_OWENER_ERROR",
            "EIP_BIND_NATGATEWAY",
        ],
    ),
];

/// Families of codes, asked in this order after the exact ones.
const PREFIXES: &[(Class, &[&str])] = &[
    (Class::Conflict, &["TaskConflict", "IncorrectStatus.", "InvalidStatus."]),
    (Class::Quota, &["QuotaExceeded", "QuotaExceed."]),
    (Class::Money, &["InsufficientBalance"]),
    (Class::CredentialWrong, &["InvalidAccessKeyId", "InvalidSecurityToken"]),
    (Class::Unfit, &["Eni.", "Mode.", "OperationDenied.CloudBox"]),
    (Class::Permission, &["Forbidden", "NoPermiss", "OperationDenied"]),
    (
        Class::BadCall,
        &[
            "Missing",
            "Invalid",
            "Illegal",
            "Iellgal",
            "Unsupported",
            "OperationUnsupported",
            "QueryParameter.",
            "ResourceNotFound.",
            "Mismatch.",
            "Exclusive",
            "ParamExclusive.",
            "BindInstance.",
            "InstanceType.",
            "InstanceIdLength.",
            "EipBindRemote.",
            "ServerRegion.",
            "DependencyViolation.",
            "AttrMismatching.",
            "IpInstanceId.",
            "BandwidthPackageId.",
        ],
    ),
];

#[cfg(test)]
mod tests;
