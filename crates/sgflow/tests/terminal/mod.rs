//! A terminal, and a program on it.
#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and takes what it needs")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vt100::Parser;

/// A program on a terminal of its own; ended with the test, however that ends.
pub struct Pty {
    child: Child,
    keys: File,
    /// The program's end: while somebody has it open, what it is set to can be read.
    line: OwnedFd,
    parser: Arc<Mutex<Parser>>,
    reader: Option<JoinHandle<()>>,
}

impl Pty {
    /// Runs a program, with its name, arguments and variables, on a terminal of so many rows and columns.
    pub fn run(program: &Command, rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = rustix::fs::open(name, flags, Mode::empty()).expect("the program's end");
        tcsetwinsize(&line, size(rows, columns)).expect("a size");
        let end = || line.try_clone().expect("the same");
        // Dies with the test; and has the terminal as its own, whose changes of size it hears of then.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "setsid", "--ctty"])
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the program starts");
        let parser = Arc::new(Mutex::new(Parser::new(some(rows), some(columns), 0)));
        let (mut out, keys) = (File::from(master.try_clone().expect("the same")), File::from(master));
        let shown = Arc::clone(&parser);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO when nobody has the other end any more.
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                shown.lock().expect("no reader has failed").process(&bytes[..count]);
            }
        });
        Pty { child, keys, line, parser, reader: Some(reader) }
    }

    /// What stands there.
    pub fn screen(&self) -> String {
        self.parser.lock().expect("no reader has failed").screen().contents()
    }

    /// Strikes keys.
    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys");
    }

    /// Another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.parser.lock().expect("no reader has failed").screen_mut().set_size(some(rows), some(columns));
        tcsetwinsize(&self.line, size(rows, columns)).expect("a size");
    }

    /// Waits until something stands there, or does not; a test that fails here waited in vain.
    pub fn shows(&self, what: &str, check: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !check(&self.screen()) {
            assert!(Instant::now() < deadline, "not within 30 s: {what}; there is\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks the program to end.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a process");
    }

    /// Its end, after which all that it has written stands there.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("its end");
        // The reader sees the end of the terminal only when nobody has it; what was written before is read by then.
        let written = || self.parser.lock().expect("no reader has failed").screen().contents_formatted();
        let mut before = written();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = written();
            if now == before {
                return status;
            }
            before = now;
        }
    }

    /// The terminal is as a shell wants it: it echoes, gives lines, shows its own screen and the cursor.
    pub fn is_given_back(&self) {
        let modes = tcgetattr(&self.line).expect("a terminal").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
        let parser = self.parser.lock().expect("no reader has failed");
        assert!(!parser.screen().alternate_screen(), "its own screen");
        assert!(!parser.screen().hide_cursor(), "the cursor");
    }
}

fn some(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has rows and columns")
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // The reader ends with the program's end of the terminal, which is ours too until now.
        drop(self.reader.take());
    }
}
