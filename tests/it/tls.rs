//! TLS on both sides, and Unix sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::support::program::{Home, free_port};
use crate::support::{Provider, Router, Setup, Then, eventually, json};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

/// An authority made for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for `name`, PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A caller's connection to a server that it has made `localhost`.
    fn connect(
        &self,
        addr: SocketAddr,
        version: &'static SupportedProtocolVersion,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap();
        roots.add(own).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(addr).unwrap();
        socket
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        StreamOwned::new(connection, socket)
    }

    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(name);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(
            config
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap(),
        )
    }
}

/// A router for callers over TLS, and `dir` with what it needs for that.
fn over_tls(authority: &Authority, dir: &Path, provider: &Provider) -> Router {
    over_tls_with(authority, dir, provider, "")
}

fn over_tls_with(authority: &Authority, dir: &Path, provider: &Provider, toml: &str) -> Router {
    let (certificate, key) = authority.issue("localhost");
    let certificate = write(dir, "cert.pem", &certificate);
    let key = write(dir, "key.pem", &key);
    let tls = format!("server.tls = {{ cert = \"{certificate}\", key = \"{key}\" }}");
    Setup::all(provider).toml(&tls).toml(toml).start()
}

#[test]
fn callers_beyond_the_limit_take_no_room_for_a_handshake_that_never_comes() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let toml = "limits.connections = 8\ntimeouts.head = \"5m\"";
    let router = over_tls_with(&authority, dir.path(), &Provider::plain(), toml);
    let _held: Vec<_> = (0..8).map(|_| router.connect()).collect();
    let mut beyond: Vec<_> = (0..40).map(|_| router.connect()).collect();
    for caller in &mut beyond[1..] {
        assert_eq!(caller.rest(), b"");
    }
    // The first of them may have its handshake, and is told.
    drop(beyond);
    eventually("its place", || router.running().connections() == 8);
    let mut told = authority.connect(router.addr(), &rustls::version::TLS13);
    let mut start = [0; 12];
    told.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 503");
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn providers_over_https_are_checked_against_the_configured_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (Authority::new(), Authority::new());
    let large = format!(r#"{{"text":"{}"}}"#, "z".repeat(1 << 20));
    let answer = json(200, &large);
    let provider = Provider::start_tls(good.server("localhost"), move |_, wire| {
        wire.send(&answer);
        Then::Keep
    });
    let start = |provider: &Provider, ca: &str| {
        let ca = write(dir.path(), "ca.pem", ca);
        let setup = Setup::new().provider("openai", &provider.url("/v1"));
        setup
            .toml(&format!("providers.openai.ca = \"{ca}\""))
            .start()
    };
    let router = start(&provider, &good.pem());
    let body = format!(
        r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
        "y".repeat(1 << 20)
    );
    for _ in 0..3 {
        let reply = router.post(CHAT, &body);
        assert!(reply.status == 200 && reply.body == large.as_bytes());
        assert!(provider.last().body == body.as_bytes());
    }
    assert_eq!(provider.accepted(), 1, "used again");
    // Another authority, or the right one for another name: nothing is sent.
    let unreachable = r#"{"error": "Failed to reach provider: openai"}"#;
    let router = start(&provider, &other.pem());
    assert_eq!(router.post(CHAT, BODY).text(), unreachable);
    let misnamed = Provider::start_tls(good.server("other.test"), |_, _| Then::Close);
    let router = start(&misnamed, &good.pem());
    assert_eq!(router.post(CHAT, BODY).text(), unreachable);
    assert_eq!((provider.count(), misnamed.count()), (3, 0));
    // The system does not know the test's authority.
    let router = Setup::new()
        .provider("openai", &provider.url("/v1"))
        .start();
    assert_eq!(router.post(CHAT, BODY).text(), unreachable);
    // A provider that speaks no TLS waits for a request, and the handshake for an answer.
    let plain = Provider::plain();
    let url = plain.url("/v1").replace("http:", "https:");
    let setup = Setup::new().provider("openai", &url);
    let router = setup.toml("timeouts.connect = \"300ms\"").start();
    assert_eq!(router.post(CHAT, BODY).status, 504);
}

