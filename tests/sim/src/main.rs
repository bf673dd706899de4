//! `podeip-sim`: the simulated world on loopback, to try podeip without an account.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use podeip_sim::cloud::defaults;
use podeip_sim::world::{Options, World};
use serde_json::{Value, json};

/// Serves a simulated Alibaba Cloud (VPC, ECS, STS, instance metadata) and a Kubernetes API server
/// on loopback, until it is interrupted.
///
/// On start it prints one line of JSON: all URLs, the credentials and the names of the default
/// world. `GET <control>/` lists what the control endpoint can do: read the whole state and the
/// call log, set faults, latency, quotas and the clock, make network interfaces, EIPs and pods.
#[derive(Parser)]
#[command(name = "podeip-sim", version)]
struct Arguments {
    /// Writes a ready `eni_conf`, `kubeconfig`, `ca.pem`, `client.pem` and `client.key` into this
    /// directory (it is made if it does not exist)
    #[arg(long, value_name = "DIR")]
    write_config: Option<PathBuf>,

    /// First of six consecutive ports: VPC, ECS, STS, metadata, Kubernetes, control
    /// [default: free ports]
    #[arg(long, value_name = "PORT")]
    first_port: Option<u16>,

    /// Listens on [::1] instead of 127.0.0.1
    #[arg(long)]
    ipv6: bool,

    /// Serves the cloud's RPC endpoints over TLS too, with a certificate of the world's own CA
    #[arg(long)]
    cloud_tls: bool,

    /// Serves the Kubernetes API over plain HTTP
    #[arg(long, conflicts_with = "require_client_certificate")]
    kube_plain_http: bool,

    /// Demands a client certificate of the world's CA on the Kubernetes API
    #[arg(long)]
    require_client_certificate: bool,

    /// Switches of the cloud to start with, as a JSON object such as '{"quota":3,"associateDelay":2000}';
    /// `GET <control>/cloud/settings` shows all of them
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut world = World::start(Options {
        kube_plain_http: arguments.kube_plain_http,
        require_client_certificate: arguments.require_client_certificate,
        cloud_tls: arguments.cloud_tls,
        ipv6: arguments.ipv6,
        first_port: arguments.first_port,
        ..Options::default()
    })?;
    if let Some(settings) = &arguments.settings {
        let settings: Value = serde_json::from_str(settings).context("reading --settings")?;
        world.cloud.set_json(&settings)?;
    }
    let control = world.serve_control()?;
    if let Some(directory) = &arguments.write_config {
        write_config(&world, directory).with_context(|| format!("writing into {}", directory.display()))?;
    }
    println!("{}", announcement(&world, &control));
    wait_for_the_end()
}

fn announcement(world: &World, control: &str) -> Value {
    json!({
        "vpc": world.vpc_url, "ecs": world.ecs_url, "sts": world.sts_url, "metadata": world.metadata_url,
        "kube": world.kube_url, "control": control,
        "accessKeyId": defaults::ACCESS_KEY_ID, "accessKeySecret": defaults::ACCESS_KEY_SECRET,
        "kubeToken": world.kube.token, "role": defaults::ROLE,
        "region": defaults::REGION, "vpcId": defaults::VPC, "clusterId": defaults::CLUSTER,
        "instanceId": defaults::INSTANCE, "primaryEni": defaults::PRIMARY_ENI, "podEni": defaults::POD_ENI,
        "podEniMac": defaults::POD_ENI_MAC, "bandwidthPackage": defaults::PACKAGE, "userEip": defaults::USER_EIP,
        "ca": world.certificates.ca,
    })
}

fn write_config(world: &World, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)?;
    let client = &world.certificates.client;
    for (name, content) in [
        ("eni_conf", format!("{:#}\n", world.eni_conf())),
        ("kubeconfig", world.kubeconfig()),
        ("ca.pem", world.certificates.ca.clone()),
        ("client.pem", client.certificate.clone()),
        ("client.key", client.key.clone()),
    ] {
        write_private(&directory.join(name), &content).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// Mode 0600: podeip's own files are, and most of these hold a key.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

fn wait_for_the_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
