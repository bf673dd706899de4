//! libFuzzer over everything that podeip reads. The variable `PODEIP_FUZZ` names the target, or is
//! `list`; `scripts/fuzz` runs them.
#![no_main]

mod cloud;
mod cni;
mod conflist;
mod files;
mod kube;
mod mutate;
mod oracle;
mod request;

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};

/// Judges one input; panics when something does not hold. `Reject` keeps an input out of the corpus.
type Target = fn(&[u8]) -> Corpus;

const TARGETS: [(&str, Target); 15] = [
    ("addon_token", files::addon_token),
    ("annotations", request::annotations),
    ("certificate", files::certificate),
    ("cloud", cloud::answer),
    ("cni_args", cni::cni_args),
    ("conflist", conflist::edited),
    ("eni_conf", files::eni_conf),
    ("kube_list", kube::list),
    ("kube_object", kube::object),
    ("kube_refusal", kube::refusal),
    ("kubeconfig", files::kubeconfig),
    ("metadata", cloud::metadata),
    ("notes", files::notes),
    ("state", files::state),
    ("stdin", cni::stdin),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

/// The named target, before libFuzzer starts: it takes an end of the process from then on for a finding.
fn chosen() -> Target {
    let name = std::env::var("PODEIP_FUZZ").unwrap_or_default();
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            TARGETS.iter().for_each(|(known, _)| println!("{known}"));
            std::process::exit(i32::from(name != "list"));
        }
    }
}

fuzz_target!(init: CHOSEN.get_or_init(chosen), |data: &[u8]| -> Corpus { CHOSEN.get_or_init(chosen)(data) });

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| { mutate::mutated(data, size, most, seed) });
