//! Ready configuration for a podeip that is to live in a world.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cloud::defaults;
use crate::world::World;

impl World {
    /// `eni_conf` with the AccessKey and this world's endpoints.
    pub fn eni_conf(&self) -> Value {
        json!({
            "version": "1",
            "enable_eip_pool": "true",
            "region_id": defaults::REGION,
            "vpc_id": defaults::VPC,
            "cluster_id": defaults::CLUSTER,
            "access_key": defaults::ACCESS_KEY_ID,
            "access_secret": defaults::ACCESS_KEY_SECRET,
            "endpoints": {"vpc": self.vpc_url, "ecs": self.ecs_url, "sts": self.sts_url, "metadata": self.metadata_url},
        })
    }

    /// A kubeconfig (YAML) for this world's API server: its CA, and a token or else the client
    /// certificate.
    pub fn kubeconfig(&self) -> String {
        let ca = STANDARD.encode(&self.certificates.ca);
        let user = match &self.kube.token {
            Some(token) => format!("    token: \"{token}\"\n"),
            None => format!(
                "    client-certificate-data: {}\n    client-key-data: {}\n",
                STANDARD.encode(&self.certificates.client.certificate),
                STANDARD.encode(&self.certificates.client.key)
            ),
        };
        let authority = match self.kube_url.starts_with("https") {
            true => format!("    certificate-authority-data: {ca}\n"),
            false => String::new(),
        };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: sim\n\
             clusters:\n- name: sim\n  cluster:\n    server: {}\n{authority}\
             users:\n- name: podeip\n  user:\n{user}\
             contexts:\n- name: sim\n  context:\n    cluster: sim\n    user: podeip\n",
            self.kube_url
        )
    }
}
