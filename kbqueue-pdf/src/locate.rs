use std::env;
use std::env::consts::{ARCH, DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

const VARIABLE: &str = "KBQUEUE_PDFIUM";

/// Finds the pdfium library for a program: the first of
///
/// 1. the file that the environment variable `KBQUEUE_PDFIUM` names,
/// 2. `libpdfium.so` beside the executable,
/// 3. `.pdfium/libpdfium.so` in the working directory or one above it,
/// 4. `libpdfium.so` in the directories of `LD_LIBRARY_PATH`, then in the system's.
///
/// (On other systems the names are theirs: `libpdfium.dylib`, `pdfium.dll`.)
///
/// # Errors
/// The library is nowhere; or `KBQUEUE_PDFIUM` is set and names no file: then nothing else is tried,
/// so that nobody runs on a library they did not ask for.
pub fn find_pdfium() -> Result<PathBuf, NotFound> {
    Places::of_this_process().find()
}

/// Why there is no pdfium library. Its text lists where it was looked for and how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Variable(PathBuf),
    Nowhere(Vec<PathBuf>),
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Variable(path) => write!(
                f,
                "{VARIABLE} is '{}', and there is no such file; set it to the pdfium library file, \
                 or unset it to have the library looked for",
                path.display()
            ),
            Reason::Nowhere(looked) => {
                writeln!(
                    f,
                    "the pdfium library was not found. {VARIABLE} is not set, and there is none of"
                )?;
                for path in looked {
                    writeln!(f, "  {}", path.display())?;
                }
                write!(f, "To fetch it, run in kbqueue's directory: make setup")
            }
        }
    }
}

impl std::error::Error for NotFound {}

/// Where to look.
#[derive(Debug, Default)]
struct Places {
    variable: Option<PathBuf>,
    executable_dir: Option<PathBuf>,
    working_dir: Option<PathBuf>,
    library_path: Vec<PathBuf>,
}

impl Places {
    fn of_this_process() -> Self {
        let listed = |variable| env::var_os(variable).unwrap_or_default();
        let search_path = if cfg!(target_os = "macos") {
            listed("DYLD_LIBRARY_PATH")
        } else if cfg!(windows) {
            listed("PATH")
        } else {
            listed("LD_LIBRARY_PATH")
        };
        Self {
            variable: env::var_os(VARIABLE)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            executable_dir: env::current_exe()
                .ok()
                .and_then(|path| path.parent().map(Path::to_owned)),
            working_dir: env::current_dir().ok(),
            library_path: library_path(&search_path),
        }
    }

    fn find(self) -> Result<PathBuf, NotFound> {
        if let Some(path) = self.variable {
            if path.is_file() {
                return Ok(path);
            }
            return Err(NotFound {
                reason: Reason::Variable(path),
            });
        }
        let file = format!("{DLL_PREFIX}pdfium{DLL_SUFFIX}");
        let above = self.working_dir.iter().flat_map(|dir| dir.ancestors());
        let looked: Vec<PathBuf> = self
            .executable_dir
            .iter()
            .map(|dir| dir.join(&file))
            .chain(above.map(|dir| dir.join(".pdfium").join(&file)))
            .chain(self.library_path.iter().map(|dir| dir.join(&file)))
            .collect();
        match looked.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => Err(NotFound {
                reason: Reason::Nowhere(looked),
            }),
        }
    }
}

/// The directories of the search path, then those that every loader knows.
fn library_path(search_path: &OsString) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::split_paths(search_path)
        .filter(|dir| dir.is_absolute())
        .collect();
    if cfg!(unix) {
        for root in ["/usr/local/lib", "/usr/lib", "/lib"] {
            dirs.push(root.into());
            if cfg!(target_os = "linux") {
                dirs.push(format!("{root}/{ARCH}-linux-gnu").into());
                dirs.push(format!("{root}64").into());
            }
        }
    }
    dirs
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(path: PathBuf) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }

    /// Places below `root`, every one of them with a library.
    fn furnished(root: &Path) -> (Places, [PathBuf; 5]) {
        let file = format!("{DLL_PREFIX}pdfium{DLL_SUFFIX}");
        let places = Places {
            variable: Some(root.join("mine.so")),
            executable_dir: Some(root.join("bin")),
            working_dir: Some(root.join("a/b")),
            library_path: vec![root.join("lib")],
        };
        let files = [
            put(root.join("mine.so")),
            put(root.join("bin").join(&file)),
            put(root.join("a/b/.pdfium").join(&file)),
            put(root.join("a/.pdfium").join(&file)),
            put(root.join("lib").join(&file)),
        ];
        (places, files)
    }

    #[test]
    fn the_first_place_wins() {
        let root = tempfile::tempdir().unwrap();
        let (_, files) = furnished(root.path());
        for (i, expected) in files.iter().enumerate() {
            let (mut places, _) = furnished(root.path());
            if i > 0 {
                places.variable = None;
            }
            for earlier in &files[..i] {
                fs::remove_file(earlier).unwrap();
            }
            assert_eq!(places.find().as_ref(), Ok(expected));
        }
    }

    #[test]
    fn a_wrong_variable_is_an_error_even_where_there_is_a_library() {
        let root = tempfile::tempdir().unwrap();
        for wrong in ["missing.so", "bin"] {
            let (mut places, _) = furnished(root.path());
            places.variable = Some(root.path().join(wrong));
            let error = places.find().unwrap_err().to_string();
            assert!(error.contains("KBQUEUE_PDFIUM is '"), "{error}");
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn the_error_lists_every_place_and_the_command() {
        let root = tempfile::tempdir().unwrap();
        let (mut places, files) = furnished(root.path());
        places.variable = None;
        for file in &files {
            fs::remove_file(file).unwrap();
        }
        let error = places.find().unwrap_err().to_string();
        for file in &files[1..] {
            assert!(error.contains(&file.display().to_string()), "{error}");
        }
        assert!(error.contains("KBQUEUE_PDFIUM is not set"), "{error}");
        assert!(error.ends_with("make setup"), "{error}");
    }

    #[test]
    fn relative_entries_of_the_search_path_are_skipped() {
        let dirs = library_path(&env::join_paths(["", "rel", "/opt/x"]).unwrap());
        assert_eq!(dirs[0], PathBuf::from("/opt/x"));
        assert!(dirs.contains(&"/usr/lib".into()), "{dirs:?}");
    }
}
