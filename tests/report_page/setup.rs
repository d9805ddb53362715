//! What every test of the page begins with.

use std::sync::{Mutex, MutexGuard, PoisonError};

use songrnn_fast::viz::page::data::{PageData, TunePage};
use songrnn_fast::viz::page::{RenderOptions, render};

use super::browser::{self, Browser};

/// One browser at a time: sound needs its time slices.
static TURN: Mutex<()> = Mutex::new(());

pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A browser and the folder of its page; None after saying why not.
pub fn start(test: &str) -> Option<(Browser, tempfile::TempDir)> {
    let Some(program) = browser::find() else {
        println!("SKIP {test}: no chromium, chromium-browser or google-chrome is installed");
        return None;
    };
    Some((Browser::start(&program, 1280, 900), tempfile::tempdir().unwrap()))
}

pub fn open(
    browser: &mut Browser,
    folder: &tempfile::TempDir,
    data: &PageData,
    options: &RenderOptions,
) -> usize {
    let html = render(data, options);
    let file = folder.path().join("report.html");
    std::fs::write(&file, &html).unwrap();
    browser.open(&file);
    html.len()
}

/// A page with tunes alone.
pub fn tunes_page(tunes: Vec<TunePage>) -> PageData {
    PageData { title: "Tunes".to_owned(), tunes, ..PageData::default() }
}
