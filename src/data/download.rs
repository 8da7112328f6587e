//! Fetches the original files of the known data sets: resumes what was begun, and checks every file before it is used.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use md5::{Digest, Md5};

use super::{error::DataError, files};

/// Bytes beyond twice what a page says of a file's size, after which it is not that file.
const MORE: u64 = 1 << 20;

/// A data set that can be fetched.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// What to call it: `mnist`, `fashion-mnist`, `cifar10` or `cifar100`.
    pub name: &'static str,
    /// Its files.
    pub files: &'static [RemoteFile],
}

/// One file of a data set.
#[derive(Debug, Clone, Copy)]
pub struct RemoteFile {
    /// Its name on disk.
    pub name: &'static str,
    /// Addresses, tried in turn.
    pub urls: &'static [&'static str],
    /// The original's MD5 checksum.
    pub md5: &'static str,
    /// The original's size, in bytes and roughly where the page says no more; for progress only.
    pub bytes: u64,
}

macro_rules! mirrored {
    ($file:literal, $md5:literal, $bytes:literal, $($mirror:literal),+) => {
        RemoteFile { name: $file, urls: &[$(concat!($mirror, $file)),+], md5: $md5, bytes: $bytes }
    };
}

macro_rules! mnist {
    ($file:literal, $md5:literal, $bytes:literal) => {
        mirrored!(
            $file,
            $md5,
            $bytes,
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/"
        )
    };
}

macro_rules! fashion {
    ($file:literal, $md5:literal, $bytes:literal) => {
        mirrored!(
            $file,
            $md5,
            $bytes,
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
        )
    };
}

