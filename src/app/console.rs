//! The console beside the window.
//!
//! Martlet is a program of the terminal as well, so that Windows opens a console for it on a double click.

/// Closes the console where it was opened for this program alone; one in which a person typed stays.
#[cfg(windows)]
pub fn leave() {
    use windows_sys::Win32::System::Console::{FreeConsole, GetConsoleProcessList};
    let mut attached = [0; 2];
    // SAFETY: the call writes at most as many numbers as the array holds.
    if unsafe { GetConsoleProcessList(attached.as_mut_ptr(), attached.len() as u32) } == 1 {
        // SAFETY: nothing of ours keeps a handle of the console; later output goes nowhere and is no error.
        unsafe { FreeConsole() };
    }
}

/// Elsewhere a double click opens none.
#[cfg(not(windows))]
pub fn leave() {}
