//! Tags of EIPs.

use super::*;
use crate::cloud::defaults::USER_EIP;
use crate::cloud::tests::{call, world};
use crate::cloud::{CloudSim, UserEip};

const EIPS: [(&str, &str); 2] = [("RegionId", "cn-hangzhou"), ("ResourceType", "eip")];

fn act(cloud: &CloudSim, action: &str, parameters: &[(&str, &str)]) -> ApiResult<Value> {
    call(cloud, action, &[&EIPS, parameters].concat())
}

fn code<T>(result: ApiResult<T>) -> String {
    result.err().map_or_else(|| "ok".into(), |error| error.code)
}

#[test]
fn written_replaced_and_removed() {
    let cloud = world();
    let tag = |key: &str, value: &str| {
        act(&cloud, "TagResources", &[("ResourceId.1", USER_EIP), ("Tag.1.Key", key), ("Tag.1.Value", value)])
    };
    tag("a", "1").unwrap();
    tag("a", "2").unwrap();
    tag("b", "").unwrap();
    let tags = || cloud.eip(USER_EIP).unwrap().tags.into_iter().collect::<Vec<_>>();
    assert_eq!(tags(), [("a".into(), "2".into()), ("b".into(), String::new())]);
    act(&cloud, "UnTagResources", &[("ResourceId.1", USER_EIP), ("TagKey.1", "b"), ("All", "true")]).unwrap();
    assert_eq!(tags(), [("a".into(), "2".into())], "All counts only without TagKey");
    act(&cloud, "UnTagResources", &[("ResourceId.1", USER_EIP), ("All", "true")]).unwrap();
    assert_eq!(tags(), []);
    assert_eq!(code(act(&cloud, "UnTagResources", &[("ResourceId.1", USER_EIP)])), "MissingParam.TagKey");
}

#[test]
fn at_most_twenty_and_all_or_nothing() {
    let cloud = world();
    let full = (0..20).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    let full = cloud.create_user_eip(UserEip { tags: full, ..UserEip::default() });
    let both =
        [("ResourceId.1", USER_EIP), ("ResourceId.2", full.as_str()), ("Tag.1.Key", "new"), ("Tag.1.Value", "v")];
    assert_eq!(code(act(&cloud, "TagResources", &both)), "QuotaExceeded.TagsPerResource");
    assert!(cloud.eip(USER_EIP).unwrap().tags.is_empty());
    let unknown = [("ResourceId.1", USER_EIP), ("ResourceId.2", "eip-none"), ("Tag.1.Key", "x"), ("Tag.1.Value", "v")];
    assert_eq!(code(act(&cloud, "TagResources", &unknown)), "InvalidResourceId.NotFound");
    assert!(cloud.eip(USER_EIP).unwrap().tags.is_empty());
}

#[test]
fn listed_by_resource_and_tag_in_pages() {
    let cloud = world();
    for n in 0..3 {
        let tags = [("podeip-cluster".to_owned(), format!("c{n}")), ("x".to_owned(), "y".to_owned())].into();
        cloud.create_user_eip(UserEip { id: format!("eip-{n}"), tags, ..UserEip::default() });
    }
    let rows = |parameters: &[(&str, &str)]| {
        act(&cloud, "ListTagResources", parameters).unwrap()["TagResources"]["TagResource"].as_array().unwrap().len()
    };
    assert_eq!(rows(&[("Tag.1.Key", "podeip-cluster")]), 6);
    assert_eq!(rows(&[("Tag.1.Key", "podeip-cluster"), ("Tag.1.Value", "c1")]), 2);
    assert_eq!(rows(&[("ResourceId.1", "eip-2"), ("Tag.1.Key", "podeip-cluster"), ("Tag.1.Value", "c1")]), 0);
    let first = act(&cloud, "ListTagResources", &[("Tag.1.Key", "x"), ("MaxResults", "4")]).unwrap();
    let next = first["NextToken"].as_str().unwrap();
    assert_eq!(rows(&[("Tag.1.Key", "x"), ("MaxResults", "4"), ("NextToken", next)]), 2);
    assert_eq!(code(act(&cloud, "ListTagResources", &[])), "MissingParameter");
}