const KNOWN: [Known; 4] = [
    Known {
        name: "mnist",
        files: &[
            mnist!(
                "train-images-idx3-ubyte.gz",
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                9_912_422
            ),
            mnist!("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
            mnist!(
                "t10k-images-idx3-ubyte.gz",
                "9fb629c4189551a2d022fa330f9573f3",
                1_648_877
            ),
            mnist!("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
        ],
    },
    Known {
        name: "fashion-mnist",
        files: &[
            fashion!(
                "train-images-idx3-ubyte.gz",
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                26_421_880
            ),
            fashion!("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
            fashion!(
                "t10k-images-idx3-ubyte.gz",
                "bef4ecab320f06d8554ea6380940ec79",
                4_422_102
            ),
            fashion!("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
        ],
    },
    Known {
        name: "cifar10",
        files: &[mirrored!(
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            170_052_171,
            "https://www.cs.toronto.edu/~kriz/"
        )],
    },
    Known {
        name: "cifar100",
        files: &[mirrored!(
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            168_513_733,
            "https://www.cs.toronto.edu/~kriz/"
        )],
    },
];

/// The data sets that can be fetched.
pub fn known() -> &'static [Known] {
    &KNOWN
}

/// Fetches every file of a known data set into `folder`, skipping those that are there and right. `progress` is told
/// (bytes done, bytes in all) over all files.
///
/// # Errors
/// [`DataError::Missing`] for a name that is not in [`known`]; [`DataError::Download`] where a file could not be
/// had or is not the original: it says which files to put where by hand. What came of a file stays beside it as
/// `NAME.part` and is taken up by the next call.
pub fn get(name: &str, folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
    match KNOWN.iter().find(|known| known.name == name) {
        Some(known) => get_files(known.files, folder, progress),
        None => Err(DataError::Missing {
            what: format!("download called {name:?}"),
            expected: KNOWN.map(|known| known.name).join(", "),
            way_out: "ask for one of these; other data is read where it lies (folder:PATH, npz:FILE)".into(),
            path: folder.into(),
        }),
    }
}

/// Fetches files into `folder`; what [`get`] does, for files of any origin.
///
/// # Errors
/// As [`get`].
pub fn get_files(files: &[RemoteFile], folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(|error| DataError::Io {
        doing: "make the folder",
        error,
        path: folder.into(),
    })?;
    let total = files.iter().map(|file| file.bytes).sum();
    let mut before = 0;
    for file in files {
        let target = folder.join(file.name);
        if !(target.is_file() && md5_of(&target)? == file.md5) {
            let mut reasons = Vec::new();
            let arrived = file.urls.iter().any(|url| {
                let mut tell = |done: u64| progress((before + done).min(total), total);
                fetch(url, file, &target, &mut tell)
                    .map_err(|reason| reasons.push(format!("{url}: {reason}")))
                    .is_ok()
            });
            if !arrived {
                return Err(DataError::Download {
                    file: file.name.into(),
                    reason: reasons.join("; "),
                    way_out: by_hand(files),
                    path: target,
                });
            }
        }
        before += file.bytes;
        progress(before, total);
    }
    Ok(())
}

/// What to do without a connection.
fn by_hand(files: &[RemoteFile]) -> String {
    let list: Vec<String> = files
        .iter()
        .map(|f| format!("{} (md5 {}, from {})", f.name, f.md5, f.urls[0]))
        .collect();
    format!(
        "try again later (what came is kept), or put these files there by hand: {}",
        list.join(", ")
    )
}

fn md5_of(path: &Path) -> Result<String, DataError> {
    let refuse = |error| DataError::Io {
        doing: "read the file",
        error,
        path: path.into(),
    };
    let mut file = File::open(path).map_err(refuse)?;
    let (mut hash, mut buffer) = (Md5::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(refuse)? {
            0 => return Ok(files::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// One file from one address: onto `NAME.part`, checked, then renamed. The error is a reason in words.
fn fetch(url: &str, file: &RemoteFile, target: &Path, tell: &mut dyn FnMut(u64)) -> Result<(), String> {
    let part = PathBuf::from(format!("{}.part", target.display()));
    let words = |error: std::io::Error| error.to_string();
    let begun = fs::metadata(&part).map_or(0, |found| found.len());

    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        // Whoever answers in the name of a mirror cannot lead away from it to a place that nobody vouches for.
        .https_only(url.starts_with("https://"))
        .build()
        .into();
    let mut request = agent.get(url);
    if begun > 0 {
        request = request.header("Range", format!("bytes={begun}-"));
    }
    let mut response = request.call().map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let resumed = status == 206 && begun > 0;
    // 416: nothing is missing after what was begun; the checksum decides.
    if status != 416 || begun == 0 {
        if status != 200 && !resumed {
            return Err(format!("the server answered {status}"));
        }
        let mut out = OpenOptions::new()
            .create(true)
            .write(true)
            .append(resumed)
            .truncate(!resumed)
            .open(&part)
            .map_err(words)?;
        let mut done = if resumed { begun } else { 0 };
        let most = file.bytes.saturating_mul(2).saturating_add(MORE);
        let mut body = response.body_mut().with_config().limit(most + 1).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            tell(done);
            let count = body.read(&mut buffer).map_err(words)?;
            if count == 0 {
                break;
            }
            if done + count as u64 > most {
                drop(out);
                fs::remove_file(&part).map_err(words)?;
                return Err(format!("expected about {} bytes, got more than {most}", file.bytes));
            }
            out.write_all(&buffer[..count]).map_err(words)?;
            done += count as u64;
        }
        out.sync_all().map_err(words)?;
    }

    let md5 = md5_of(&part).map_err(|error| error.to_string())?;
    if md5 != file.md5 {
        // Not worth taking up again.
        fs::remove_file(&part).map_err(words)?;
        return Err(format!("expected a file with md5 {}, got md5 {md5}", file.md5));
    }
    fs::rename(&part, target).map_err(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mirror_is_asked_over_https() {
        let mut urls = KNOWN.iter().flat_map(|known| known.files).flat_map(|file| file.urls);
        assert!(urls.all(|url| url.starts_with("https://")));
    }
}
