//! The dashboard's files, built into the program: nothing is read from a disk and nothing comes from another host.

use super::answer::{Answer, Denial};
use super::request::Request;

/// Each file with its bytes, by its name in `assets`.
macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("assets/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = files! {
    "index.html" "icon.svg" "theme.js"
    "base.css" "layout.css" "controls.css" "parts.css" "table.css" "overlay.css" "chart.css" "pages.css"
    "app.js" "api.js" "dom.js" "format.js" "parts.js" "overlay.js" "chart.js" "dialects.js" "snippets.js" "key_picker.js"
    "pages/login.js" "pages/overview.js" "pages/keys.js" "pages/key_dialogs.js" "pages/memory.js" "pages/import_dialog.js"
    "pages/playground.js" "pages/usage.js" "pages/settings.js"
};

/// `GET` of a file.
pub(super) fn answer(request: &Request) -> Result<Answer, Denial> {
    let wanted = match request.path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let found = FILES.iter().find(|(name, _)| *name == wanted);
    let (name, bytes) = found.ok_or_else(Denial::not_found)?;
    // Asked for anew each time: after an upgrade, pages must not run with the files of the version before.
    Ok(Answer::of(200, media(name), bytes.to_vec()).with("cache-control", "no-cache"))
}

fn media(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "image/svg+xml",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::FILES;

    #[test]
    fn every_file_is_built_in() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/assets");
        let mut names = Vec::new();
        for (folder, prefix) in [(dir.clone(), ""), (dir.join("pages"), "pages/")] {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let name = entry.file_name().into_string().unwrap();
                    names.push(format!("{prefix}{name}"));
                }
            }
        }
        names.sort();
        let mut built: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        built.sort_unstable();
        assert_eq!(built, names);
    }

    #[test]
    fn text_is_never_put_in_as_markup() {
        let words = [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "srcdoc",
            "DOMParser",
        ];
        for (name, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for word in words {
                assert!(!text.contains(word), "{name} holds {word}");
            }
            for host in ["http://", "https://", "//cdn"] {
                let own = text
                    .replace("http://127.0.0.1:8080", "")
                    .replace("http://www.w3.org/2000/svg", "");
                assert!(!own.contains(host), "{name} names another host");
            }
        }
    }
}
