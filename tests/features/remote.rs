//! Data and models at addresses: an S3 server on the loopback address (moto, from PyPI) and a server that misbehaves.
//!
//! moto is looked for where `.ci/run` installs it, or where `ONNX_PRUNE_MOTO` says.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use onnx_prune::onnx::{Limits, Model, Output, Overwrite, Storage};
use serde_json::Value;
use tempfile::TempDir;

use crate::{png, repository};

/// A running moto, ended with this.
struct Moto {
    child: Child,
    port: u16,
    /// Where the program keeps what it fetches.
    temporary: TempDir,
}

impl Moto {
    fn start() -> Self {
        let beside = repository("target/moto/bin/moto_server");
        let program = env::var_os("ONNX_PRUNE_MOTO").map_or(beside, PathBuf::from);
        assert!(
            program.exists(),
            "{} is missing: python3 -m venv target/moto && target/moto/bin/pip install 'moto[server]==5.2.5'",
            program.display()
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let temporary = TempDir::new().unwrap();
        let moto = Self {
            child,
            port,
            temporary,
        };
        // Python starts slowly on a busy machine.
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return moto;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("moto does not answer");
    }

    /// Stores what everybody may read: `http://` comes without credentials.
    fn put(&self, path: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\nx-amz-acl: public-read\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1);
        assert_eq!(status, Some("200"), "{path}: {answer}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command
            .env(
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", self.port),
            )
            .env("TMPDIR", self.temporary.path())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Already gone, or gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without any credentials or proxies of the machine.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx-prune"));
    command
        .args(arguments)
        .args(["--engine", "tract", "--no-cache", "--json"]);
    for (name, _) in env::vars() {
        let name = name.to_uppercase();
        if name.starts_with("AWS_") || name.starts_with("GOOGLE_") || name.ends_with("_PROXY") {
            command.env_remove(&name).env_remove(name.to_lowercase());
        }
    }
    // Where credentials of the machine itself would be asked for.
    command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    command.env("AWS_REGION", "us-east-1");
    command
}

fn done(command: &mut Command) -> Value {
    let std::process::Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(0), "{command:?}: {stderr}");
    serde_json::from_slice(&stdout).unwrap()
}

fn refused(command: &mut Command) -> String {
    let std::process::Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(2), "{command:?}: {stderr}");
    assert!(stdout.is_empty());
    stderr
}

