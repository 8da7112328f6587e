//! Memory: how much reading a file may take, and a last word where the system has no more of it.
//!
//! A file of a few kilobytes can ask for gigabytes. Whoever reads one counts what it takes against a [`Budget`] *before* taking it,
//! so that too much ends in a message instead of a killed process. How much that is does not belong to an experiment: it is
//! [`allow`]ed for the process, or follows the machine.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Read,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
};

/// The environment's variable that allows a size, where the command line does not.
pub const VARIABLE: &str = "MARTLET_MEMORY";

/// The sizes that a message shows and a person writes.
const UNITS: [(&str, u64); 10] = [
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
];

/// Bytes, written as `8GiB`, `500MB` or `1.5g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 8GiB or 500MB, got {0:?}")]
pub struct NoSize(String);

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let wrong = || NoSize(text.to_string());
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let unit = match unit {
            "" | "b" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let bytes = number * unit as f64;
        if bytes.is_finite() && (1.0..9e18).contains(&bytes) {
            Ok(Size(bytes as u64))
        } else {
            Err(wrong())
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1024 => write!(f, "{} bytes", self.0),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes / 1024.0),
            1_048_576..1_073_741_824 => write!(f, "{:.1} MiB", bytes / 1_048_576.0),
            _ => write!(f, "{:.1} GiB", bytes / 1_073_741_824.0),
        }
    }
}

/// What is allowed, in bytes; 0 where nobody has said.
static ALLOWED: AtomicU64 = AtomicU64::new(0);

/// Lets every later [`Budget`] of the process take so much.
pub fn allow(size: Size) {
    ALLOWED.store(size.0, Ordering::Relaxed);
}

/// What [`VARIABLE`] says, where it is set.
///
/// # Errors
/// Where that is no size.
pub fn from_environment() -> Result<Option<Size>, NoSize> {
    std::env::var(VARIABLE).ok().map(|text| text.parse()).transpose()
}

/// What one reading may take: what was [`allow`]ed, else what [`VARIABLE`] says, else three quarters of what the machine has free.
pub fn allowed() -> Size {
    let said = ALLOWED.load(Ordering::Relaxed);
    if said > 0 {
        return Size(said);
    }
    from_environment()
        .ok()
        .flatten()
        .unwrap_or_else(|| Size(free() / 4 * 3))
}

/// Bytes that the system would still give: free memory, within the limits of a container and of the process.
pub fn free() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let mut free = system.available_memory();
    if let Some(container) = system.cgroup_limits() {
        free = free.min(container.free_memory);
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Some(left) = address_space_left() {
        free = free.min(left);
    }
    // A system that does not say what it has is no reason to refuse everything.
    if free == 0 { 4 << 30 } else { free }
}

/// What `ulimit -v` leaves of the process's address space; none where there is no limit.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn address_space_left() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is the caller's own, and large enough.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    if !known || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(
        limit
            .rlim_cur
            .saturating_sub(pages * u64::try_from(page).unwrap_or(4096))
            .max(1),
    )
}

/// What one reading takes, and how much it may; clones count together.
#[derive(Debug, Clone)]
pub struct Budget {
    allowed: u64,
    taken: Arc<AtomicU64>,
}

/// More was asked for than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {allowed} of memory, got {}{asked}", if *.at_least { "more than " } else { "" })]
pub struct OverBudget {
    /// What all that is read would take together, or a part of it where the whole is not known.
    pub asked: Size,
    /// Whether it is only known to be more.
    pub at_least: bool,
    /// What is allowed.
    pub allowed: Size,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(allowed())
    }
}

impl Budget {
    /// A budget of its own.
    pub fn of(allowed: Size) -> Self {
        Self {
            allowed: allowed.0,
            taken: Arc::default(),
        }
    }

    /// Counts bytes that are about to be taken.
    ///
    /// # Errors
    /// Where all that was taken and these are more than is allowed; then they are not counted.
    pub fn take(&self, bytes: u64) -> Result<(), OverBudget> {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let asked = before.saturating_add(bytes);
        if asked <= self.allowed {
            return Ok(());
        }
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        Err(OverBudget {
            asked: Size(asked),
            at_least: false,
            allowed: Size(self.allowed),
        })
    }

    /// Counts `count` values of `T` that are about to be taken.
    ///
    /// # Errors
    /// As [`Budget::take`].
    pub fn take_values<T>(&self, count: usize) -> Result<(), OverBudget> {
        self.take((count as u64).saturating_mul(size_of::<T>() as u64))
    }

