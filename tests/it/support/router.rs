//! A router in this process: its own directory, free ports, and everything ended with the test.

use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use memoryrouter::admin;
use memoryrouter::config::{Config, Location};
use memoryrouter::keys::{self, Editor, KeyFiles, KeyStore, MasterSource, NewKey, WatchGuard};
use memoryrouter::net::BoundAddr;
use memoryrouter::secret::Secret;
use memoryrouter::server::{self, Running};
use memoryrouter::usage::{Query, Report, Unanswered};
use tempfile::TempDir;

use super::caller::{Caller, Reply, request};
use super::provider::Provider;

/// What a router is made of.
pub struct Setup {
    toml: String,
    stored: Vec<(String, String)>,
    workers: usize,
    listen: String,
}

impl Setup {
    /// Stored keys of the default account for the well-known providers, `stored-NAME-key`. Where the providers are
    /// is for the test to say: nothing outside this machine is ever dialled.
    pub fn new() -> Self {
        let mut setup = Self {
            toml: String::new(),
            stored: Vec::new(),
            workers: 1,
            listen: r#"["127.0.0.1:0"]"#.into(),
        };
        for name in [
            "openai",
            "anthropic",
            "google",
            "openrouter",
            "mistral",
            "deepseek",
            "xai",
            "groq",
        ] {
            setup
                .stored
                .push((name.into(), format!("stored-{name}-key")));
        }
        setup
    }

    /// OpenAI, Anthropic, Google and OpenRouter are all this one provider.
    pub fn all(provider: &Provider) -> Self {
        Self::new()
            .provider("openai", &provider.url("/v1"))
            .provider("anthropic", &provider.url(""))
            .provider("google", &provider.url(""))
            .provider("openrouter", &provider.url("/api/v1"))
    }

    /// A provider by its base URL.
    pub fn provider(self, name: &str, base_url: &str) -> Self {
        self.toml(&format!("providers.{name}.base_url = \"{base_url}\""))
    }

    /// More configuration, in dotted keys.
    pub fn toml(mut self, toml: &str) -> Self {
        self.toml += toml;
        self.toml.push('\n');
        self
    }

    /// One more stored key of the default account.
    pub fn stored(mut self, provider: &str, key: &str) -> Self {
        self.stored.push((provider.into(), key.into()));
        self
    }

