//! Every code that the reference lists for the actions we call, and the class it must have.

use super::*;

fn all(class: Class, status: u16, codes: &str) {
    for code in codes.split_whitespace() {
        assert_eq!(classify(code, status, "some prose"), class, "{code}");
    }
}

#[test]
fn allocate() {
    all(
        Class::Quota,
        400,
        "QuotaExceeded.Eip QuotaExceeded.LargeSpecEip OperationFailed.QuotaNotEnough ORDER.QUANTITY_INVALID",
    );
    all(
        Class::Money,
        400,
        "InsufficientBalance PAY.INSUFFICIENT_BALANCE PAYFOR.CREDIT_PAY_INSUFFICIENT_BALANCE \
         CreditPayInsufficientBalance OperationFailed.CreditPayInsufficientBalance AccountMoneyValidateError \
         OperationFailed.AccountMoneyInvalid SYSTEM.SALE_VALIDATE_UNEXPECTED_ERROR \
         PAY.MAYI_WITHHOLDING_AGREEMENT_ILLEGAL",
    );
    all(Class::Conflict, 400, "FrequentPurchase.EIP OrderFailed.ConcurrentOperate");
    all(
        Class::Stock,
        400,
        "ReserveIpFail OperationFailed.InsufficientEIP OperationFailed.ResourceNotEnough \
         ResourceNotEnough.PublicIpAddressPool",
    );
    all(
        Class::Conflict,
        400,
        "OperationFailed.InvokeInnerApi OperationFailed.QueryPrice OperationFailed.QueryUserLabel \
         OperationFailed.QueryCredtiInfo OperationFailed.SaleValidate OperationFailed.SaleExpression OrderFailed \
         OrderError.EIP Trade_Sync_Create_Sub_ERROR",
    );
    all(
        Class::BadCall,
        400,
        "InvalidParameter InvalidBandwidth.Malformed InvalidComponent.EipBandwidthMax IllegalParam.Isp \
         IllegalParam.Zone IllegalParam.OrderParamComponent QueryParameter.Illegal InvalidRegion.NotSupport \
         InvalidResourceGroupId COMMODITY_NO_EXIST INSTANCE_TYPE_NOT_SUPPORT IellgalParameter.OwnerAccount \
         ExclusiveParam.ZoneAndPublicIpAddressPoolId UnsupportedFeature.AllocateEipAddressWithZone \
         Mismatch.IpAndPublicIpAddressPool ResourceNotFound.PublicIpAddressPool IncorrectStatus.PublicIpAddressPool \
         ResourceNotFound.Ip Ip.Allocated IncorrectStatus.Ip OperationFailed.AllocateUnfamiliarIp TokenVerfiy.Failed",
    );
    all(
        Class::Permission,
        400,
        "OperationDenied.NotOpenDdosOriginProtectService OperationFailed.RiskControl \
         OperationFailed.CompleteUserInfo OperationFailed.BasicInfoUncompleted",
    );
    all(Class::Permission, 403, "Forbidden Forbbiden");
    all(Class::BadCall, 404, "InvalidRegionId.NotFound FUWU_BIZ_COMMODITY_VERIFY_FAIL");
    all(Class::Conflict, 409, "OperationConflict");
    all(Class::ServerTrouble, 500, "InternalError OperationFailed.SystemBusy SystemBusy ServiceUnavailable");
}

#[test]
fn describe() {
    all(
        Class::BadCall,
        400,
        "InvalidIAssociatedInstanceType.ValueNotSupported InstanceType.Invalid InstanceIdLength.Exceed \
         InvalidChargeType.ValueNotSupported InvalidResourceGroupId InvalidTagKey InvalidTagValue InvalidAliuid \
         OperationUnsupported.ResourceGroupId IellgalParameter.OwnerAccount",
    );
    all(
        Class::BadCall,
        404,
        "Forbidden.RegionNotFound InvalidFilterKey.NotFound InvalidFilterValue InvalidLockReason.NotFound",
    );
}

