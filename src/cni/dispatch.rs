//! From one call of the runtime to the domain's verbs, and back to one answer on stdout.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;

use super::error::{CniError, Code};
use super::request::{self, Annotations, Command, Request};
use super::version;
use crate::eip::failure::{Failure, Kind};
use crate::eip::node::Paths;
use crate::eip::verbs::{self, Called, PodName};
use crate::{logging, net};

/// Serves one call: `CNI_*` from `variable`, the configuration from `stdin`, the answer to `stdout`.
pub fn run(variable: impl Fn(&str) -> Option<String>, stdin: &mut dyn Read, stdout: &mut dyn Write) -> ExitCode {
    let any_netns = variable("CNI_NETNS_OVERRIDE").is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"));
    let outcome = request::read(&variable, stdin).and_then(|request| serve(&request, any_netns));
    let printed = match &outcome {
        Ok(answer) => stdout.write_all(answer.as_bytes()).and_then(|()| stdout.flush()),
        Err(error) => error.print(stdout),
    };
    match (outcome, printed) {
        (Ok(_), Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Makes a panic an answer that the runtime can show, instead of a signal without a word. DEL then
/// succeeds: its failure would keep the primary plugin from its DEL, and the record is still there
/// for the next round.
pub fn answer_panics() {
    let deleting = std::env::var_os("CNI_COMMAND").is_some_and(|command| command == "DEL");
    std::panic::set_hook(Box::new(move |panic| {
        if !deleting {
            let error = CniError::new(Code::Internal, "podeip broke off on a fault of its own; please report it")
                .with_details(panic.to_string());
            // Nothing is left to do when stdout is gone too.
            let _ = error.print(&mut io::stdout());
        }
        // After the answer: logging may be what broke.
        log::error!("{panic}");
        std::process::exit(i32::from(!deleting));
    }));
}

/// `any_netns` lifts the rule that a sandbox is never in the network namespace of the plugin.
fn serve(request: &Request, any_netns: bool) -> Result<String, CniError> {
    logging::init(&request.stanza.log_file, request.stanza.log_level);
    // Not on DEL, unlike Go's plugin library: a `/proc/<pid>/ns/net` whose pid was given to a process
    // of the host would keep the primary plugin from its DEL.
    let enters_netns = matches!(request.command, Command::Add | Command::Check);
    if enters_netns && !any_netns && net::own_netns(&request.netns) {
        return Err(not_a_sandbox(request));
    }
    let answering = |failure: Failure| answer(failure).answering(Some(request.command), Some(&request.cni_version));
    let paths = Paths {
        settings: request.stanza.config.clone(),
        kubeconfig: request.stanza.kubeconfig.clone(),
        state_directory: request.stanza.state_dir.clone(),
    };
    let result_ip = || request.prev_result.as_ref()?.pod_ipv4(&request.ifname);
    match request.command {
        Command::Version => return Ok(format!("{}\n", version::answer(&request.cni_version))),
        Command::Add => verbs::add(&called(request, &paths, &result_ip)),
        Command::Del => verbs::del(&called(request, &paths, &result_ip)),
        Command::Check => verbs::check(&called(request, &paths, &result_ip)),
        Command::Gc => request.valid_attachments.as_deref().map_or(Ok(()), |valid| verbs::gc(&paths, valid)),
        Command::Status => {
            return verbs::status(&paths).map_err(|failure| unavailable(failure, request)).map(|()| String::new());
        }
    }
    .map_err(answering)?;
    match (&request.prev_result, request.command) {
        (Some(result), Command::Add) => Ok(format!("{}\n", result.json())),
        _ => Ok(String::new()),
    }
}

fn called<'a>(request: &'a Request, paths: &'a Paths, result_ip: &'a dyn Fn() -> Option<Ipv4Addr>) -> Called<'a> {
    Called {
        paths,
        container_id: &request.container_id,
        ifname: &request.ifname,
        netns: &request.netns,
        pod: request.args.pod().map(|pod| PodName {
            namespace: pod.namespace.into(),
            name: pod.name.into(),
            uid: pod.uid.cloned(),
        }),
        annotations: match &request.annotations {
            Annotations::NotPassed => None,
            Annotations::Passed(annotations) => Some(annotations),
        },
        result_ip,
    }
}

fn not_a_sandbox(request: &Request) -> CniError {
    let msg = format!("CNI_NETNS {} is the plugin's own network namespace, not a sandbox's", request.netns);
    CniError::new(Code::InvalidNetns, msg)
        .with_details("set CNI_NETNS_OVERRIDE=1 if this is meant")
        .answering(Some(request.command), Some(&request.cni_version))
}

fn answer(failure: Failure) -> CniError {
    let code = match failure.kind {
        Kind::TryAgain => Code::TryAgainLater,
        Kind::Annotation => Code::InvalidAnnotation,
        Kind::Configuration => Code::Configuration,
        Kind::Credentials => Code::Credentials,
        Kind::Quota => Code::Quota,
        Kind::EipUnavailable => Code::EipUnavailable,
        Kind::NetworkMode => Code::NetworkMode,
        Kind::CloudRefused => Code::CloudRefused,
        Kind::Kubernetes => Code::KubernetesApi,
        Kind::LocalState => Code::LocalState,
    };
    CniError::new(code, failure.message).with_details(failure.hint.unwrap_or_default())
}

fn unavailable(failure: Failure, request: &Request) -> CniError {
    CniError::new(Code::NotAvailable, failure.message)
        .with_details(failure.hint.unwrap_or_default())
        .answering(Some(request.command), Some(&request.cni_version))
}
