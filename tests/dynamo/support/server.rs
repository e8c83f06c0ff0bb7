//! One DynamoDB Local for the test process, started at the first use.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Its version as the scripts install it.
const FOLDER: &str = "dynamodb-local-2.9.30";
/// It starts in two to six seconds, and in forty on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// The running server.
struct Local {
    url: String,
    /// Holds the pipe whose end tells the shell below that this process is gone, however it ended.
    _shell: Child,
    _folder: tempfile::TempDir,
}

static LOCAL: OnceLock<Local> = OnceLock::new();

/// The server's address.
pub fn url() -> &'static str {
    &LOCAL.get_or_init(start).url
}

fn start() -> Local {
    let cache = std::env::var_os("REHOME_CACHE").map(PathBuf::from);
    let home = || std::env::home_dir().expect("a home folder").join(".cache/rehome");
    let install = cache.unwrap_or_else(home).join(FOLDER);
    let jar = install.join("DynamoDBLocal.jar");
    assert!(jar.exists(), "DynamoDB Local is not in {}: ./test installs it", install.display());
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    // It leaves a file in the folder that it is started in.
    let folder = tempfile::tempdir().expect("a folder");
    let shell = Command::new("sh")
        .args(["-c", "\"$@\" </dev/null & server=$!; cat >/dev/null; kill -KILL $server", "sh", "java", "-Xmx768m"])
        .arg(format!("-Djava.library.path={}", install.join("DynamoDBLocal_lib").display()))
        .arg("-jar")
        .arg(&jar)
        .args(["-port", &port.to_string(), "-inMemory", "-sharedDb", "-disableTelemetry"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh and java are installed where tests run");
    let begun = Instant::now();
    while !answers(port) {
        assert!(begun.elapsed() < PATIENCE, "DynamoDB Local did not start: is Java 17 installed?");
        std::thread::sleep(Duration::from_millis(50));
    }
    Local { url: format!("http://127.0.0.1:{port}"), _shell: shell, _folder: folder }
}

/// Whether something speaks HTTP there.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = [0; 5];
    asked.is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/"
}