/// What `ca` names when it is the provider's own certificate: good if that says that it is no authority's.
#[test]
fn a_self_signed_certificate_is_trusted_as_a_servers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    for (is_ca, status) in [(IsCa::ExplicitNoCa, 200), (authority, 502)] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        let chain = vec![certificate.der().clone()];
        let secret = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .unwrap();
        let provider = Provider::start_tls(Arc::new(config), |_, wire| {
            wire.send(json(200, "{}"));
            Then::Keep
        });
        let ca = write(dir.path(), "own.pem", &certificate.pem());
        let router = Setup::new()
            .provider("openai", &provider.url("/v1"))
            .toml(&format!("providers.openai.ca = \"{ca}\""))
            .start();
        assert_eq!(router.post(CHAT, BODY).status, status);
    }
}

#[test]
fn a_truncated_tls_answer_is_no_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    // Ends without close_notify, which an attacker on the way could have done.
    let provider = Provider::start_tls(authority.server("localhost"), |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close");
        Then::Close
    });
    let ca = write(dir.path(), "ca.pem", &authority.pem());
    let setup = Setup::new().provider("openai", &provider.url("/v1"));
    let router = setup
        .toml(&format!("providers.openai.ca = \"{ca}\""))
        .start();
    let reply = router.post(CHAT, BODY);
    assert_eq!((reply.text(), reply.complete), ("until close", false));
}

#[test]
fn callers_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let provider = Provider::plain();
    let router = over_tls(&authority, dir.path(), &provider);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = authority.connect(router.addr(), version);
        for _ in 0..2 {
            stream.write_all(&router.request(CHAT, &[], BODY)).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
    }
    // Plain bytes on the TLS port cost that connection only.
    let mut plain = router.connect();
    plain.send(router.request(CHAT, &[], BODY));
    plain.rest();
    assert_eq!(provider.count(), 4);
}

/// A record that opens under no key.
const BROKEN_RECORD: [u8; 37] = {
    let mut record = [0x41; 37];
    (record[0], record[1], record[2], record[3], record[4]) = (0x17, 3, 3, 0, 32);
    record
};

#[test]
fn a_broken_record_ends_its_connection_and_is_no_bug() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    // Its answer is under way for as long as it is taken.
    let (stopped, stops) = std::sync::mpsc::channel();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while wire.send([b'x'; 0x10000]) {}
        stopped.send(()).unwrap();
        Then::Close
    });
    let router = over_tls(&authority, dir.path(), &provider);
    let mut caller = authority.connect(router.addr(), &rustls::version::TLS13);
    caller.write_all(&router.request(CHAT, &[], BODY)).unwrap();
    caller.read_exact(&mut [0; 1]).unwrap();
    // Nothing more is read: the router's write waits for room.
    std::thread::sleep(Duration::from_millis(300));
    caller.sock.write_all(&BROKEN_RECORD).unwrap();
    stops.recv_timeout(crate::support::PATIENCE).unwrap();
    // The other way round: a provider breaks off while it is sent a request.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}/v1",
        listener.local_addr().unwrap().port()
    );
    let connection = ServerConnection::new(authority.server("localhost")).unwrap();
    let breaks = std::thread::spawn(move || {
        let mut stream = StreamOwned::new(connection, listener.accept().unwrap().0);
        stream.read_exact(&mut [0; 1]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        stream.sock.write_all(&BROKEN_RECORD).unwrap();
        std::io::copy(&mut stream.sock, &mut std::io::sink()).unwrap_or_default();
    });
    let ca = write(dir.path(), "ca.pem", &authority.pem());
    let router = Setup::new()
        .provider("openai", &url)
        .toml(&format!("providers.openai.ca = \"{ca}\""))
        .start();
    let body = format!(
        r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
        "y".repeat(20 << 20)
    );
    assert_eq!(router.post(CHAT, &body).status, 502);
    breaks.join().unwrap();
}