fn tar(first: u8) -> Vec<u8> {
    let mut archive = tar::Builder::new(vec![]);
    for number in first..first + 6 {
        for (ending, content) in [
            ("png", png(28, number * 7)),
            ("cls", (number % 10).to_string().into_bytes()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            archive
                .append_data(
                    &mut header,
                    format!("{number}.{ending}"),
                    content.as_slice(),
                )
                .unwrap();
        }
    }
    archive.into_inner().unwrap()
}

/// Files on this disk and in the bucket `bucket`.
fn uploaded(moto: &Moto) -> TempDir {
    let folder = TempDir::new().unwrap();
    let table = b"path,label\ni/0.png,1\n./i/1.png,2\ni/gone.png,3\ni/2.png,3\n".to_vec();
    let mut files = vec![
        (
            "d/all.npz".to_owned(),
            fs::read(repository("models/fashion-mnist.npz")).unwrap(),
        ),
        ("d/t-0.tar".to_owned(), tar(0)),
        ("d/t-1.tar".to_owned(), tar(6)),
        ("d/list.csv".to_owned(), table),
    ];
    files.extend((0..3_u8).map(|number| (format!("d/i/{number}.png"), png(28, number * 40))));
    for (name, content) in files {
        let copy = folder.path().join(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(copy, content).unwrap();
    }
    // With its weights in a file beside it.
    let model = Model::load(&repository("models/vgg.onnx"), &Limits::default()).unwrap();
    let place = folder.path().join("vgg.onnx");
    let mut output = Output::create(&place, None, Overwrite::Refuse).unwrap();
    output.write(&model.proto, Storage::External).unwrap();
    output.commit().unwrap();
    moto.put("/bucket", b"");
    for name in ["vgg.onnx", "vgg.onnx.data"] {
        moto.put(
            &format!("/bucket/{name}"),
            &fs::read(folder.path().join(name)).unwrap(),
        );
    }
    for entry in ["d", "d/i"]
        .iter()
        .flat_map(|name| fs::read_dir(folder.path().join(name)).unwrap())
    {
        let path = entry.unwrap().path();
        let name = path
            .strip_prefix(folder.path())
            .unwrap()
            .display()
            .to_string();
        if path.is_file() {
            moto.put(&format!("/bucket/{name}"), &fs::read(path).unwrap());
        }
    }
    folder
}

#[test]
fn addresses_give_the_same_scores_as_the_disk() {
    let moto = Moto::start();
    let folder = uploaded(&moto);
    let root = folder.path().display().to_string();
    let server = format!("http://127.0.0.1:{}/bucket", moto.port);
    for (data, more) in [
        ("d/all.npz", ["--samples", "20"]),
        ("d/t-{0..1}.tar", ["--samples", "20"]),
        ("d/list.csv", ["--on-bad-sample", "skip"]),
    ] {
        let score = |root: &str| {
            let (model, data) = (format!("{root}/vgg.onnx"), format!("{root}/{data}"));
            let arguments = [
                "score",
                &model,
                "--data",
                &data,
                "--criterion",
                "activation",
            ];
            done(moto.command(&arguments).args(more))
        };
        let local = score(&root);
        assert!(local["layers"].is_array());
        for remote in ["s3://bucket", &server] {
            let found = score(remote);
            assert_eq!(found["data"]["path"], format!("{remote}/{data}"));
            for place in ["/layers", "/data/fingerprint", "/data/skipped"] {
                assert_eq!(
                    found.pointer(place),
                    local.pointer(place),
                    "{remote}/{data} {place}"
                );
            }
        }
    }
    refusals(&moto);
    // Nothing of what was fetched stays.
    assert_eq!(fs::read_dir(moto.temporary.path()).unwrap().count(), 0);
}

fn refusals(moto: &Moto) {
    let missing = "there is no such file (404)";
    for (address, part) in [
        (
            "s3://bucket/d/none.npz",
            format!("s3://bucket/d/none.npz: {missing}"),
        ),
        (
            "s3://nowhere/a.npz",
            format!("s3://nowhere/a.npz: {missing}"),
        ),
        (
            "s3://bucket/d/t-{0..2}.tar",
            format!("s3://bucket/d/t-2.tar: {missing}"),
        ),
        ("s3://bucket/d/", "the address names no file".to_owned()),
        (
            "s3://bucket/vgg.onnx",
            "s3://bucket/vgg.onnx: is none of the kinds of data".to_owned(),
        ),
    ] {
        let arguments = ["score", "s3://bucket/vgg.onnx", "--data", address];
        let message = refused(&mut moto.command(&arguments));
        assert!(message.contains(&part), "{address}: {message}");
    }
    let data = repository("models/fashion-mnist.npz");
    let data = ["--data", data.to_str().unwrap()];
    let on_data = |arguments: &[&str]| moto.command(&[arguments, &data].concat());
    let message = refused(&mut on_data(&["score", "s3://bucket/none.onnx"]));
    assert!(
        message.contains(&format!("s3://bucket/none.onnx: {missing}")),
        "{message}"
    );
    let message = refused(&mut on_data(&[
        "s3://bucket/vgg.onnx",
        "s3://bucket/out.onnx",
    ]));
    let part = "s3://bucket/out.onnx: only files of this machine are written";
    assert!(message.contains(part), "{message}");
    let mut without = on_data(&["score", "s3://bucket/vgg.onnx"]);
    let message = refused(without.env_remove("AWS_ACCESS_KEY_ID"));
    assert!(
        message.contains("no credentials are set: AWS_ACCESS_KEY_ID"),
        "{message}"
    );
}

/// Answers each request with the next of these bytes; remembers the requests.
struct Fake {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(answer: impl Fn(&str, usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(vec![]));
        let requests = Arc::clone(&seen);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut request = String::new();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty() {
                        break;
                    }
                    request.push_str(&line);
                    request.push('\n');
                }
                // The client may be gone.
                let _ = stream.write_all(&answer(&request, number));
                requests.lock().unwrap().push(request);
            }
        });
        Self { port, seen }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/a.npz", self.port)
    }

    fn refusal(&self) -> String {
        let model = repository("models/vgg.onnx");
        let arguments = ["score", model.to_str().unwrap(), "--data", &self.address()];
        refused(&mut command(&arguments))
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let start = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n");
    [start.as_bytes(), body].concat()
}