#[test]
fn associate() {
    all(
        Class::Conflict,
        400,
        "TaskConflict IncorrectEipStatus IncorrectInstanceStatus InvalidBindingStatus IncorrectStatus.NatGateway \
         InvalidStatus.EcsStatusNotSupport InvalidStatus.EniStatusNotSupport InvalidStatus.InstanceHasBandWidth \
         OperationFailed.EcsMigrating IncorrectHaVipStatus InvalidStatus.NotAllow InvalidAction.Denied \
         OperationFailed.QueryCommodityInfo ResourceQueryError",
    );
    all(Class::Conflict, 400, "OperationFailed.SystemBusy SystemBusy");
    all(Class::ServerTrouble, 500, "OperationFailed.SystemBusy SystemBusy");
    all(
        Class::AlreadyBound,
        400,
        "InvalidAssociation.Duplicated ResourceAlreadyAssociated.IpAddress BIND_INSTANCE_HAVE_PORTMAP_OR_BIND_EIP \
         EIP_CAN_NOT_ASSOCIATE_WITH_PUBLIC_IP Forbidden.InstanceBandwidthNotZero",
    );
    all(
        Class::Quota,
        400,
        "InvalidEip.EipQuotaExceeded QuotaExceeded.NumberOfEip QuotaExceeded.NumberOfTrafficEip \
         QuotaExceed.MultiBindedEip",
    );
    all(
        Class::Unfit,
        400,
        "OperationDenied.NoAvailablePrivateIp Eni.Attached Eni.HasSubIp OperationFailed.EniSubIp \
         Invalid.DirectEip.BindType Mode.Conflict Mode.NotSupport IllegalParam.Mode \
         OperationFailed.EipBindModeConflict OperationDenied.UnsupportedEipBindMode OperationUnsupported.EipBindModel \
         OperationUnsupported.MultiIp OperationFailed.IpPrefixConflict UnsupportedFeature.EipBindPrefixIp \
         OperationFailed.Ipv4GatewayNotOpenedInVpc OperationFailed.Ipv4GatewayNotActivatedInVpc \
         OperationDenied.Ipv4GatewayExist OperationDenied.VpcIpv4GatewayEnabled OperationDenied.L2EipBindIpAddress \
         OperationDenied.CloudBoxSomething",
    );
    all(
        Class::BadCall,
        400,
        "InvalidParameter InvalidParameter.Mismatch InvalidParameter.EniInstanceId \
         InvalidParameter.InstanceTypeNotSupport InvalidInstanceType.ValueNotSupported InstanceType.NotSupport \
         INSTANCE_TYPE_NOT_SUPPORT InvalidParams.NotFound BindInstance.NotSupported BIND_INSTANCE_OWENER_ERROR \
         InvalidParameter.BindingInstanceRegion EipBindRemote.BackendRegionMustBeSingle ServerRegion.Invalid \
         UnsupportedRegion Invalid.Function.NotSupported InvalidNexthop.DirectEni UnsupportedFeature.EipBindIpAddress \
         OperationFailed.HavipBoundPortmap Forbidden.EipCanNotBindGatgw InvalidRegionId.NotFound",
    );
    all(
        Class::TargetGone,
        404,
        "InvalidInstanId.NotFound InvalidNicOrVm.NotFound InvalidInstance.NotExist OperationFailed.InstanceNotExist \
         InvalidBandwidthPackageId.NotFound",
    );
    all(Class::Permission, 400, "Forbidden OperationDenied OperationDenied.Unauthorized");
    all(Class::Money, 400, "Forbidden.FinancialLocked NATGATEWAY_FINANCIALLOCKED");
    all(Class::Locked, 400, "InvalidEIPStatus.BizDisabled");
    all(Class::Gone, 404, "InvalidAllocationId.NotFound");
    all(Class::ServerTrouble, 503, "ServiceUnavailable");
}

#[test]
fn unassociate_and_release() {
    all(
        Class::Conflict,
        400,
        "IncorrectEipStatus TaskConflict InvalidBindingStatus IncorrectInstanceStatus IncorrectHaVipStatus \
         InvalidStatus.EcsStatusNotSupport InvalidStatus.EniStatusNotSupport InvalidStatus.SnatOrDnat \
         InvalidStatus.NotAllow InvalidIpStatus.HasBeenUsedBySnatTable InvalidIpStatus.HasBeenUsedByForwardEntry \
         TaskConflict.AssociateGlobalAccelerationInstance OperationConflict IncorrectStatus VPC_TASK_CONFLICT",
    );
    all(Class::TokenInFlight, 400, "OperationFailed.LastTokenProcessing LastTokenProcessing");
    all(
        Class::TargetGone,
        404,
        "InvalidInstanceId.NotFound InvalidBindInstance.NotFound InvalidLoadBalancerId.NotFound",
    );
    all(
        Class::BadCall,
        400,
        "DependencyViolation.SnatEntry InvalidInstanceType.ValueNotSupported Mismatch.RegionIdAndEip",
    );
    all(
        Class::Locked,
        400,
        "Forbidden.ChargeTypeIsPrepaid InvalidOperation.DeletionProtection Forbidden.ReleaseSegmentEip \
         OperationUnsupported.ServiceManaged InvalidEIPStatus.BizDisabled",
    );
}