#[test]
fn callers_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("router.sock");
    let provider = Provider::plain();
    let listen = format!("[\"unix:{}\", \"127.0.0.1:0\"]", path.display());
    let router = Setup::all(&provider).listen(&listen).workers(2).start();
    for _ in 0..4 {
        let mut stream = UnixStream::connect(&path).unwrap();
        for _ in 0..2 {
            stream.write_all(&router.request(CHAT, &[], BODY)).unwrap();
            let mut answer = [0; 16];
            stream.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                rest.push(byte[0]);
            }
        }
    }
    assert_eq!(
        router.post(CHAT, BODY).status,
        200,
        "and over TCP beside it"
    );
    router.stop();
    assert!(!path.exists(), "the socket's file goes with the router");
}

#[test]
fn a_renewed_certificate_is_taken_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let provider = Provider::plain();
    let renew = || {
        let (certificate, key) = authority.issue("localhost");
        write(dir.path(), "cert.pem", &certificate);
        write(dir.path(), "key.pem", &key);
        CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()
    };
    let first = renew();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let tls = format!(
        "server.tls = {{ cert = \"{}\", key = \"{}\" }}",
        path("cert.pem"),
        path("key.pem")
    );
    let router = Setup::all(&provider).toml(&tls).start();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
        .unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let shown = || {
        let connection =
            ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        let socket = std::net::TcpStream::connect(router.addr()).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(&router.request(CHAT, &[], BODY)).unwrap();
        let mut status = [0; 13];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 ");
        stream.conn.peer_certificates().unwrap()[0].clone()
    };
    assert_eq!(shown(), first);
    let second = renew();
    assert_eq!(shown(), first, "not before it is told");
    router.reload().unwrap();
    eventually("the new certificate", || shown() == second);
    // One that does not fit its key is refused, and the one before stays.
    write(dir.path(), "key.pem", &authority.issue("localhost").1);
    assert!(router.reload().is_err());
    assert_eq!(shown(), second);
}

#[test]
fn the_command_line_reaches_the_admin_port_over_tls_and_trusts_its_own_certificate_only() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let renew = || {
        let (certificate, key) = authority.issue("router.test");
        write(dir.path(), "cert.pem", &certificate);
        write(dir.path(), "key.pem", &key);
    };
    renew();
    let home = Home::new();
    let port = free_port();
    let toml = format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:{port}\"\n\
         admin.tls = {{ cert = \"{0}/cert.pem\", key = \"{0}/key.pem\" }}\n",
        dir.path().display()
    );
    std::fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    assert_eq!(home.run(&["check"]).code, 0);
    let key = home.run(&["keys", "create", "--json"]).json();
    let key = key["id"].as_str().unwrap();
    let served = home.serve();
    let lines: String = (0..3000)
        .map(|n| format!("{{\"content\":\"fact {n} of {}\"}}\n", "x".repeat(n % 97)))
        .collect();
    let import = home.run_with(&["memory", "import", "--key", key, "--json"], &lines);
    assert_eq!(import.json()["stored"], 3000, "{import:?}");
    let stats = || home.run(&["memory", "stats", "--key", key, "--json"]);
    assert_eq!(stats().json()["memories"], 3000);
    let export = home.run(&["memory", "export", "--key", key]);
    assert_eq!(export.stdout.lines().count(), 3000);
    // Another certificate than that of the configuration is not spoken to, whoever has signed it.
    renew();
    let refused = stats();
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("admin.tls"), "{refused:?}");
    served.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the new certificate", || stats().code == 0);
    // One that does not fit its key is no configuration.
    write(dir.path(), "key.pem", &authority.issue("router.test").1);
    let check = home.run(&["check"]);
    assert!(
        check.code != 0 && check.stderr.contains("admin.tls"),
        "{check:?}"
    );
}
