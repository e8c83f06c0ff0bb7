//! A private Postgres server for the demo and for tests: its own folder, port and password, gone when it is dropped.
//!
//! A shell process supervises the server and holds the reading end of a pipe from this process. When the pipe closes,
//! because the [`Cluster`] was dropped or because this process ended in whatever way (a panic, Ctrl-C, `kill -9`), the
//! supervisor stops the server and removes the folder. That needs no signal handler here and no unsafe code, and unlike
//! Linux's parent-death signal it does not depend on the thread that started the server staying alive.
//!
//! The server refuses to run as root; started by root it runs as `postgres`, or as `nobody` where that user is missing.
//! Its data are made to be thrown away: nothing is synced to disk, and it is stopped without a checkpoint.

use std::fs::{self, DirBuilder};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use uuid::Uuid;

/// The superuser of every private server.
const SUPERUSER: &str = "rehome";

/// Oldest version of Postgres that rehome supports.
const VERSION_MIN: u32 = 14;

/// A port found free can be taken before the server binds it; so many times another one is tried.
const PORT_ATTEMPTS: usize = 5;

/// Lines of the server's log that an error shows; the reason of a failed start is among the last ones.
const LOG_LINES: usize = 8;

/// Folders that hold one folder per version, each with a `bin` inside: Debian's, and the one of the Postgres project's RPMs.
const INSTALLATIONS: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// Settings of every private server, before the caller's own.
const SETTINGS: [(&str, &str); 8] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("timezone", "UTC"),
];

/// Environment variable that names the folder of the server's programs.
pub const PROGRAMS: &str = "REHOME_POSTGRES";

/// What the supervisor does; its arguments are the folder of programs and the cluster's folder, where it is started.
///
/// `ready` on its standard output means that the server takes connections. Its standard input is the pipe.
const SUPERVISOR: &str = r#"
umask 077
"$1/initdb" --pgdata=data --username=rehome --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
    --no-sync >log 2>&1 </dev/null || exit 1
rm -f password
cat settings >>data/postgresql.conf
"$1/pg_ctl" start --wait --timeout=60 --silent --pgdata=data --log=log >/dev/null 2>&1 </dev/null || exit 1
echo ready
exec >/dev/null 2>&1
cat
"$1/pg_ctl" stop --mode=immediate --silent --pgdata=data </dev/null
cd /
rm -rf -- "$2"
"#;

/// Errors of starting a private server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server programs are installed.
    #[error("no Postgres server of version {VERSION_MIN} or later is installed (Debian's package is `postgresql-15`)")]
    NoServer,
    /// The server's folder could not be made or filled.
    #[error("cannot prepare {path} for a private Postgres server")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The supervisor could not be started, most often because the server's user cannot enter the folder.
    #[error("cannot run a private Postgres server in {path} as user {user}")]
    Spawn {
        /// The folder.
        path: PathBuf,
        /// The user.
        user: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The server did not come up.
    #[error("the private Postgres server did not start; its log ends:\n{log}")]
    Start {
        /// The last lines of its log. A server that never came up has seen no rows (I12).
        log: String,
    },
}

/// How to start a private server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the server's programs; absent: the newest installed version.
    pub programs: Option<PathBuf>,
    /// Folder in which the cluster's own folder is made.
    pub parent: PathBuf,
    /// Settings added to the configuration, which override the built-in ones.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// The version that [`PROGRAMS`] names, else the newest installed one, with nothing but the built-in settings, in the
    /// system's folder for temporary files.
    pub fn temporary() -> Self {
        let programs = std::env::var_os(PROGRAMS).map(PathBuf::from);
        Self { programs, parent: std::env::temp_dir(), settings: Vec::new() }
    }
}

/// A running private server; dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    password: String,
    supervisor: Child,
    /// Closing it is the order to stop.
    pipe: Option<ChildStdin>,
}

impl Cluster {
    /// Starts a server and returns when it takes connections, a second or two later. Blocks; not for an async thread.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let programs = match &options.programs {
            Some(folder) => folder.clone(),
            None => newest_programs().ok_or(Error::NoServer)?,
        };
        let mut attempt = 1;
        loop {
            match Self::start_once(&programs, options) {
                Err(Error::Start { log }) if attempt < PORT_ATTEMPTS && log.contains("could not bind") => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// URL of one of its databases (`postgres` is always there), with user and password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of the server's programs (`pg_ctl`, `pg_recvlogical`, ...).
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Folder that holds its data directory (`data`) and its log (`log`).
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One attempt, with a folder and a port of its own.
    fn start_once(programs: &Path, options: &Options) -> Result<Self, Error> {
        let user = ServerUser::find();
        let port = free_port().map_err(|source| Error::Folder { path: options.parent.clone(), source })?;
        let password = Uuid::new_v4().simple().to_string();
        let folder = options.parent.join(format!("rehome-postgres-{}", Uuid::new_v4().simple()));
        prepare(&folder, &user, &settings_text(port, &options.settings), &password)
            .map_err(|source| Error::Folder { path: folder.clone(), source })?;
        match supervise(programs, &folder, &user) {
            Ok((supervisor, pipe)) => {
                Ok(Self { programs: programs.to_owned(), folder, port, password, supervisor, pipe: Some(pipe) })
            }
            Err(error) => {
                remove(&folder);
                Err(error)
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The supervisor has nothing left to wait for but the server's immediate shutdown.
        if let Err(error) = self.supervisor.wait() {
            tracing::warn!(%error, "cannot wait for the private server to stop");
        }
        remove(&self.folder);
    }
}

/// The user that a server is run as.
#[derive(Debug)]
struct ServerUser {
    name: String,
    /// User and group to change to; absent where this process is not root and its own user will do.
    ids: Option<(u32, u32)>,
}

impl ServerUser {
    fn find() -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !is_root {
            return Self { name: "of this process".to_owned(), ids: None };
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some(Self { name: name.to_owned(), ids: Some(ids_of(name, &passwd)?) }))
            .unwrap_or(Self { name: "root".to_owned(), ids: None })
    }
}

/// User and group id of a user, from the text of `/etc/passwd` (`name:password:uid:gid:…`).
fn ids_of(name: &str, passwd: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((uid, gid))
    })
}