#[test]
fn bandwidth_packages() {
    all(
        Class::Conflict,
        400,
        "TaskConflict EipOperation.TooFrequently IncorrectStatus.Eip BandwidthPackageOperation.conflict \
         OperationFailed.DistibuteLock FAILED_INVOKE_INNER_API Trade_Sync_Create_Sub_ERROR",
    );
    all(Class::AlreadyInPackage, 400, "IpInstanceId.AlreadyInBandwidthPackage");
    all(Class::NotInPackage, 400, "OperationUnsupported.IpNotInCbwp IpInstanceId.NotBandwidthPackage");
    all(Class::Quota, 400, "IpInstanceId.QuotaExceeded");
    all(
        Class::BadCall,
        400,
        "IpInstanceId.ChargeType.NotSupport IpInstanceId.BizStatusInvalid BandwidthPackageId.InvalidBizStatus \
         OperationUnsupported.IpType ParamExclusive.IpInstanceIdAndBandwidthPackageId MissingParam.BandwidthPackageId \
         OperationFailed.ZoneIdInconsistent AttrMismatching.BandwidthPackageIpVersion \
         Mismatch.CloudBoxCbwpZoneAndEipZone IpInstanceId.InvalidIpInternetChargeType \
         BandwidthPackageId.InvalidBandwidth EIP_BIND_NATGATEWAY DependencyViolation.ip \
         DependencyViolation.RouteEntry OperationFailed.SnatPoolIp InvalidIP.IpInSnatPool \
         OperationUnsupported.EipBindRemote InvalidIpInstanceId.Malformed",
    );
    all(Class::TargetGone, 404, "InvalidBandwidthPackage.NotExist InvalidBandwidthPackageId.NotFound");
    all(Class::Gone, 404, "InvalidIpInstanceId.NotFound");
    all(Class::Unfit, 400, "OperationDenied.SecurityProtectionTypesInconsistent");
}

#[test]
fn tags_and_interfaces() {
    all(
        Class::BadCall,
        400,
        "MissingParam.TagKey MissingParam.TagValue IllegalParam.TagKey IllegalParam.TagValue MissingParameter \
         UnsupportedParameter InvalidParameter InvalidInstanceID.Malformed Forbidden.RegionId \
         InvalidRegionId.MalFormed",
    );
    all(
        Class::Permission,
        403,
        "InvalidUserType.NotSupported Abs.InvalidAccount.NotFound Forbidden.NotSupportRAM Forbidden.SubUser",
    );
    all(
        Class::TargetGone,
        404,
        "InvalidEcsId.NotFound InvalidEniId.NotFound InvalidVSwitchId.NotFound InvalidSecurityGroupId.NotFound",
    );
}

#[test]
fn common_to_all_actions() {
    all(
        Class::Throttled,
        400,
        "Throttling Throttling.User Throttling.Api Throttling.DeepPageSkip Rejected.Throttling OperationFailed.Throttling",
    );
    all(Class::Throttled, 503, "Throttling.User");
    all(
        Class::TokenMisuse,
        400,
        "IdempotentParameterMismatch IdempotenceParamNotMatch InvalidIdempotenceParameter.Mismatch \
         InvalidClientToken.ValueNotSupported IdempotentFailed",
    );
    all(Class::Money, 400, "InsufficientBalance.Eip Account.Arrearage Anything.FinancialLocked");
    all(Class::Permission, 400, "Forbidden.RAM NoPermission NoPermisson Forbidden.RiskControl");
    all(Class::CredentialExpired, 400, "InvalidSecurityToken.Expired");
    all(
        Class::CredentialWrong,
        404,
        "InvalidAccessKeyId.NotFound InvalidAccessKeyId.Inactive InvalidSecurityToken.Malformed \
         InvalidSecurityToken.MismatchWithAccessKey MissingSecurityToken SignatureDoesNotMatch IncompleteSignature",
    );
    all(Class::Clock, 400, "SignatureNonceUsed InvalidTimeStamp.Expired IllegalTimestamp");
    all(
        Class::BadCall,
        404,
        "MissingParameter.RegionId InvalidAction.NotFound InvalidProduct.NotFound UnsupportedHTTPMethod",
    );
}

#[test]
fn what_the_code_does_not_say() {
    assert_eq!(
        classify("InvalidParameter", 400, "Specified SecurityToken.Expired is not valid"),
        Class::CredentialExpired
    );
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
