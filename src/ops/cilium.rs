//! Cilium as the owner of the runtime's directory (`cni-exclusive`, which is its default): it renames every
//! other configuration, and writes its own anew when somebody changes it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::paths::{self, RUNTIMES_EXTENSIONS};

/// What Cilium appends to the name of a configuration that it sets aside.
const ENDING: &str = "cilium_bak";

/// What helps against it.
pub const REMEDY: &str = "Cilium takes the directory for itself: set cni.exclusive=false in its Helm values (cni-exclusive: \
                          \"false\" in the ConfigMap kube-system/cilium-config), restart its agents and remove the \
                          .cilium_bak files; it still writes its own list anew at its start, unless cni.customConf=true \
                          and cni.configMap give it a list that has the podeip stanza";

/// What Cilium has set aside that runtimes would load otherwise.
///
/// # Errors
/// A directory that cannot be read.
pub fn set_aside(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = paths::files_in(directory, &[ENDING])?;
    files.retain(|file| {
        let end = Path::new(file.file_stem().unwrap_or_default()).extension().and_then(OsStr::to_str);
        end.is_some_and(|end| RUNTIMES_EXTENSIONS.contains(&end))
    });
    Ok(files)
}

/// Whether a file has the name that Cilium gives to what it sets aside.
pub fn is_set_aside(file: &Path) -> bool {
    file.extension() == Some(OsStr::new(ENDING))
}

/// Whether a configuration is Cilium's own, such as `05-cilium.conflist`.
pub fn owns(configuration: &Path) -> bool {
    configuration.file_name().and_then(OsStr::to_str).is_some_and(|name| name.contains("cilium"))
}

/// The names alone, for people.
pub fn named(files: &[PathBuf]) -> String {
    let names = files.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy());
    names.collect::<Vec<_>>().join(", ")
}
