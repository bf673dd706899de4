"""Drives the simulated cloud with Alibaba Cloud's own SDK: what the SDK accepts, signs and expects, the simulator must
understand and answer. Exits with status 1 and a sentence on the first surprise.

    drive.py --vpc http://127.0.0.1:PORT --ecs http://127.0.0.1:PORT --access-key ID --access-secret SECRET
"""

import argparse
import json
import os
import sys
import time
import urllib.parse
import uuid

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest
from aliyunsdkvpc.request.v20160428.AllocateEipAddressRequest import AllocateEipAddressRequest
from aliyunsdkvpc.request.v20160428.AssociateEipAddressRequest import AssociateEipAddressRequest
from aliyunsdkvpc.request.v20160428.DescribeEipAddressesRequest import DescribeEipAddressesRequest
from aliyunsdkvpc.request.v20160428.ListTagResourcesRequest import ListTagResourcesRequest
from aliyunsdkvpc.request.v20160428.ReleaseEipAddressRequest import ReleaseEipAddressRequest
from aliyunsdkvpc.request.v20160428.TagResourcesRequest import TagResourcesRequest
from aliyunsdkvpc.request.v20160428.UnassociateEipAddressRequest import UnassociateEipAddressRequest

# An EIP changes its state within seconds, in the cloud and in the simulator.
STATE_TIMEOUT_SECONDS = 60
OWNER = {"podeip-cluster": "c-sdk", "podeip-pod": "web-0"}


class Surprise(Exception):
    """The simulator did not do what the real service is documented to do."""


def expect(condition, sentence):
    if not condition:
        raise Surprise(sentence)


class Cloud:
    """The two endpoints the test needs, through one SDK client."""

    def __init__(self, args, secret):
        self.region = args.region
        self.vpc = urllib.parse.urlsplit(args.vpc)
        self.ecs = urllib.parse.urlsplit(args.ecs)
        # No retries: an answer that needs one is a surprise.
        self.client = AcsClient(args.access_key, secret, args.region, auto_retry=False)

    def call(self, request, **parameters):
        """One VPC call; its parameters are named as in the API."""
        for name, value in parameters.items():
            getattr(request, f"set_{name}")(value)
        request.set_endpoint(self.vpc.netloc)
        request.set_protocol_type(self.vpc.scheme)
        return self.send(request)

    def network_interfaces(self):
        """ECS DescribeNetworkInterfaces, through the SDK's generic request."""
        request = CommonRequest(self.ecs.netloc, "2014-05-26", "DescribeNetworkInterfaces")
        request.set_protocol_type(self.ecs.scheme)
        request.add_query_param("RegionId", self.region)
        request.add_query_param("MaxResults", 100)
        return self.send(request)["NetworkInterfaceSets"]["NetworkInterfaceSet"]

    def send(self, request):
        request.set_accept_format("json")
        answer = json.loads(self.client.do_action_with_exception(request))
        expect(answer.get("RequestId"), f"{request.get_action_name()} answered without a RequestId")
        return answer

    def refused(self, request, **parameters):
        """The HTTP status and code with which a VPC call is refused."""
        try:
            self.call(request, **parameters)
        except ServerException as refusal:
            expect(refusal.get_request_id(), f"{refusal.get_error_code()} without a RequestId")
            return refusal.get_http_status(), refusal.get_error_code()
        raise Surprise(f"{request.get_action_name()} was not refused")

    def eips(self, **filters):
        answer = self.call(DescribeEipAddressesRequest(), **filters)
        found = answer["EipAddresses"]["EipAddress"]
        expect(answer["TotalCount"] == len(found), f"TotalCount {answer['TotalCount']} for {len(found)} EIPs")
        return found

    def wait_for(self, allocation, status):
        """Polls until the EIP has this status; None means until it is gone."""
        deadline = time.monotonic() + STATE_TIMEOUT_SECONDS
        while True:
            found = self.eips(AllocationId=allocation)
            if (found[0]["Status"] if found else None) == status:
                return found[0] if found else None
            expect(time.monotonic() < deadline, f"{allocation} does not become {status or 'gone'}: {found}")
            time.sleep(0.1)


def free_secondary_ip(cloud):
    """An ENI and one of its secondary private IPs that has no EIP."""
    for eni in cloud.network_interfaces():
        for ip in eni["PrivateIpSets"]["PrivateIpSet"]:
            public = (ip.get("AssociatedPublicIp") or {}).get("PublicIpAddress")
            if not ip["Primary"] and not public:
                return eni["NetworkInterfaceId"], ip["PrivateIpAddress"]
    raise Surprise("DescribeNetworkInterfaces shows no secondary private IP without an EIP")


