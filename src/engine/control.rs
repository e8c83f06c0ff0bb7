//! The Unix socket on which a running process answers, and the asking side.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::folder::Folder;
use super::protocol::{Answer, Question};
use super::session::Session;

/// A question longer than this is not one of ours.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// How long a process that was just started, or is just ending, may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions answered at the same time.
const CALLERS_MAX: usize = 16;

/// Answers on the folder's socket until `stop` is cancelled; the socket is removed then.
///
/// # Errors
/// [`Error::File`] when the socket cannot be made.
pub async fn serve(folder: &Folder, session: Session, stop: CancellationToken) -> Result<(), Error> {
    let path = folder.socket();
    let file = |action, source| Error::File { action, path: path.clone(), source };
    // The lock is held, so a socket that is there was left by a process that was killed.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|source| file("listen on", source))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|source| file("protect", source))?;
    let mut callers = JoinSet::new();
    loop {
        tokio::select! {
            // Cancel-safe: a connection not accepted yet stays in the queue.
            accepted = listener.accept(), if callers.len() < CALLERS_MAX => {
                let Ok((stream, _)) = accepted else { continue };
                let session = session.clone();
                callers.spawn(async move { answer(stream, &session).await });
            }
            Some(_) = callers.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    // Whoever asked for the stop gets its answer.
    while callers.join_next().await.is_some() {}
    let _ = fs::remove_file(&path);
    Ok(())
}

async fn answer(stream: UnixStream, session: &Session) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    let read = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => session.answer_asked(question).await,
        Err(_) => Answer::Failed { message: "not a question that this version knows".to_owned(), hint: None },
    };
    let mut text = serde_json::to_string(&answer).expect("answers are plain data under text keys");
    text.push('\n');
    // A caller that has gone needs no answer.
    let _ = writer.write_all(text.as_bytes()).await;
    let _ = writer.shutdown().await;
}

/// Whether a running process takes questions there.
pub async fn answers(folder: &Folder) -> bool {
    UnixStream::connect(folder.socket()).await.is_ok()
}

/// Asks the process that owns the folder; `None` when nobody answers there.
///
/// # Errors
/// [`Error::Remote`] when the answer does not read.
pub async fn ask(folder: &Folder, question: &Question) -> Result<Option<Answer>, Error> {
    let Ok(mut stream) = UnixStream::connect(folder.socket()).await else { return Ok(None) };
    let mut text = serde_json::to_string(question).expect("questions are plain data under text keys");
    text.push('\n');
    if stream.write_all(text.as_bytes()).await.is_err() {
        return Ok(None);
    }
    let mut answer = String::new();
    match stream.read_to_string(&mut answer).await {
        Ok(0) | Err(_) => Ok(None),
        Ok(_) => {
            let parsed = serde_json::from_str(&answer);
            parsed
                .map(Some)
                .map_err(|_| Error::Remote("the running process gave an answer that does not read".to_owned()))
        }
    }
}
