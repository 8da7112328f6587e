//! A device of another machine: burn's remote engine with this program at both ends.
//!
//! Tensors live on the server; operations travel there, and only what is read comes back. A network is one operation on the way there as
//! it is here ([`network`]), so that the server's own kernels carry it out. Automatic differentiation stays with the client.
//!
//! Two transports, both burn's: a WebSocket, in plain text, and Iroh (QUIC), encrypted, with the server's public key as its address. Iroh's
//! relays and its lookup by key are left alone: a server is where its address says.
//!
//! A session begins with a credential of two lines: the token, and a number that makes a session after a broken one a new one.

mod client;
mod network;
mod serve;

use std::{path::Path, path::PathBuf, sync::RwLock};

use serde::{Deserialize, Serialize};

use super::{DeviceError, DeviceInfo};

pub(super) use client::open;
pub use client::{is_private, is_remote};
pub use serve::{Served, Way, serve};

/// The environment's variable that names the token's file, where the command line does not.
pub const VARIABLE: &str = "MARTLET_TOKEN_FILE";
/// What is said, of a link and where it leads, at both ends and in the window.
pub const READABLE: &str = "is not encrypted: whoever is on the way can read images, weights and the token";
/// The fewest characters of a token.
const SHORTEST: usize = 16;

static TOKEN_FILE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// The file whose token is shown to servers from now on.
pub fn use_token_of(file: Option<&Path>) {
    let mut kept = TOKEN_FILE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    *kept = file.map(Path::to_path_buf);
}

/// The token that [`use_token_of`] or [`VARIABLE`] names.
///
/// # Errors
/// Where neither does, or the file cannot be read or holds no token.
pub fn token() -> Result<String, String> {
    let said = TOKEN_FILE
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    let file = said.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let file = file.ok_or_else(|| {
        format!("it asks for a token: name the file that holds it, by --token-file FILE or in {VARIABLE}")
    })?;
    read_token(&file)
}

/// The token in a file: one line.
///
/// # Errors
/// Where it cannot be read or is no token.
fn read_token(file: &Path) -> Result<String, String> {
    const WAY_OUT: &str = "`openssl rand -hex 32 > FILE` makes one";
    // A token is a line; anything longer is another file, given by mistake.
    const LONGEST: u64 = 4096;
    let length = std::fs::metadata(file)
        .map_err(|error| format!("the token's file {}: {error}; {WAY_OUT}", file.display()))?
        .len();
    if length > LONGEST {
        return Err(format!(
            "the token's file {}: expected one line, got {length} bytes; {WAY_OUT}",
            file.display()
        ));
    }
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("the token's file {}: {error}", file.display()))?;
    let token = text.trim();
    if token.chars().count() < SHORTEST || token.contains(char::is_whitespace) {
        return Err(format!(
            "the token's file {}: expected one line of at least {SHORTEST} characters without a blank; {WAY_OUT}",
            file.display()
        ));
    }
    Ok(token.to_string())
}

/// What a server tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct About {
    /// Its release.
    version: String,
    /// Its device.
    device: DeviceInfo,
}

/// The operation that asks for [`About`].
const ABOUT: &str = "martlet.about";
/// Values of its answer: bytes as numbers, and zeros behind them.
const ANSWER: usize = 1024;

impl About {
    fn of(device: &DeviceInfo) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_string(),
            device: device.clone(),
        }
    }

    fn values(&self) -> Vec<f32> {
        let text = serde_json::to_string(self).unwrap_or_default();
        let mut values: Vec<f32> = text.bytes().map(f32::from).collect();
        values.resize(ANSWER, 0.0);
        values
    }

    fn read(values: &[f32]) -> Option<Self> {
        let bytes = values.iter().take_while(|value| **value != 0.0);
        let bytes: Vec<u8> = bytes.map(|value| *value as u8).collect();
        serde_json::from_slice(&bytes).ok()
    }
}

/// What burn's client says where its session is over. It says no more than that, and in these words.
const BROKEN: [&str; 4] = [
    "RecvError",
    "response channel closed",
    "Service call failed",
    "remote session",
];

/// A failure as a person may read it: what a broken link looks like from inside says nothing to anyone.
pub(super) fn in_words(error: DeviceError) -> DeviceError {
    match error {
        DeviceError::Failed(reason) if BROKEN.iter().any(|sign| reason.contains(sign)) => {
            DeviceError::Failed("the link to the other machine broke, or its server ended".to_string())
        }
        other => other,
    }
}

fn unavailable(address: &str, reason: impl Into<String>) -> DeviceError {
    DeviceError::Remote {
        address: address.to_string(),
        reason: reason.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_is_not_short() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read_token(&file)
        };
        assert_eq!(read("0123456789abcdef\n").unwrap(), "0123456789abcdef");
        for text in [
            "",
            "short\n",
            "0123456789abcdef 0",
            "0123456789abcdef\n0123456789abcdef\n",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("expected one line of at least 16 characters"), "{error}");
        }
        let error = read(&"0".repeat(5000)).unwrap_err();
        assert!(error.contains("got 5000 bytes"), "{error}");
        let error = read_token(&folder.path().join("nothing")).unwrap_err();
        assert!(error.contains("openssl rand"), "{error}");
    }

    #[test]
    fn a_server_of_another_release_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "a-token-of-the-test's-own").unwrap();
        let device = super::super::Device::cpu();
        let mut about = About::of(device.info());
        about.version = "9.9.9".to_string();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let token = read_token(&file).unwrap();
        let served = serve::serve_as(about, &device, Way::Plain(listener), &token, |_| ()).unwrap();
        use_token_of(Some(&file));
        let error = open(&served.address).unwrap_err().to_string();
        assert!(error.contains("it runs Martlet 9.9.9, this is"), "{error}");
    }

    #[test]
    fn what_a_server_tells_fits_its_answer() {
        let mut device = super::super::Device::cpu().info().clone();
        device.name = "ä".repeat(200);
        let about = About::of(&device);
        let values = about.values();
        assert_eq!(values.len(), ANSWER);
        assert_eq!(About::read(&values), Some(about));
        assert_eq!(About::read(&[1.0, 2.0]), None);
    }
}