    /// Bytes that were taken and are free again.
    pub fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that may still be taken.
    pub fn left(&self) -> u64 {
        self.allowed.saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Reads to the end what may not say how long it is.
    ///
    /// # Errors
    /// The reader's own, or, within the first, that it gave more than is allowed.
    pub fn read(&self, reader: &mut dyn Read) -> Result<std::io::Result<Vec<u8>>, OverBudget> {
        let mut bytes = Vec::new();
        let outcome = self.read_into(reader, &mut bytes)?;
        Ok(outcome.map(|()| bytes))
    }

    /// As [`Budget::read`]; `bytes` keeps what came before the reader's error.
    ///
    /// # Errors
    /// As [`Budget::read`].
    pub fn read_into(&self, reader: &mut dyn Read, bytes: &mut Vec<u8>) -> Result<std::io::Result<()>, OverBudget> {
        let left = self.left();
        let outcome = reader.take(left.saturating_add(1)).read_to_end(bytes);
        let ended = outcome
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory);
        if ended || bytes.len() as u64 > left {
            return Err(OverBudget {
                asked: Size(self.allowed),
                at_least: true,
                allowed: Size(self.allowed),
            });
        }
        self.take(bytes.len() as u64)?;
        Ok(outcome.map(|_| ()))
    }
}

/// The size of a request that the system refused; 0 where there was none.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// What is said beside it, and how long it is.
static KEPT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static KEPT_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which remembers a request that was refused.
pub struct Allocator;

impl Allocator {
    fn remember(pointer: *mut u8, size: usize) -> *mut u8 {
        if pointer.is_null() {
            REFUSED.store(size, Ordering::Relaxed);
        }
        pointer
    }
}

// SAFETY: every request goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        Self::remember(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        Self::remember(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        Self::remember(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

/// Says what is kept where memory ends, such as a run's last checkpoint and how to go on from it.
pub fn keep_in_mind(text: String) {
    // Whoever reads it does so when the process ends: it stays until then.
    let text: &'static str = text.leak();
    KEPT_LENGTH.store(0, Ordering::SeqCst);
    KEPT.store(text.as_ptr().cast_mut(), Ordering::SeqCst);
    KEPT_LENGTH.store(text.len(), Ordering::SeqCst);
}

/// What [`keep_in_mind`] was told last.
pub fn kept_in_mind() -> Option<&'static str> {
    let (kept, length) = (KEPT.load(Ordering::SeqCst), KEPT_LENGTH.load(Ordering::SeqCst));
    if kept.is_null() || length == 0 {
        return None;
    }
    // SAFETY: `keep_in_mind` gave text of this length that stays as it is; its length is 0 while the two do not belong together.
    let bytes = unsafe { std::slice::from_raw_parts(kept, length) };
    std::str::from_utf8(bytes).ok()
}

/// Lets a process whose allocation is refused end with a message and the status 1, where it would be aborted.
///
/// Nothing else of an abort changes. The process's allocator must be [`Allocator`]; where there are no signals this does nothing.
pub fn end_with_a_message() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the handler calls only functions that a signal's handler may call, and takes no memory.
    unsafe {
        libc::signal(libc::SIGABRT, last_word as *const () as libc::sighandler_t);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
extern "C" fn last_word(signal: libc::c_int) {
    let say = |bytes: &[u8]| {
        // SAFETY: the bytes are whole; what was written of them does not matter any more.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    };
    let refused = REFUSED.load(Ordering::SeqCst);
    if refused == 0 {
        // SAFETY: an abort for another reason is one.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    say(b"error: memory ended: the system refused ");
    let (mut digits, mut at, mut rest) = ([0_u8; 20], 20, (refused >> 20).max(1));
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    say(&digits[at..]);
    say(b" MiB more; allow the process more (ulimit -v, the container's limit), or take smaller minibatches or a smaller network");
    if let Some(kept) = kept_in_mind() {
        say(b"; ");
        say(kept.as_bytes());
    }
    say(b"\n");
    // SAFETY: ends the process without running anything more of it.
    unsafe { libc::_exit(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("500 MB", 500_000_000),
            ("1.5g", 3 << 29),
            ("77", 77),
            ("2k", 2048),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "GiB", "-1", "0", "1 parsec", "1e400", "nan"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(5 << 29).to_string(), "2.5 GiB");
    }

    #[test]
    fn a_budget_refuses_the_first_byte_too_many_and_counts_what_comes_back() {
        let budget = Budget::of(Size(10));
        budget.take(6).unwrap();
        let over = budget.clone().take(5).unwrap_err();
        assert_eq!((over.asked, over.allowed), (Size(11), Size(10)));
        budget.give_back(1);
        budget.take(5).unwrap();
        assert_eq!(budget.left(), 0);
        assert!(Budget::of(Size(10)).take(u64::MAX).is_err());
    }

    #[test]
    fn reading_stops_at_what_is_left() {
        let budget = Budget::of(Size(4));
        assert!(budget.read(&mut std::io::repeat(0)).unwrap_err().at_least);
        assert_eq!(budget.read(&mut &b"1234"[..]).unwrap().unwrap(), b"1234");
        assert!(budget.read(&mut &b"5"[..]).is_err());
    }
}
