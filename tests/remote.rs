//! A device of another machine: `martlet serve` on this one, reached through a link that can be listened to, cut and filled with rubbish.
//! Run by `.ci/remote`, with the feature `remote`.
#![cfg(feature = "remote")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use martlet::{compute, random::Rng};
use serde_json::Value;

const SMALL: &str = "train --recipe glyphs-mart --batch-size 16 --limit-train 192 --held-out 16 --steps 2 --epochs 1 \
                     --set evaluation.attacks=[\"natural\"] --set evaluation.limit=16";

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_martlet"));
    command
        .current_dir(folder)
        .env_remove("MARTLET_TOKEN_FILE")
        .args(arguments.split_whitespace());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run(folder: &Path, arguments: &str) -> Output {
    command(folder, arguments).output().unwrap()
}

fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A server of its own, gone with this.
struct Server {
    child: Child,
    address: SocketAddr,
    heard: Arc<Mutex<String>>,
}

impl Server {
    fn of(folder: &Path, device: &str) -> Self {
        let (mut server, address) = Self::at(folder, &format!("--listen 127.0.0.1:0 --device {device}"));
        server.address = address.parse().unwrap();
        server
    }

    /// A server, and what it says that it is called.
    fn at(folder: &Path, options: &str) -> (Self, String) {
        fs::write(folder.join("token"), "a token of the tests' own\n".replace(' ', "-")).unwrap();
        let mut child = command(folder, &format!("serve --token-file token {options}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let heard = Arc::new(Mutex::new(String::new()));
        let (hears, errors) = (heard.clone(), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                hears.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .rsplit("remote:")
            .next()
            .and_then(|rest| rest.split_whitespace().next());
        let Some(address) = address.map(str::to_string) else {
            panic!("{line}{}", heard.lock().unwrap());
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Self {
            child,
            address: nowhere,
            heard,
        };
        (server, address)
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The way to a server: it keeps what clients say, and can be cut.
struct Link {
    address: SocketAddr,
    /// What each client said.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Link {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Self {
            address: listener.local_addr().unwrap(),
            said: Arc::default(),
            open: Arc::default(),
        };
        let (said, open) = (link.said.clone(), link.open.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let number = said.lock().unwrap().len();
                said.lock().unwrap().push(Vec::new());
                let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                open.lock().unwrap().extend(ends);
                let said = said.clone();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || carry(from, to, |bytes| said.lock().unwrap()[number].extend_from_slice(bytes)));
                thread::spawn(move || carry(server, client, |_| ()));
            }
        });
        link
    }

    fn cut(&self) {
        for end in self.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut hear: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        hear(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn json(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap()
}

/// Checked, trained on, attacked and measured, the device behind `server` does what the processor does here.
fn does_what_the_processor_does(folder: &Path, server: &Server) {
    let device = format!("--device remote:{} --token-file token", server.address);
    let check = format!("devices --check remote:{} --token-file token", server.address);
    let verdict = succeed(folder, &check);
    assert!(verdict.contains("agrees with the processor in all"), "{verdict}");
    succeed(folder, &format!("{SMALL} --device cpu --name near"));
    succeed(folder, &format!("{SMALL} {device} --name far"));
    let run = json(folder, "runs/far/run.json").to_string();
    assert!(run.contains(&format!("remote:{}", server.address)), "{run}");
    let what = "--limit 100 --attacks natural,fgsm,pgd-5,square-20,autoattack-fast";
    succeed(folder, &format!("evaluate near --device cpu {what} --json near.json"));
    succeed(folder, &format!("evaluate near {device} {what} --json far.json"));
    let (near, far) = (json(folder, "near.json"), json(folder, "far.json"));
    for attack in ["natural", "fgsm", "pgd-5", "square-20"] {
        let [near, far] = [&near, &far].map(|found| found["accuracy"][attack].as_f64().unwrap());
        assert!((near - far).abs() <= 0.02, "{attack}: {near} here, {far} there");
    }
    succeed(
        folder,
        &format!("attack near {device} --attack pgd-5 --limit 4 --out pictures"),
    );
}

#[test]
fn a_served_processor_does_what_a_near_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::of(folder.path(), "cpu");
    does_what_the_processor_does(folder.path(), &server);
    assert!(server.lives());
    assert!(server.heard().contains("opened a session"), "{}", server.heard());
}

#[test]
fn a_served_gpu_does_what_the_processor_does() {
    let devices = compute::devices();
    let Some(gpu) = devices.iter().find(|device| device.api == "Vulkan") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Vulkan device: install lavapipe (mesa-vulkan-drivers)"
        );
        eprintln!("SKIPPED: no Vulkan device");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of(folder.path(), &gpu.selector);
    does_what_the_processor_does(folder.path(), &server);
}

#[test]
fn what_cannot_be_reached_or_may_not_be_used_is_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut server = Server::of(folder, "cpu");
    let address = server.address;
    fs::write(folder.join("other"), "another-token-of-the-tests").unwrap();
    fs::write(folder.join("short"), "short").unwrap();
    // Who answers, but not as a server of ours.
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let strange = stranger.local_addr().unwrap();
    thread::spawn(move || {
        for client in stranger.incoming().map_while(Result::ok) {
            let mut client = client;
            let _ = client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
            let _ = client.read(&mut [0; 4096]);
        }
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (device, token, hints) in [
        (
            format!("remote:{address}"),
            "--token-file other",
            ["refuses this token", "the same one"],
        ),
        (
            format!("remote:{address}"),
            "",
            ["--token-file FILE", "MARTLET_TOKEN_FILE"],
        ),
        (
            format!("remote:{address}"),
            "--token-file short",
            ["at least 16 characters", "openssl rand"],
        ),
        (
            format!("remote:{address}"),
            "--token-file nothing",
            ["nothing", "openssl rand"],
        ),
        (
            format!("remote:{nobody}"),
            "--token-file token",
            ["nothing answers there", "martlet serve"],
        ),
        (
            format!("remote:{strange}"),
            "--token-file token",
            ["remote device at", "martlet serve"],
        ),
        (
            "remote:nonsense".to_string(),
            "--token-file token",
            ["HOST:PORT", "nonsense"],
        ),
        (
            "remote:".to_string(),
            "--token-file token",
            ["HOST:PORT", "remote device"],
        ),
    ] {
        let refused = run(folder, &format!("{SMALL} --device {device} {token} --name refused"));
        assert!(!refused.status.success(), "{device} {token}");
        for hint in hints {
            assert!(said(&refused).contains(hint), "{device} {token}: {}", said(&refused));
        }
        assert!(!said(&refused).contains("panicked"), "{}", said(&refused));
    }
    assert!(!folder.join("runs/refused").exists(), "a refused device leaves a run");
    assert!(
        server.lives() && server.heard().contains("wrong token"),
        "{}",
        server.heard()
    );
    for (wrong, hint) in [
        ("serve --listen 127.0.0.1:0 --device cpu", "--token-file"),
        (
            "serve --listen nonsense --token-file token --device cpu",
            "ADDRESS:PORT",
        ),
        (
            "serve --listen 127.0.0.1:0 --identity key --token-file token --device cpu",
            "a port of its own",
        ),
        (
            &format!("serve --listen {address} --token-file token --device cpu"),
            "cannot listen",
        ),
        (
            &format!("serve --listen 127.0.0.1:0 --token-file token --device remote:{address}"),
            "served again",
        ),
    ] {
        let refused = run(folder, wrong);
        assert!(
            !refused.status.success() && said(&refused).contains(hint),
            "{wrong}: {}",
            said(&refused)
        );
    }
}

#[test]
fn a_cut_link_ends_in_words_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut server = Server::of(folder, "cpu");
    let link = Link::to(server.address);
    let what = SMALL.replace("--epochs 1", "--epochs 8 --set checkpoint_seconds=0");
    let mut training = command(
        folder,
        &format!("{what} --device remote:{} --token-file token --name run", link.address),
    )
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let last = folder.join("runs/run/checkpoints/last.safetensors");
    for _ in 0..600 {
        if last.exists() || training.try_wait().unwrap().is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_millis(500));
    link.cut();
    let ended = training.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    for hint in ["the link to the other machine broke", "last checkpoint is kept"] {
        assert!(said(&ended).contains(hint), "{}", said(&ended));
    }
    assert!(server.lives());
    succeed(folder, "runs --check");
    let epoch = json(folder, "runs/run/run.json");
    assert!(!epoch["sessions"].as_array().unwrap().is_empty());
    // On it goes, there or here.
    let device = format!("--device remote:{} --token-file token", link.address);
    succeed(folder, &format!("train --resume --name run --epochs 8 {device}"));
    succeed(folder, "train --resume --name run --epochs 9 --device cpu");
}

#[test]
fn an_encrypted_link_is_found_by_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // A port that was free a moment ago.
    let port = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let options = format!("--listen 127.0.0.1:{port} --identity key --device cpu");
    let (mut server, address) = Server::at(folder, &options);
    let address = address.replace("HOST", "127.0.0.1");
    let verdict = succeed(folder, &format!("devices --check remote:{address} --token-file token"));
    assert!(verdict.contains("agrees with the processor in all"), "{verdict}");
    succeed(
        folder,
        &format!("{SMALL} --device remote:{address} --token-file token --name run"),
    );
    // Another's key at the same place is nobody.
    let (_, other) = Server::at(
        folder,
        &format!("--listen 127.0.0.1:{} --identity other --device cpu", port - 1),
    );
    let stranger = format!("{}@127.0.0.1:{port}", other.split('@').next().unwrap());
    for (address, hint) in [
        (stranger.as_str(), "remote device at"),
        ("nonsense@127.0.0.1:1", "--identity"),
    ] {
        let refused = run(folder, &format!("devices --check remote:{address} --token-file token"));
        assert!(
            !refused.status.success() && said(&refused).contains(hint),
            "{address}: {}",
            said(&refused)
        );
    }
    fs::write(folder.join("wrong"), "another-token-of-the-tests").unwrap();
    let refused = run(folder, &format!("devices --check remote:{address} --token-file wrong"));
    assert!(said(&refused).contains("refuses this token"), "{}", said(&refused));
    assert!(server.lives());
    // The same file is the same key.
    drop(server);
    let (_server, again) = Server::at(folder, &options);
    assert_eq!(again.replace("HOST", "127.0.0.1"), address);
}

/// What a client said, changed somewhere.
fn changed(said: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = said.to_vec();
    let place = |rng: &mut Rng, length: usize| rng.below(length.max(1));
    for _ in 0..=rng.below(4) {
        let at = place(rng, bytes.len());
        match rng.below(5) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.below(256) as u8,
            2 => bytes.truncate(at.max(1)),
            3 => {
                let upto = (at + 1 + rng.below(64)).min(bytes.len());
                bytes.drain(at..upto);
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
            _ => {
                let piece: Vec<u8> = (0..1 + rng.below(64)).map(|_| rng.below(256) as u8).collect();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

#[test]
fn rubbish_ends_a_session_and_no_server() {
    let mutants: usize = std::env::var("MARTLET_MUTANTS").map_or(1_000, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut server = Server::of(folder, "cpu");
    let link = Link::to(server.address);
    // A small session with uploads, a network there and back, and reads.
    succeed(folder, &format!("{SMALL} --device cpu --name run"));
    succeed(
        folder,
        &format!(
            "attack run --device remote:{} --token-file token --attack pgd-2 --limit 2 --out pictures",
            link.address
        ),
    );
    let spoken = link.said.lock().unwrap().clone();
    let session = spoken.iter().max_by_key(|said| said.len()).unwrap();
    assert!(session.len() > 10_000, "{} bytes", session.len());
    let head = session.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let mut rng = Rng::new(7);
    for mutant in 0..mutants {
        let bytes = if mutant % 4 == 0 {
            // Nothing that was ever a session.
            (0..1 + rng.below(4096)).map(|_| rng.below(256) as u8).collect()
        } else {
            // The first frame is where a session begins, the rest what it does.
            let near = [head + 200, session.len()][mutant % 2].min(session.len());
            let upto = head + 1 + rng.below(near - head);
            let kept = [upto, session.len()][rng.below(2)];
            let mut bytes = session[..head].to_vec();
            bytes.extend(changed(&session[head..kept], &mut rng));
            bytes
        };
        let mut client = TcpStream::connect(server.address).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // The server may hang up before all is said.
        let _ = client.write_all(&bytes);
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = [0; 4096];
        while matches!(client.read(&mut answer), Ok(1..)) {}
        assert!(
            mutant % 100 > 0 || server.lives(),
            "mutant {mutant}: {}",
            server.heard()
        );
    }
    assert!(server.lives(), "{}", server.heard());
    let device = format!("--device remote:{} --token-file token", server.address);
    let what = "--limit 50 --attacks natural,pgd-5 --json";
    succeed(folder, &format!("evaluate run --device cpu {what} near.json"));
    succeed(folder, &format!("evaluate run {device} {what} far.json"));
    assert_eq!(
        json(folder, "near.json")["accuracy"],
        json(folder, "far.json")["accuracy"]
    );
}
