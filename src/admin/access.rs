//! Who may ask: the host that a request names, the admin token, sessions of the dashboard, and the brake on guesses.
//!
//! A page of another site can make a browser send requests here, so nothing is done for a cookie alone: the request has
//! to name a host that is ours (a name that was rebound to this address is not), and one that changes something has to
//! carry the session's own token, which other pages cannot read, and to come from our own page where the browser says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::answer::Denial;
use super::request::Request;
use super::token::random_text;
use crate::audit::Who;
use crate::clock;
use crate::config::{Admin, Listen};
use crate::http::Method;
use crate::limits::network_of;
use crate::secret::Secret;

/// Followed by the port that the browser asks: cookies are the host's, and two routers may be at two ports of one.
const COOKIE_START: &str = "mr_session";
/// A working day, after which somebody else may sit at the screen.
const SESSION_SECONDS: u64 = 12 * 3600;
/// People have a few; scripts that log in again and again push the oldest out.
const SESSIONS_MAX: usize = 1000;
const SESSION_CHARACTERS: usize = 43;

/// Wrong tokens from one address before the next attempt waits.
const GUESSES_MAX: u32 = 5;
const GUESSES_SPAN: Duration = Duration::from_secs(60);
const GUESSERS_MAX: usize = 4096;

/// What lets a request in.
pub(super) struct Access {
    token: Secret,
    sessions: RefCell<HashMap<String, Session>>,
    guesses: RefCell<HashMap<Option<IpAddr>, Guesses>>,
}

/// Somebody who logged in.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) csrf: String,
    pub(super) expires_at: i64,
    ends: Instant,
}

struct Guesses {
    count: u32,
    since: Instant,
}

impl Access {
    pub(super) fn new(token: Secret) -> Self {
        Self {
            token,
            sessions: RefCell::default(),
            guesses: RefCell::default(),
        }
    }

    /// Lets the request in, or says why not.
    pub(super) fn judge(&self, request: &Request) -> Result<Who, Denial> {
        if let Some(value) = request.field("authorization") {
            let token = bearer(value).ok_or_else(no_credential)?;
            self.check(request, token)?;
            return Ok(Who::AdminToken);
        }
        let session = self.session(request).ok_or_else(no_credential)?;
        if !matches!(request.method, Method::Get | Method::Head) {
            same_origin(request)?;
            let sent = Secret::new(request.field("x-csrf").unwrap_or_default().as_bytes());
            if sent != Secret::new(session.csrf.as_bytes()) {
                return Err(Denial::new(403, "The X-CSRF header is missing or wrong")
                    .hint("GET /admin/v1/session tells the session's own"));
            }
        }
        Ok(Who::Dashboard)
    }

    /// The session that the request's cookie names, while it lasts.
    pub(super) fn session(&self, request: &Request) -> Option<Session> {
        let sessions = self.sessions.borrow();
        let session = sessions.get(cookie(request)?)?;
        (session.ends > Instant::now()).then(|| session.clone())
    }

    /// Starts a session for whoever knows the token; returns it with its cookie.
    pub(super) fn log_in(
        &self,
        request: &Request,
        token: &Secret,
    ) -> Result<(Session, String), Denial> {
        same_origin(request)?;
        self.check(request, token.expose())?;
        let failed = |_| Denial::new(500, "The system gives no random bytes");
        let id = random_text(SESSION_CHARACTERS).map_err(failed)?;
        let now = Instant::now();
        let session = Session {
            csrf: random_text(SESSION_CHARACTERS).map_err(failed)?,
            expires_at: clock::unix_seconds() + SESSION_SECONDS as i64,
            ends: now + Duration::from_secs(SESSION_SECONDS),
        };
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.ends);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                sessions.remove(&oldest);
            }
        }
        let cookie = set_cookie(request, &id, SESSION_SECONDS);
        sessions.insert(id, session.clone());
        Ok((session, cookie))
    }

    /// Ends the request's session; returns the cookie that makes the browser forget it.
    pub(super) fn log_out(&self, request: &Request) -> String {
        if let Some(id) = cookie(request) {
            self.sessions.borrow_mut().remove(id);
        }
        set_cookie(request, "", 0)
    }

    /// Compares with the token, in the same time wherever the difference stands. Who was wrong too often is not even
    /// told whether this one is right.
    fn check(&self, request: &Request, token: &[u8]) -> Result<(), Denial> {
        let now = Instant::now();
        let guesser = request.peer.map(|peer| network_of(peer.ip()));
        let mut guesses = self.guesses.borrow_mut();
        if let Some(guesses) = guesses.get(&guesser)
            && let Some(left) = GUESSES_SPAN.checked_sub(now - guesses.since)
            && guesses.count >= GUESSES_MAX
        {
            let seconds = left.as_secs() + 1;
            return Err(Denial::new(429, "Too many wrong admin tokens")
                .hint(format!("Try again in {seconds} s"))
                .with("retry-after", seconds.to_string()));
        }
        if Secret::new(token) == self.token {
            guesses.remove(&guesser);
            return Ok(());
        }
        if guesses.len() >= GUESSERS_MAX {
            guesses.retain(|_, guesses| now - guesses.since < GUESSES_SPAN);
        }
        if guesses.len() < GUESSERS_MAX {
            let guesses = guesses.entry(guesser).or_insert(Guesses {
                count: 0,
                since: now,
            });
            if now - guesses.since >= GUESSES_SPAN {
                (guesses.count, guesses.since) = (0, now);
            }
            guesses.count += 1;
        }
        Err(Denial::new(401, "Wrong admin token")
            .hint("It stands in admin.token in the data directory"))
    }
}