    /// No stored keys at all.
    pub fn without_stored(mut self) -> Self {
        self.stored.clear();
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The TOML of `server.listen`.
    pub fn listen(mut self, listen: &str) -> Self {
        self.listen = listen.into();
        self
    }

    pub fn start(mut self) -> Router {
        let dir = tempfile::tempdir().unwrap();
        if !self.toml.contains("auth_failures") {
            // All of a test's callers have one address.
            self.toml += "limits.auth_failures = 0\n";
        }
        let toml = format!(
            "server.listen = {}\nserver.workers = {}\nadmin.listen = \"127.0.0.1:0\"\n{}",
            self.listen, self.workers, self.toml
        );
        let file = dir.path().join("memoryrouter.toml");
        std::fs::write(&file, toml).unwrap();
        let location = Location {
            dir: dir.path().to_owned(),
            file,
            file_named: true,
        };
        let config = Config::load(&location).unwrap_or_else(|error| panic!("{error}"));
        let files = KeyFiles {
            snapshot: config.keys.snapshot.clone(),
            master: MasterSource::File(config.keys.master_key.clone()),
        };
        keys::init(&files).unwrap();
        let key = keys::edit(&files, |editor| {
            for (provider, key) in &self.stored {
                editor.add_provider_key("default", provider, &secret(key))?;
            }
            Ok(editor
                .add_key(NewKey {
                    account: "default".into(),
                    ..NewKey::default()
                })?
                .1)
        });
        let store = KeyStore::open(files.clone()).unwrap();
        let port = admin::bind(&config).unwrap();
        let running = server::start(Arc::new(config), store.clone()).unwrap();
        let watch = running.control().watch(&store).unwrap();
        let start = |mut port| admin::start(&mut port, &running.control(), &store).unwrap();
        Router {
            key: text(&key.unwrap()),
            admin: port.map(start),
            running: Some(running),
            store,
            files,
            _watch: watch,
            dir,
        }
    }
}

/// A running router.
pub struct Router {
    /// A memory key of the account `default`.
    pub key: String,
    pub store: KeyStore,
    pub files: KeyFiles,
    pub dir: TempDir,
    admin: Option<admin::Running>,
    running: Option<Running>,
    _watch: WatchGuard,
}

impl Router {
    /// With everything at `provider`.
    pub fn start(provider: &Provider) -> Self {
        Setup::all(provider).start()
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// What its store of usage says.
    pub fn used(&self, query: &Query) -> Result<Report, Unanswered> {
        let store = self.running().control().usage().clone();
        let mut answer = pin!(store.ask(query.clone()));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                return answer;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Its first TCP address.
    pub fn addr(&self) -> SocketAddr {
        let tcp = |addr: &BoundAddr| match addr {
            BoundAddr::Tcp(addr) => Some(*addr),
            BoundAddr::Unix(_) => None,
        };
        self.running().addrs().iter().find_map(tcp).unwrap()
    }

    /// The admin port's address.
    pub fn admin_addr(&self) -> SocketAddr {
        match self.admin.as_ref().and_then(admin::Running::addr) {
            Some(BoundAddr::Tcp(addr)) => *addr,
            other => panic!("no TCP address: {other:?}"),
        }
    }

    /// The admin token.
    pub fn admin_token(&self) -> String {
        text(&admin::read_token(self.dir.path()).unwrap())
    }

    pub fn connect(&self) -> Caller {
        Caller::connect(self.addr())
    }

    /// `Bearer` and the memory key.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// A POST with the memory key as bearer.
    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.post_with(target, &[], body)
    }

    /// The same with more fields.
    #[track_caller]
    pub fn post_with(
        &self,
        target: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Reply {
        self.connect().exchange(self.request(target, fields, body))
    }

    /// The bytes of such a request.
    pub fn request(
        &self,
        target: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Vec<u8> {
        let bearer = self.bearer();
        let mut all = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        all.extend_from_slice(fields);
        request("POST", target, &all, body)
    }

    /// A request without a body, as it is given.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
        let mut caller = self.connect();
        caller.send(request(method, target, fields, ""));
        if method == "HEAD" {
            caller.head().unwrap()
        } else {
            caller.reply()
        }
    }

    /// Mints one more key and waits until the router knows it.
    #[track_caller]
    pub fn mint(&self, new: NewKey) -> String {
        let account = if new.account.is_empty() {
            "default".into()
        } else {
            new.account.clone()
        };
        let (_, token) = self.edit(|editor| editor.add_key(NewKey { account, ..new }));
        text(&token)
    }

    /// Changes the snapshot and waits until the router has it.
    #[track_caller]
    pub fn edit<T>(&self, change: impl FnOnce(&mut Editor<'_>) -> Result<T, keys::EditError>) -> T {
        let result = keys::edit(&self.files, change).unwrap();
        let generation = keys::inspect(&self.files).unwrap().0.generation;
        super::eventually("the new snapshot", || {
            self.store.status().generation >= generation
        });
        result
    }

    /// Reads its configuration anew, as SIGHUP does.
    pub fn reload(&self) -> Result<(), server::StartError> {
        let file = self.dir.path().join("memoryrouter.toml");
        let location = Location {
            dir: self.dir.path().to_owned(),
            file,
            file_named: true,
        };
        self.running()
            .control()
            .reload(Arc::new(Config::load(&location).unwrap()))
    }

    /// Ends it and waits.
    pub fn stop(mut self) {
        let running = self.running.take().unwrap();
        running.drain();
        running.wait().unwrap();
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let panics = running.panics();
        running.drain();
        if !std::thread::panicking() {
            assert_eq!(panics, 0, "connections were lost to bugs");
        }
        // Not waited for: open connections of a test may last for as long as `drain` allows.
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn text(secret: &Secret) -> String {
    String::from_utf8(secret.expose().to_vec()).unwrap()
}