/// Makes the cluster's folder, which its server's user owns, with the files that the supervisor reads.
fn prepare(folder: &Path, user: &ServerUser, settings: &str, password: &str) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    for (name, text) in [("settings", settings), ("password", password)] {
        let path = folder.join(name);
        let mut file = fs::File::create_new(&path)?;
        writeln!(file, "{text}")?;
        if let Some((uid, gid)) = user.ids {
            chown(&path, Some(uid), Some(gid))?;
        }
    }
    if let Some((uid, gid)) = user.ids {
        chown(folder, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Starts the supervisor and waits until its server is ready.
fn supervise(programs: &Path, folder: &Path, user: &ServerUser) -> Result<(Child, ChildStdin), Error> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SUPERVISOR, "supervisor"]).arg(programs).arg(folder).current_dir(folder);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
    // A group of its own: a terminal's Ctrl-C is for this process, which then closes the pipe in its own time.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some((uid, gid)) = user.ids {
        command.uid(uid).gid(gid);
    }
    let failed = |source| Error::Spawn { path: folder.to_owned(), user: user.name.clone(), source };
    let mut supervisor = command.spawn().map_err(failed)?;
    let (Some(pipe), Some(output)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
        return Err(failed(std::io::Error::other("the supervisor has no pipes")));
    };
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    if read.is_ok() && line == "ready\n" {
        return Ok((supervisor, pipe));
    }
    drop(pipe);
    supervisor.wait().map_err(failed)?;
    Err(Error::Start { log: log_tail(&folder.join("log")) })
}

/// The configuration's text: the built-in settings, the port, the caller's settings; of two of one name the last counts.
fn settings_text(port: u16, settings: &[(String, String)]) -> String {
    let port = port.to_string();
    let built_in = SETTINGS.into_iter().chain([("port", port.as_str())]);
    let own = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    built_in.chain(own).map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
}

/// The `bin` folder of the newest installed version.
fn newest_programs() -> Option<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix) in INSTALLATIONS {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
            let programs = entry.path().join("bin");
            if let Some(version) = version.filter(|version| *version >= VERSION_MIN)
                && programs.join("initdb").exists()
            {
                found.push((version, programs));
            }
        }
    }
    found.into_iter().max().map(|(_, programs)| programs)
}

/// A port of 127.0.0.1 that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The last lines of a log file; why there are none is no news beside the failure that it is read for.
fn log_tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Removes a cluster's folder; what stays behind is only worth a word in the log.
fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "cannot remove the private server's folder");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_server_takes_connections_and_is_gone_when_dropped() {
        let cluster = Cluster::start(&Options::temporary()).expect("Postgres is installed where tests run");
        let (port, folder) = (cluster.port(), cluster.folder().to_owned());
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a ready server takes connections");
        assert!(folder.join("data/postmaster.pid").exists(), "the server runs in its own folder");
        drop(cluster);
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("a dropped server takes none");
        assert!(!folder.exists(), "nothing is left behind");
    }

    #[test]
    fn a_setting_that_the_server_refuses_is_shown_in_the_error_and_leaves_nothing() {
        let parent = tempfile::tempdir().expect("a temporary folder can be made");
        fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
        let settings = vec![("wal_level".to_owned(), "nonsense".to_owned())];
        let error = Cluster::start(&Options { settings, parent: parent.path().to_owned(), programs: None })
            .expect_err("no server starts with this");
        assert!(error.to_string().contains("wal_level"), "{error}");
        assert_eq!(fs::read_dir(parent.path()).expect("it is still there").count(), 0);
    }

    #[test]
    fn a_quote_in_a_setting_stays_inside_its_value() {
        let text = settings_text(7, &[("a".to_owned(), "x'y".to_owned())]);
        assert!(text.ends_with("port = '7'\na = 'x''y'\n"), "{text}");
    }

    #[test]
    fn ids_come_from_the_user_s_own_line() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres:x:107:115:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids_of("postgres", passwd), Some((107, 115)));
        assert_eq!(ids_of("post", passwd), None);
    }
}
