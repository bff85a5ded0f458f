//! Whom requests can go to: the providers that are built in, and what the file adds or changes.
//!
//! The table is made once; everything else names a provider by its place in it (`ProviderId`). A provider may stand
//! in it without an address (Azure before it is configured): routing to it is then an error of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::base_url::BaseUrl;
use super::reader::{Section, Value, Wrong, nearest, one_or_many, parsed, string, word};
use super::{STREAM_USAGE, StreamUsage};
use crate::provider::{Dialect, Kind};

/// The name of the built-in provider for trying out; no table of the file can take it.
pub const DEMO: &str = "demo";

/// The last version of Azure's dated data-plane API that is no preview.
const AZURE_API_VERSION: &str = "2024-10-21";
/// Older ones refuse `stream_options`. Those without a date (`preview`, `v1`) sort behind it.
const AZURE_COUNTS_SINCE: &str = "2024-09-01";

const KINDS: &[(&str, Kind)] = &[
    ("openai", Kind::OpenAi),
    ("anthropic", Kind::Anthropic),
    ("google", Kind::Google),
    ("azure", Kind::Azure),
    ("keyless", Kind::Keyless),
];

const DIALECTS: &[(&str, Dialect)] = &[
    ("openai", Dialect::OpenAi),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
];

/// Other prefixes of built-in providers.
const ALIASES: &[(&str, &str)] = &[("x-ai", "xai")];

/// Name, kind, base URL (host and path; all are HTTPS).
#[rustfmt::skip] // A table reads by rows.
const BUILT_IN: &[(&str, Kind, &str, &str)] = &[
    ("openai", Kind::OpenAi, "api.openai.com", "/v1"),
    ("anthropic", Kind::Anthropic, "api.anthropic.com", ""),
    ("google", Kind::Google, "generativelanguage.googleapis.com", ""),
    ("xai", Kind::OpenAi, "api.x.ai", "/v1"),
    ("deepseek", Kind::OpenAi, "api.deepseek.com", "/v1"),
    ("mistral", Kind::OpenAi, "api.mistral.ai", "/v1"),
    ("cerebras", Kind::OpenAi, "api.cerebras.ai", "/v1"),
    ("groq", Kind::OpenAi, "api.groq.com", "/openai/v1"),
    ("together", Kind::OpenAi, "api.together.xyz", "/v1"),
    ("openrouter", Kind::OpenAi, "openrouter.ai", "/api/v1"),
];

/// One vendor, or one account's own endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Also the prefix of models that names it: `name/model`.
    pub name: String,
    /// Other prefixes with the same meaning.
    pub aliases: Vec<String>,
    /// Decides credential form and upstream path.
    pub kind: Kind,
    /// What it speaks, its own first.
    pub dialects: Vec<Dialect>,
    /// Equal addresses of it; none until it is configured.
    pub base_urls: Vec<BaseUrl>,
    /// Certificates to trust in place of the system's, PEM.
    pub ca: Option<PathBuf>,
    /// Only of kind `Azure`.
    pub azure: Option<Azure>,
    /// Whether it may be asked for counts of a stream.
    pub usage: StreamUsage,
}

impl Provider {
    /// Whether it speaks `dialect`.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.dialects.contains(&dialect)
    }

    /// The kind's word in the file.
    pub fn kind_name(&self) -> &'static str {
        word_of(KINDS, self.kind)
    }

    /// The dialects' words in the file.
    pub fn dialect_names(&self) -> impl Iterator<Item = &'static str> {
        self.dialects
            .iter()
            .map(|dialect| word_of(DIALECTS, *dialect))
    }
}

/// What Azure wants to know besides the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// For models that `deployments` does not name; else the deployment is called like the model.
    pub deployment: Option<String>,
    /// Model to deployment.
    pub deployments: BTreeMap<String, String>,
    /// The `api-version` of every request.
    pub api_version: String,
}

/// A provider's place in the table of one `Config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(pub usize);

/// The table of providers: names and prefixes are unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers(Vec<Provider>);

