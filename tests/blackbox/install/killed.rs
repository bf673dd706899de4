//! An installation that is killed at any moment, and two at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::site::{BRIDGE, Site};
use crate::scene::Answer;

const KILLS: u32 = 24;

#[test]
fn killed_at_any_moment_it_leaves_the_old_configuration_or_the_new_one() {
    let site = Site::new();
    let started = Instant::now();
    site.install();
    let whole = started.elapsed();
    let installed = site.conf_files();
    for nth in 0..KILLS {
        site.write_conf("10-podnet.conflist", BRIDGE);
        // Every other time there is no executable to copy, so that the kill falls into what comes after it.
        if nth % 2 == 0 {
            fs::remove_file(site.executable()).unwrap()
        } else {
            site.place_executable()
        }
        let mut child = site.installing(&[]).spawn().unwrap();
        let span = if nth % 2 == 0 { whole } else { Duration::from_millis(40) };
        thread::sleep(span * nth / KILLS);
        child.kill().unwrap();
        child.wait().unwrap();

        let files: Vec<_> =
            site.conf_files().into_iter().filter(|(name, _)| !name.starts_with(".podeip-tmp-")).collect();
        let old = vec![("10-podnet.conflist".to_owned(), BRIDGE.to_owned())];
        assert!(files == old || files == installed.clone().into_iter().collect::<Vec<_>>(), "{files:?}");
        site.assert_whole();
        site.place_executable();
    }

    // What the killed ones left is swept as soon as it cannot belong to a living one.
    let directories = ["bin", "net.d", "."].map(|directory| site.scene.path(directory));
    for directory in &directories {
        fs::write(directory.join(".podeip-tmp-leftover"), "half").unwrap();
        for leftover in leftovers(directory) {
            let file = File::options().write(true).open(leftover).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }
    site.install();
    assert_eq!(site.conf_files(), installed);
    for directory in &directories {
        assert!(leftovers(directory).is_empty(), "{:?}", leftovers(directory));
    }
}

fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with(".podeip-tmp-"));
    files
}

#[test]
fn two_at_the_same_moment_make_one_installation() {
    let site = Site::with_executable();
    for _ in 0..4 {
        site.write_conf("10-podnet.conflist", BRIDGE);
        let both = [0, 1].map(|_| site.installing(&[]).spawn().unwrap());
        for child in both {
            let answer = Answer::from(child.wait_with_output().unwrap());
            assert_eq!(answer.code, Some(0), "{answer:?}");
        }
        assert_eq!(site.chain().unwrap(), ["bridge", "podeip"]);
        assert_eq!(site.install().stdout, "");
    }
}