#[test]
fn what_servers_refuse_is_said_in_few_words() {
    let cases = [
        ("403 Forbidden", "access is denied (403)"),
        ("401 Unauthorized", "it wants credentials (401)"),
        ("404 Not Found", "there is no such file (404)"),
        ("410 Gone", "410"),
    ];
    for (status, part) in cases {
        let fake = Fake::new(move |_, _| answer(status, "Content-Length: 0\r\n", b""));
        let message = fake.refusal();
        assert!(
            message.contains(&fake.address()) && message.contains(part),
            "{status}: {message}"
        );
    }
    let huge = Fake::new(|_, _| answer("200 OK", "Content-Length: 99999999999999\r\n", b""));
    assert!(
        huge.refusal()
            .contains("at most 64.0 GiB are fetched; fetch it by hand")
    );
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let model = repository("models/vgg.onnx");
    let address = format!("http://{nobody}/a.npz");
    let message = refused(&mut command(&[
        "score",
        model.to_str().unwrap(),
        "--data",
        &address,
    ]));
    assert!(message.contains(&address), "{message}");
}

#[test]
fn errors_of_a_moment_and_servers_without_pieces_are_got_over() {
    let file = fs::read(repository("models/fashion-mnist.npz")).unwrap();
    let length = file.len();
    let fake = Fake::new(move |request, number| {
        let headers = format!("Content-Length: {length}\r\n");
        match number {
            0 => answer("503 Slow Down", "Content-Length: 0\r\n", b""),
            _ if request.starts_with("HEAD") => answer("200 OK", &headers, b""),
            // Whatever piece is asked for, all of it comes.
            _ => answer("200 OK", &headers, &file),
        }
    });
    let model = repository("models/vgg.onnx");
    let arguments = [
        "score",
        model.to_str().unwrap(),
        "--data",
        &fake.address(),
        "--criterion",
        "activation",
        "--samples",
        "5",
    ];
    let found = done(&mut command(&arguments));
    assert_eq!(found["score"]["samples"], 5);
    assert!(fake.seen.lock().unwrap().len() >= 3);
}

#[test]
fn a_file_that_changes_or_ends_early_is_an_error() {
    let short = Fake::new(|request, _| match request.starts_with("HEAD") {
        true => answer("200 OK", "Content-Length: 100\r\n", b""),
        false => answer(
            "206 Partial Content",
            "Content-Length: 50\r\nContent-Range: bytes 0-49/50\r\n",
            &[0; 50],
        ),
    });
    let message = short.refusal();
    assert!(message.contains(&short.address()), "{message}");
    let changed = Fake::new(|request, _| match request.starts_with("HEAD") {
        true => answer("200 OK", "Content-Length: 100\r\nETag: \"a\"\r\n", b""),
        false => answer("412 Precondition Failed", "Content-Length: 0\r\n", b""),
    });
    let message = changed.refusal();
    assert!(
        message.contains("it was replaced while it was fetched"),
        "{message}"
    );
}