def allocate(cloud):
    """Once, however often it is asked for with the same token."""
    wishes = {
        "Bandwidth": "7",
        "InternetChargeType": "PayByTraffic",
        "Name": "sdk drive, ümlaut & (co)",
        "Tags": [{"Key": key, "Value": value} for key, value in OWNER.items()],
        "ClientToken": str(uuid.uuid4()),
    }
    first = cloud.call(AllocateEipAddressRequest(), **wishes)
    again = cloud.call(AllocateEipAddressRequest(), **wishes)
    expect(first["AllocationId"] == again["AllocationId"], "the same ClientToken bought two EIPs")
    changed = cloud.refused(AllocateEipAddressRequest(), **{**wishes, "Bandwidth": "8"})
    expect(changed == (400, "IdempotentParameterMismatch"), f"a changed request with a used token gave {changed}")

    allocation = first["AllocationId"]
    eip = cloud.wait_for(allocation, "Available")
    expect(eip["IpAddress"] == first["EipAddress"], "Describe and Allocate disagree on the address")
    expect(str(eip["Bandwidth"]) == "7" and eip["InternetChargeType"] == "PayByTraffic", f"wishes not kept: {eip}")
    expect(eip["Name"] == wishes["Name"], f"the name arrived as {eip['Name']!r}")
    return allocation


def tag(cloud, allocation):
    tags = [{"Key": key, "Value": value} for key, value in {**OWNER, "podeip-uid": "u-1"}.items()]
    cloud.call(TagResourcesRequest(), ResourceType="EIP", ResourceIds=[allocation], Tags=tags)
    listed = cloud.call(ListTagResourcesRequest(), ResourceType="EIP", ResourceIds=[allocation])
    found = {entry["TagKey"]: entry["TagValue"] for entry in listed["TagResources"]["TagResource"]}
    expect(found == {entry["Key"]: entry["Value"] for entry in tags}, f"tags listed: {found}")
    by_tag = cloud.eips(Tags=[{"Key": "podeip-uid", "Value": "u-1"}])
    expect([eip["AllocationId"] for eip in by_tag] == [allocation], f"found by its tag: {by_tag}")
    described = {entry["Key"]: entry["Value"] for entry in by_tag[0]["Tags"]["Tag"]}
    expect(described == found, f"tags described: {described}")


def associate(cloud, allocation, eni, private_ip):
    binding = {"AllocationId": allocation, "InstanceId": eni, "InstanceType": "NetworkInterface"}
    cloud.call(AssociateEipAddressRequest(), **binding, PrivateIpAddress=private_ip, ClientToken=str(uuid.uuid4()))
    eip = cloud.wait_for(allocation, "InUse")
    bound = (eip["InstanceType"], eip["InstanceId"], eip["PrivateIpAddress"])
    expect(bound == ("NetworkInterface", eni, private_ip), f"bound to {bound}")
    busy = cloud.refused(ReleaseEipAddressRequest(), AllocationId=allocation)
    expect(busy == (400, "IncorrectEipStatus"), f"releasing a bound EIP gave {busy}")
    return binding


def unassociate_and_release(cloud, allocation, binding, private_ip):
    cloud.call(UnassociateEipAddressRequest(), **binding, PrivateIpAddress=private_ip, ClientToken=str(uuid.uuid4()))
    eip = cloud.wait_for(allocation, "Available")
    expect(eip["InstanceId"] == "", f"unbound, and still with {eip['InstanceId']}")
    cloud.call(ReleaseEipAddressRequest(), AllocationId=allocation)
    cloud.wait_for(allocation, None)
    gone = cloud.refused(ReleaseEipAddressRequest(), AllocationId=allocation)
    expect(gone == (404, "InvalidAllocationId.NotFound"), f"releasing a released EIP gave {gone}")


def wrong_secret(impostor):
    # The SDK compares its string-to-sign with the one in the refusal and reports InvalidAccessKeySecret when they are
    # equal, so that code proves that both sides have canonicalized the request alike.
    refusal = impostor.refused(DescribeEipAddressesRequest(), EipName="a b+c*~ü")
    expect(refusal == (400, "InvalidAccessKeySecret"), f"a wrong secret gave {refusal}")


def drive(args):
    cloud = Cloud(args, args.access_secret)
    wrong_secret(Cloud(args, args.access_secret + "x"))
    eni, private_ip = free_secondary_ip(cloud)
    allocation = allocate(cloud)
    tag(cloud, allocation)
    binding = associate(cloud, allocation, eni, private_ip)
    unassociate_and_release(cloud, allocation, binding, private_ip)
    print(f"official SDK: {allocation} allocated, tagged, bound to {private_ip} of {eni}, unbound and released")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vpc", required=True, metavar="URL")
    parser.add_argument("--ecs", required=True, metavar="URL")
    parser.add_argument("--region", default="cn-hangzhou")
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--access-secret", required=True)
    args = parser.parse_args()
    # The SDK would send loopback calls through a proxy of the environment.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        os.environ.pop(name, None)
    try:
        drive(args)
    except Surprise as surprise:
        sys.exit(f"drive.py: {surprise}")
    except ServerException as refusal:
        sys.exit(f"drive.py: {refusal.get_http_status()} {refusal}")


main()
