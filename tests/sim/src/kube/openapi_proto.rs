//! The OpenAPI document of version 2 as protobuf, the only encoding in which `kubectl` asked for it for
//! years. Of its messages (`openapiv2/OpenAPIv2.proto` of google/gnostic) these are the parts that
//! `kubectl` reads: types, what is required, and what refers to what.

use prost::Message;
use serde_json::{Map, Value};

#[derive(Clone, PartialEq, Message)]
pub struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Schemas>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Schemas {
    #[prost(message, repeated, tag = "1")]
    named: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, optional, tag = "21")]
    additional_properties: Option<OfValues>,
    #[prost(message, optional, tag = "22")]
    types: Option<Types>,
    #[prost(message, optional, tag = "23")]
    items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    properties: Option<Schemas>,
    #[prost(message, repeated, tag = "31")]
    extensions: Vec<Extension>,
}

#[derive(Clone, PartialEq, Message)]
struct OfValues {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<Schema>>,
}

#[derive(Clone, PartialEq, Message)]
struct Types {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Items {
    #[prost(message, repeated, tag = "1")]
    schemas: Vec<Schema>,
}

/// A key that begins with `x-`.
#[derive(Clone, PartialEq, Message)]
struct Extension {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

impl Document {
    pub fn new(version: &str, definitions: &Map<String, Value>) -> Self {
        Self {
            swagger: "2.0".into(),
            info: Some(Info { title: "Kubernetes".into(), version: version.into() }),
            definitions: Some(schemas(definitions)),
        }
    }
}

fn schemas(by_name: &Map<String, Value>) -> Schemas {
    let named = |(name, value): (&String, &Value)| NamedSchema { name: name.clone(), value: Some(schema(value)) };
    Schemas { named: by_name.iter().map(named).collect() }
}

fn schema(value: &Value) -> Schema {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let required = value["required"].as_array().into_iter().flatten();
    let extensions = value.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("x-"));
    Schema {
        reference: text("$ref"),
        format: text("format"),
        description: text("description"),
        required: required.filter_map(Value::as_str).map(str::to_owned).collect(),
        additional_properties: value
            .get("additionalProperties")
            .filter(|rule| rule.is_object())
            .map(|rule| OfValues { schema: Some(Box::new(schema(rule))) }),
        types: value["type"].as_str().map(|name| Types { names: vec![name.to_owned()] }),
        items: value.get("items").map(|item| Items { schemas: vec![schema(item)] }),
        properties: value["properties"].as_object().map(schemas),
        // JSON is YAML.
        extensions: extensions
            .map(|(key, value)| Extension { name: key.clone(), value: Some(Any { yaml: value.to_string() }) })
            .collect(),
    }
}
