//! The terminal: its size, the whole screen for a while, keys and signals, a password unseen.
//!
//! Not in here: what is shown.
#![allow(unsafe_code)] // termios, winsize, signalfd and poll: calls that std does not offer

use core::{mem::MaybeUninit, time::Duration};
use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Columns and lines of the terminal behind stdout; none when it is not one.
pub fn size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ writes one winsize, whose place is given; zeroes are a valid one.
    let size = unsafe {
        if libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) != 0 {
            return Some((80, 24));
        }
        size.assume_init()
    };
    // Serial consoles say 0 by 0.
    let or = |found: u16, usual: usize| if found == 0 { usual } else { usize::from(found) };
    Some((or(size.ws_col, 80), or(size.ws_row, 24)))
}

/// Whether colours are wanted on stdout: a terminal that can, and no `NO_COLOR`.
pub fn colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

/// Why a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time is over, or the terminal has another size.
    Redraw,
    /// `q`, Ctrl-C, or a signal to end.
    Quit,
}

/// The whole screen, given back when this is dropped.
pub struct Screen {
    signals: OwnedFd,
    modes: Option<Modes>,
}

impl Screen {
    /// Takes the screen. Call before any thread starts: signals are taken for the whole process.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn take() -> io::Result<Self> {
        let signals = signals()?;
        let modes = Modes::change(libc::ICANON | libc::ECHO);
        let screen = Self { signals, modes };
        // Another screen, no cursor, no wrapping.
        put("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J")?;
        Ok(screen)
    }

    /// Shows a page in one write, on a terminal of `width` columns: each line clears its rest, so
    /// nothing flickers.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&self, page: &str, width: usize) -> io::Result<()> {
        let mut frame = String::with_capacity(page.len() * 2);
        // Terminals that know synchronised output show it at once; others ignore the mark.
        frame.push_str("\x1b[?2026h\x1b[H");
        for (at, line) in page.lines().enumerate() {
            if at > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            // In a full line the cursor stays on the last character and would clear that.
            if columns(line) < width {
                frame.push_str("\x1b[K");
            }
        }
        frame.push_str("\x1b[J\x1b[?2026l");
        put(&frame)
    }

    /// Waits for a key, a signal or the time.
    pub fn pause(&self, time: Duration) -> Woken {
        let keys = if self.modes.is_some() { libc::STDIN_FILENO } else { -1 };
        let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [watch(self.signals.as_raw_fd()), watch(keys)];
        let milliseconds = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: two pollfd are given, and two is what is said; poll ignores fd -1.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, milliseconds) };
        if ready <= 0 {
            return Woken::Redraw;
        }
        let [signal, key] = fds;
        if signal.revents != 0 && self.signal() != libc::SIGWINCH as u32 {
            return Woken::Quit;
        }
        if key.revents != 0 && matches!(one_key(), None | Some(b'q' | b'Q' | 3)) {
            return Woken::Quit;
        }
        Woken::Redraw
    }

    fn signal(&self) -> u32 {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the place has the size that is said; zeroes are a valid siginfo.
        unsafe {
            libc::read(self.signals.as_raw_fd(), info.as_mut_ptr().cast(), size);
            info.assume_init().ssi_signo
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = put("\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

/// Columns that a line takes: all of its characters but those of SGR sequences.
fn columns(line: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '\x1b' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            _ => count += 1,
        }
    }
    count
}

/// One byte of stdin past its buffer; none at its end.
fn one_key() -> Option<u8> {
    let mut key = 0_u8;
    // SAFETY: one byte is read into one byte.
    let count = unsafe { libc::read(libc::STDIN_FILENO, (&raw mut key).cast(), 1) };
    (count == 1).then_some(key)
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A descriptor that becomes readable when the terminal changes or the program is to end.
fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is made by sigemptyset before use; the new descriptor is owned by nobody
    // else. Signals are blocked for the process, which is why this is called before any thread.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGWINCH] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        if libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), core::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Terminal modes of stdin, put back when dropped.
struct Modes(libc::termios);

impl Modes {
    /// Switches local modes off; none when stdin is no terminal.
    fn change(off: libc::tcflag_t) -> Option<Self> {
        let mut found = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: tcgetattr writes one termios; it is read only when that succeeded.
        let before = unsafe {
            if libc::tcgetattr(libc::STDIN_FILENO, found.as_mut_ptr()) != 0 {
                return None;
            }
            found.assume_init()
        };
        let mut now = before;
        now.c_lflag &= !off;
        if off & libc::ICANON != 0 {
            // Ctrl-Z would leave the shell on our screen.
            now.c_cc[libc::VSUSP] = 0;
        }
        // SAFETY: a whole termios is given.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &raw const now) };
        Some(Self(before))
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        // SAFETY: a whole termios is given, the one that was found.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &raw const self.0) };
    }
}

/// One line of a person, after `prompt`.
///
/// # Errors
/// Stdin is no terminal, or ends.
pub fn line(prompt: &str) -> Result<String, String> {
    if !io::stdin().is_terminal() {
        return Err(format!("nobody is there to answer: {prompt}"));
    }
    let _ = write!(io::stderr(), "{prompt}");
    let mut line = String::new();
    match io::BufRead::read_line(&mut io::Read::take(io::stdin().lock(), 4096), &mut line) {
        Ok(0) => Err("no answer was given".to_owned()),
        Ok(_) => Ok(line.trim().to_owned()),
        Err(wrong) => Err(format!("cannot read the answer: {wrong}")),
    }
}

/// One line of stdin without its end, unseen on a terminal, after `prompt`.
///
/// # Errors
/// Stdin ends before a line, or the line is longer than 4 KiB.
pub fn secret_line(prompt: &str) -> Result<String, String> {
    let terminal = io::stdin().is_terminal();
    let hidden = terminal.then(|| {
        let _ = write!(io::stderr(), "{prompt}");
        Modes::change(libc::ECHO)
    });
    let mut line = String::new();
    let read = io::BufRead::read_line(&mut io::Read::take(io::stdin().lock(), 4096), &mut line);
    if hidden.is_some() {
        let _ = writeln!(io::stderr());
    }
    match read {
        Ok(0) => Err("no password was given: type it, or pipe it to this command".to_owned()),
        Ok(4096..) => Err("the password is longer than 4 KiB".to_owned()),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(wrong) => Err(format!("cannot read the password: {wrong}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(columns("\x1b[1;31mdown\x1b[0m m"), 6);
    }
}