impl Providers {
    /// The provider of a name or of another prefix for it.
    pub fn find(&self, name: &str) -> Option<ProviderId> {
        let named = |provider: &Provider| {
            provider.name == name || provider.aliases.iter().any(|alias| alias == name)
        };
        self.0.iter().position(named).map(ProviderId)
    }

    /// The provider at a place that `find` or `iter` named.
    pub fn get(&self, id: ProviderId) -> &Provider {
        &self.0[id.0]
    }

    /// All of them, built-in ones first.
    pub fn iter(&self) -> impl Iterator<Item = (ProviderId, &Provider)> {
        let ids = (0..).map(ProviderId);
        ids.zip(&self.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: some are built in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells where the demo provider came to listen; nothing happens if it is not enabled.
    pub fn set_demo_address(&mut self, address: SocketAddr) {
        if let Some(ProviderId(demo)) = self.find(DEMO) {
            let host = address.ip().to_string();
            self.0[demo].base_urls = vec![BaseUrl::new(false, host, address.port(), "/v1".into())];
        }
    }

    pub(super) fn built_in() -> Self {
        let hosted = BUILT_IN.iter().map(|&(name, kind, host, path)| {
            let url = BaseUrl::new(true, host.into(), 443, path.into());
            let mut provider = Provider::new(name, kind);
            let aliases = ALIASES.iter().filter(|(_, of)| *of == name);
            provider.aliases = aliases.map(|(alias, _)| (*alias).to_owned()).collect();
            provider.base_urls.push(url);
            provider
        });
        let mut providers: Vec<_> = hosted.collect();
        providers.push(Provider::new("azure", Kind::Azure));
        let mut ollama = Provider::new("ollama", Kind::Keyless);
        let local = BaseUrl::new(false, "127.0.0.1".into(), 11434, "/v1".into());
        ollama.base_urls.push(local);
        providers.push(ollama);
        Self(providers)
    }

    /// Adds the demo provider, without an address yet.
    pub(super) fn add_demo(&mut self) {
        let mut demo = Provider::new(DEMO, Kind::Keyless);
        demo.dialects = vec![Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
        self.0.push(demo);
    }

    /// Reads `[providers]`: changes to what is built in, and tables of new names.
    pub(super) fn read(section: &mut Section<'_>, dir: &Path) -> Self {
        let mut providers = Self::built_in();
        let built_in: Vec<&'static str> = BUILT_IN.iter().map(|row| row.0).collect();
        for (provider, name) in providers
            .0
            .iter_mut()
            .zip(built_in.iter().chain(&["azure", "ollama"]))
        {
            section.optional_section(name, |section| provider.amend(section, dir));
        }
        section.named(|name, section| {
            if let Err(wrong) = is_name(name) {
                section.wrong(wrong);
            }
            let mut provider = Provider::new(name, Kind::OpenAi);
            let addressed = provider.amend(section, dir);
            if name == DEMO {
                return section.wrong("this name belongs to the built-in provider; see [demo]");
            }
            if providers.find(name).is_some() {
                return section.wrong("this name is another provider's alias");
            }
            if !addressed {
                let known = providers.0.iter().map(|provider| provider.name.as_str());
                section.wrong(match nearest(name, known) {
                    Some(near) => format!("base_url is missing; did you mean [providers.{near}]?"),
                    None => "base_url is missing".to_owned(),
                });
            }
            providers.0.push(provider);
        });
        providers.report_shared_names(section);
        providers
    }

    fn report_shared_names(&self, section: &Section<'_>) {
        for provider in &self.0 {
            for alias in &provider.aliases {
                let named =
                    |other: &&Provider| other.name == *alias || other.aliases.contains(alias);
                if self.0.iter().filter(named).count() > 1
                    || provider.name == *alias
                    || alias == DEMO
                {
                    let name = &provider.name;
                    section.wrong(format!("{name}: the alias {alias:?} names two providers"));
                }
            }
        }
    }
}

impl Provider {
    fn new(name: &str, kind: Kind) -> Self {
        let azure = (kind == Kind::Azure).then(|| Azure {
            deployment: None,
            deployments: BTreeMap::new(),
            api_version: AZURE_API_VERSION.to_owned(),
        });
        Self {
            name: name.to_owned(),
            aliases: Vec::new(),
            kind,
            dialects: dialects_of(kind),
            base_urls: Vec::new(),
            ca: None,
            azure,
            usage: stream_usage(name, kind),
        }
    }

    /// Takes over what a table says, and tells whether it says an address (a wrong one counts).
    fn amend(&mut self, section: &mut Section<'_>, dir: &Path) -> bool {
        if let Some(kind) = section.optional("kind", word(KINDS))
            && kind != self.kind
        {
            let plain = Self::new(&self.name, kind);
            self.kind = kind;
            self.dialects = plain.dialects;
            self.azure = plain.azure;
            self.usage = plain.usage;
        }
        let kind = self.kind;
        let mut given = false;
        let urls = section.optional("base_url", |value| {
            given = true;
            one_or_many(|value| base_url(value, kind))(value)
        });
        self.base_urls = urls.unwrap_or(std::mem::take(&mut self.base_urls));
        if let Some(dialects) = section.optional("dialects", one_or_many(word(DIALECTS))) {
            self.dialects = dialects;
        }
        if let Some(aliases) = section.optional("aliases", one_or_many(parsed(name))) {
            self.aliases = aliases;
        }
        self.ca = section.optional("ca", parsed(|text| super::sections::path(text, dir)));
        if let Some(azure) = &mut self.azure {
            azure.deployment = section.optional("deployment", parsed(azure_word));
            azure.api_version =
                section.value("api_version", azure.api_version.clone(), parsed(azure_word));
            azure.deployments = section.section("deployments", |section| {
                let deployment =
                    |model: &str, value| Ok((model.to_owned(), parsed(azure_word)(value)?));
                section.rest(deployment).into_iter().collect()
            });
            if *azure.api_version < *AZURE_COUNTS_SINCE {
                self.usage = StreamUsage::Estimate;
            }
        }
        self.usage = section.value("usage", self.usage, word(STREAM_USAGE));
        given
    }
}

/// Those that are known to answer with one event more, and nothing else. Most others send counts without being asked, and
/// engines of one's own may refuse a member that they do not know.
fn stream_usage(name: &str, kind: Kind) -> StreamUsage {
    match kind {
        Kind::OpenAi if name == "openai" => StreamUsage::Exact,
        Kind::Azure => StreamUsage::Exact,
        _ => StreamUsage::Estimate,
    }
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    let found = words.iter().find(|(_, own)| *own == meaning);
    found.map_or("", |(word, _)| word)
}

fn dialects_of(kind: Kind) -> Vec<Dialect> {
    match kind {
        Kind::OpenAi | Kind::Azure | Kind::Keyless => vec![Dialect::OpenAi],
        Kind::Anthropic => vec![Dialect::Anthropic, Dialect::OpenAi],
        Kind::Google => vec![Dialect::Gemini, Dialect::OpenAi],
    }
}

/// Reads an address. Where a dialect brings its own version segment, one that is configured is taken off, since
/// people copy base URLs in either form.
fn base_url<'a>(value: &'a Value<'a>, kind: Kind) -> Result<BaseUrl, Wrong> {
    let url = BaseUrl::parse(string(value)?).map_err(|error| error.to_string())?;
    Ok(url.without_suffix(match kind {
        Kind::Anthropic => &["/v1"],
        Kind::Google => &["/v1beta", "/v1"],
        Kind::Azure => &["/openai"],
        Kind::OpenAi | Kind::Keyless => &[],
    }))
}

fn name(text: &str) -> Result<String, String> {
    is_name(text).map(|()| text.to_owned())
}

/// Names stand before the slash of a model and in answers.
fn is_name(text: &str) -> Result<(), String> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(());
    }
    Err("a provider's name is 1 to 64 of a-z 0-9 . _ -".into())
}

/// Deployments and versions stand in the upstream path and query as they are.
fn azure_word(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} holds other characters than A-Z a-z 0-9 . _ -"
    ))
}
