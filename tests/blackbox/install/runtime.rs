//! A runtime that reads drop-in folders, as far as its configuration goes: what it has loaded, and when it loads.
//!
//! No runtime that Debian 12 has reads them. This one does it as containerd 2.1 does, which was tried by hand: it watches
//! the directory and not the folders in it, and loads everything anew when a file in the directory is written, goes, or is
//! moved away; not when one comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::site::Site;

type Chain = Result<Vec<String>, String>;

/// It ends when it is dropped.
pub struct Runtime {
    loaded: Arc<Mutex<Chain>>,
    over: Arc<AtomicBool>,
}

impl Runtime {
    /// Loads what is there, and then what it hears of.
    pub fn start<'scope>(scope: &'scope thread::Scope<'scope, '_>, site: &'scope Site) -> Self {
        let heard = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(&site.scene.path("net.d"), heard).unwrap();
        let loaded = Arc::new(Mutex::new(site.chain_with_drop_ins()));
        let over = Arc::new(AtomicBool::new(false));
        let runtime = Self { loaded: loaded.clone(), over: over.clone() };
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match inotify.read_events() {
                    Ok(_) => *loaded.lock().unwrap() = site.chain_with_drop_ins(),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        runtime
    }

    /// What it would run for a pod now.
    pub fn chain(&self) -> Vec<String> {
        self.loaded.lock().unwrap().clone().unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
