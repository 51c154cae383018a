//! The programs under test, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The path of a program of this workspace, built with the profile of the tests.
///
/// # Panics
/// Where it does not build.
#[must_use]
pub fn build(package: &str, binary: &str) -> PathBuf {
    // One build at a time within this process; cargo sees to other processes.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let cargo = std::env::var_os("CARGO").expect("tests are run by cargo");
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--package",
            package,
            "--bin",
            binary,
        ])
        .current_dir(workspace())
        .status()
        .unwrap();
    assert!(built.success(), "{package} does not build");
    // This test is in <target>/<profile>/deps.
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(binary)
}

/// The workspace's root, where the set-up script puts pdfium.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The path of pdfium, for programs that are started elsewhere than in the workspace.
#[must_use]
pub fn pdfium() -> PathBuf {
    std::env::var_os("KBQUEUE_PDFIUM")
        .map_or_else(|| workspace().join(".pdfium/libpdfium.so"), Into::into)
}