fn no_credential() -> Denial {
    Denial::new(401, "Missing or invalid authentication")
        .hint("Use: Authorization: Bearer and the token in admin.token, or POST /admin/v1/login")
}

/// The token behind `Bearer`, in any case, with one or more spaces.
fn bearer(value: &str) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let bare = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && bare.len() < token.len()).then_some(bare.as_bytes())
}

fn cookie(request: &Request) -> Option<&str> {
    let pairs = request.field("cookie")?.split(';');
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let own = cookie_name(request);
    pairs.find(|(name, _)| *name == own).map(|(_, id)| id)
}

fn cookie_name(request: &Request) -> String {
    let host = request.field("host").and_then(host_and_port);
    match host {
        Some((_, Some(port))) => format!("{COOKIE_START}_{port}"),
        _ => COOKIE_START.to_owned(),
    }
}

fn set_cookie(request: &Request, id: &str, seconds: u64) -> String {
    let origin = request.field("origin").unwrap_or_default();
    let secure = request.secure || origin.starts_with("https://");
    let secure = if secure { "; Secure" } else { "" };
    let name = cookie_name(request);
    format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Where a browser says from where a request comes, it has to be from here.
fn same_origin(request: &Request) -> Result<(), Denial> {
    let foreign = || Denial::new(403, "The request comes from another site");
    if request.has_field("sec-fetch-site")
        && !matches!(
            request.field("sec-fetch-site"),
            Some("same-origin" | "none")
        )
    {
        return Err(foreign());
    }
    if request.has_field("origin") {
        let host = request.field("host").unwrap_or_default();
        let sent = request.field("origin").unwrap_or_default();
        let is_own = |scheme| sent.eq_ignore_ascii_case(&format!("{scheme}://{host}"));
        // In front of a port without TLS there may be a proxy that speaks it.
        if !(is_own("https") || !request.secure && is_own("http")) {
            return Err(foreign());
        }
    }
    Ok(())
}

/// A name in `Host` that is not ours is another site's, which a resolver was made to lead here.
pub(super) fn check_host(request: &Request, admin: &Admin) -> Result<(), Denial> {
    let foreign = || {
        Denial::new(403, "This host name is not served here")
            .hint("Names besides loopback and the address in admin.listen stand in admin.hosts")
    };
    if names_loopback(request) {
        return Ok(());
    }
    let host = request.field("host").unwrap_or_default();
    let (name, _) = host_and_port(host).ok_or_else(foreign)?;
    let name = name.to_ascii_lowercase();
    let own = match &admin.listen {
        Some(Listen::Tcp(address)) if !address.ip().is_unspecified() => Some(address.ip()),
        _ => None,
    };
    let known = name.parse::<IpAddr>().is_ok_and(|ip| own == Some(ip));
    if known || admin.hosts.contains(&name) {
        Ok(())
    } else {
        Err(foreign())
    }
}

/// Whether a request asks for this machine from itself. What a proxy passes on comes from here too, but asks for a name.
pub(super) fn from_here(request: &Request) -> bool {
    let peer_is_here = request.peer.is_none_or(|peer| peer.ip().is_loopback());
    peer_is_here && names_loopback(request)
}

fn names_loopback(request: &Request) -> bool {
    let host = match request.field("host") {
        Some(host) if !host.is_empty() => host,
        // No browser is without; over a Unix socket there is no browser.
        _ => return request.peer.is_none(),
    };
    host_and_port(host).is_some_and(|(name, _)| match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    })
}

/// A host without its brackets, and its port. None where something else stands behind the brackets.
fn host_and_port(host: &str) -> Option<(&str, Option<&str>)> {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let (name, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Some((name, None)),
            Some(port) if is_port(port) => Some((name, Some(port))),
            _ => None,
        };
    }
    Some(match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.contains(':') => (name, Some(port)),
        _ => (host, None),
    })
}
