//! The dashboard's files, built into the program: nothing is read from a disk and nothing comes from another host.

use super::answer::{Answer, Denial};
use super::request::Request;

const HTML: &str = "text/html; charset=utf-8";

/// Each file by the path that it is asked for.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("assets/index.html")),
    ("/index.html", HTML, include_bytes!("assets/index.html")),
];

/// `GET` of a file.
pub(super) fn answer(request: &Request) -> Result<Answer, Denial> {
    let found = FILES.iter().find(|(path, ..)| *path == request.path);
    let (_, media, bytes) = found.ok_or_else(Denial::not_found)?;
    // Asked for anew each time: after an upgrade, pages must not run with the files of the version before.
    Ok(Answer::of(200, media, bytes.to_vec()).with("cache-control", "no-cache"))
}
