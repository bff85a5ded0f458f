//! The built program: its commands, and a router in a process of its own with everything that it logs.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::caller::Caller;
use super::eventually;
use super::provider::Provider;

/// What a command left.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// The program without anything of this machine's environment.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memoryrouter"));
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a prepared command with `input` on its stdin.
pub fn finish(command: &mut Command, input: &str) -> Done {
    let mut child = command.spawn().unwrap();
    // A command that wants no input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// For what must be told its port before it starts.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A data directory and commands on it.
pub struct Home {
    dir: TempDir,
}

impl Home {
    /// Made by `init`.
    pub fn new() -> Self {
        let home = Self::empty();
        let done = home.run(&["init"]);
        assert_eq!(done.code, 0, "{done:?}");
        home
    }

    /// One that has a key for the provider, in the place of OpenAI, and a memory key, whose token comes with it.
    #[track_caller]
    pub fn paying(provider: &Provider, toml: &str) -> (Self, String) {
        let home = Self::new();
        let url = provider.url("/v1");
        home.configure(&format!("providers.openai.base_url = \"{url}\"\n{toml}"));
        let stored = home.run_with(&["providers", "set", "openai"], "sk-stored");
        assert_eq!(stored.code, 0, "{stored:?}");
        let token = home.mint();
        (home, token)
    }

    /// Nothing there yet.
    pub fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces the configuration; the router listens on a free port.
    pub fn configure(&self, toml: &str) {
        let all =
            format!("server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n{toml}\n");
        std::fs::write(self.file("memoryrouter.toml"), all).unwrap();
    }

    pub fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, "")
    }

    pub fn run_with(&self, args: &[&str], input: &str) -> Done {
        finish(command(args).arg("--dir").arg(self.path()), input)
    }

    /// Mints a key and returns its token.
    #[track_caller]
    pub fn mint(&self) -> String {
        self.run(&["keys", "create", "--json"]).json()["token"]
            .as_str()
            .unwrap()
            .into()
    }

    /// On free ports, if nothing is configured: the usual ones may be taken.
    pub fn serve(&self) -> Served {
        if !self.file("memoryrouter.toml").exists() {
            self.configure("");
        }
        Served::start(command(&["serve", "--dir"]).arg(self.path()))
    }
}

/// A router in its own process.
pub struct Served {
    child: Child,
    log: Arc<Mutex<String>>,
    pub addr: SocketAddr,
    /// The process that serves now, if it is no longer the first one.
    successor: Option<u32>,
}

impl Served {
    /// Runs a prepared `serve`.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let written = log.clone();
        thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                written.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut addr = None;
        eventually("listening", || {
            let log = log.lock().unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {log}");
            let line = log
                .lines()
                .find_map(|line| line.split_once("listening on "));
            addr = line.and_then(|(_, rest)| {
                rest.trim_end_matches(['"', '}'])
                    .split('"')
                    .next()?
                    .parse()
                    .ok()
            });
            addr.is_some()
        });
        Self {
            child,
            log,
            addr: addr.unwrap(),
            successor: None,
        }
    }

    #[track_caller]
    pub fn connect(&self) -> Caller {
        Caller::try_connect(self.addr).unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.successor.unwrap_or(self.child.id())
    }

    /// Lets it start its successor; returns once that serves.
    #[track_caller]
    pub fn hand_over(&mut self) {
        let before = self.log().len();
        self.signal(nix::sys::signal::Signal::SIGUSR2);
        eventually("the successor", || {
            let log = self.log()[before..].to_owned();
            assert!(!log.contains("did not start"), "{log}");
            let pid = log
                .split_once("handed over; draining pid=")
                .and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
            self.successor = pid.or(self.successor);
            pid.is_some()
        });
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Asks it to end; returns the first process's exit code and all that was logged.
    pub fn stop(mut self) -> (i32, String) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        if let Some(pid) = self.successor {
            eventually("the last successor's end", || {
                !Path::new(&format!("/proc/{pid}")).exists()
            });
        }
        // The log's thread ends with the pipe.
        std::thread::sleep(std::time::Duration::from_millis(50));
        (code, self.log())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(pid) = self.successor.take().filter(|_| thread::panicking()) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid as i32),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
