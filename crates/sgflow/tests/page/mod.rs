//! Pages whose commands are run.
//!
//! Each fenced block of a page is one of these, and a page that has any other fails:
//!
//! - ` ```console `: every line that begins with `$ ` (and those below that begin with `> `) is run by one shell, in order; what it prints is
//!   what stands below it, times apart, and how many flow-mods an agent has sent if it has sent any. It ends well. A command that begins with `sgflow` and only looks may take a while until it prints that.
//! - ` ```yaml FILE ` or ` ```toml FILE `: is written to FILE, in the directory where the commands are run.
//! - anything behind `<!-- run, not compared: WHY -->`: is run and has to end well; what it prints differs between machines.
//! - anything behind `<!-- not run: WHY -->`.

#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and takes what it needs")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use lab::Ovs;

use crate::common::{sgflow, socket};

const FENCE: &str = "```";
const NOT_RUN: &str = "<!-- not run: ";
const NOT_COMPARED: &str = "<!-- run, not compared: ";
/// Behind what a command prints.
const END: &str = "--- the command has ended with";
/// How long a command that only looks may take until it prints what the page says.
const PATIENCE: Duration = Duration::from_secs(20);

/// One shell, in a directory of its own, that sees the private switch as that of its machine.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    directory: PathBuf,
}

impl Shell {
    /// With files `(name, content)` in its directory, and with these variables.
    pub fn start(ovs: &Ovs, files: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let directory = ovs.rundir().join("page");
        for (name, content) in files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, content).expect("written");
        }
        let program = sgflow().get_program().to_owned();
        let programs = Path::new(&program).parent().expect("where the program is").display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        // Names of network namespaces are files: those that a page makes are this shell's own, and go with it.
        let own =
            "[ -d /run/netns ] && at=/run/netns || at=/run; mount -t tmpfs none $at && exec bash --norc";
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", &format!("--net={}", ovs.netns().path())]);
        command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", own]);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("SGFLOW_")) {
            command.env_remove(key);
        }
        command.current_dir(&directory).env("PATH", path).env("LC_ALL", "C");
        // Where the programs of Open vSwitch look for its sockets.
        command.env("OVS_RUNDIR", ovs.rundir()).env("SGFLOW_OVSDB_CONNECTION", ovs.db_remote());
        command.env("SGFLOW_API_SOCKET", socket(ovs)).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Shell { child, input, output, directory }
    }

    /// What a command prints, and its exit code.
    pub fn run(&mut self, command: &str) -> (String, i32) {
        // As at a terminal of that width; what goes into a pipe has none.
        let width = if command.contains(" | ") { "unset COLUMNS" } else { "export COLUMNS=80" };
        let text = format!("{width}\n{{ {command}\n}} </dev/null 2>&1\ncode=$?; echo; echo '{END}' $code\n");
        self.input.write_all(text.as_bytes()).expect("the shell lives");
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).expect("its output");
            assert!(count > 0, "{command}: the shell has ended after\n{printed}");
            if let Some(code) = line.strip_prefix(END) {
                // The empty line before the mark ends the last line, if that had no end.
                let printed = printed.strip_suffix('\n').unwrap_or(&printed).to_owned();
                return (printed, code.trim().parse().expect("an exit code"));
            }
            printed += &line;
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A command that the test does in a way of its own, in place of the machine's.
pub type Instead<'a> = (&'a str, &'a mut dyn FnMut());

/// Runs a page (`docs/operations/NAME`) and holds it against what its commands print; `UPDATE_EXPECT=1` writes it anew. How many
/// commands were run.
pub fn run(name: &str, shell: &mut Shell, instead: &mut [Instead<'_>]) -> usize {
    let path = Path::new("../../docs/operations").join(name);
    let page = fs::read_to_string(&path).expect("the page");
    let (mut written, mut commands) = (String::new(), 0);
    let mut done = vec![false; instead.len()];
    let mut lines = page.lines();
    let mut before = "";
    while let Some(line) = lines.next() {
        written += &format!("{line}\n");
        let Some(info) = line.trim_start().strip_prefix(FENCE) else {
            assert!(
                !(before.is_empty() && line.starts_with("    ") && !line.trim().is_empty()),
                "{name}: a block without a fence, of which nobody knows whether it is run: {line}"
            );
            before = line;
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != FENCE).collect();
        let mark = before.trim_start();
        match info.split_once(' ') {
            _ if mark.starts_with(NOT_RUN) => written += &text_of(&block),
            _ if mark.starts_with(NOT_COMPARED) => {
                for (command, _) in commands_of(name, &block) {
                    let (printed, code) = shell.run(&command);
                    assert!(ends_well(&command, code), "{name}: {command}: exit {code}: {printed}");
                    commands += 1;
                }
                written += &text_of(&block);
            }
            Some(("yaml" | "toml", file)) => {
                let file = shell.directory.join(file);
                fs::create_dir_all(file.parent().expect("a directory")).expect("made");
                fs::write(file, text_of(&block)).expect("written");
                written += &text_of(&block);
            }
            None if info == "console" => {
                for (command, expected) in commands_of(name, &block) {
                    written += &format!("$ {}\n", command.replace('\n', "\n> "));
                    commands += 1;
                    if let Some(at) = instead.iter().position(|(told, _)| *told == command) {
                        instead[at].1();
                        done[at] = true;
                        written += &expected;
                        continue;
                    }
                    written += &told(shell, &command, &expected);
                }
            }
            _ => panic!("{name}: a block that is neither run nor marked: {FENCE}{info}\n{}", text_of(&block)),
        }
        written += &format!("{FENCE}\n");
        before = "";
    }
    for ((command, _), done) in instead.iter().zip(done) {
        assert!(done, "{name} has no {command} any more");
    }
    if is_written() {
        fs::write(&path, &written).expect("the page");
    }
    assert!(
        page == written,
        "docs/operations/{name} is stale, UPDATE_EXPECT=1 writes it:\n{}",
        differing(&page, &written)
    );
    commands
}

/// Whether pages are written anew.
fn is_written() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// Commands, each with what stands below it.
fn commands_of(name: &str, block: &[&str]) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in block {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((command, printed))) => {
                match line.strip_prefix("> ").filter(|_| printed.is_empty()) {
                    Some(more) => *command += &format!("\n{more}"),
                    None => *printed += &format!("{line}\n"),
                }
            }
            (None, None) => panic!("{name}: {line} stands above the first command of its block"),
        }
    }
    commands
}

/// What a command prints; where that is what is expected but for the times in it, what is expected.
fn told(shell: &mut Shell, command: &str, expected: &str) -> String {
    let looks = ["status", "ports", "groups", "explain", "connections", "flows", "drops"];
    let words: Vec<&str> = command.split_whitespace().take(2).collect();
    let may_wait = words.first() == Some(&"sgflow") && words.get(1).is_some_and(|word| looks.contains(word));
    // What is to be written has to be true by then.
    let patience = if is_written() { PATIENCE / 10 } else { PATIENCE };
    let deadline = Instant::now() + if may_wait { patience } else { Duration::ZERO };
    loop {
        let (printed, code) = shell.run(command);
        let is_well = ends_well(command, code);
        assert!(is_well || may_wait && Instant::now() < deadline, "{command}: exit {code}: {printed}");
        let printed = printed.replace(&format!("{}/", shell.directory.display()), "");
        if alike(&printed) == alike(expected) {
            return expected.to_owned();
        }
        if Instant::now() >= deadline {
            return printed;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether a command has done what it is for: `sgflow diff` says with another code that something would change.
fn ends_well(command: &str, code: i32) -> bool {
    code == 0 || code == 4 && command.starts_with("sgflow diff ")
}

/// With zeros in the place of times as RFC 3339 has them in UTC, and of the time of day that stands in a column.
fn without_times(text: &str) -> String {
    without(&without(text, "dddd-dd-ddTdd:dd:ddZ"), "  dd:dd:dd  ")
}

/// With zeros in the place of the digits of what looks like `pattern`, where d is a digit.
fn without(text: &str, pattern: &str) -> String {
    let is_time = |bytes: &[u8]| {
        bytes.iter().zip(pattern.bytes()).all(|(byte, of)| match of {
            b'd' => byte.is_ascii_digit(),
            of => *byte == of,
        })
    };
    let mut bytes = text.as_bytes().to_vec();
    for at in 0..(bytes.len() + 1).saturating_sub(pattern.len()) {
        let window = &mut bytes[at..at + pattern.len()];
        if is_time(window) {
            window.iter_mut().filter(|byte| byte.is_ascii_digit()).for_each(|byte| *byte = b'0');
        }
    }
    String::from_utf8(bytes).expect("digits for digits")
}

/// Without what may be another each time.
fn alike(text: &str) -> String {
    let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
    // What is dropped has flows of its own, as soon as it was seen.
    let some_of = |line: &str| match line.split_once(" flows concern ") {
        Some((before, after)) => format!("{}some flows concern {after}", before.trim_end_matches(is_number)),
        None => line.to_owned(),
    };
    // How a switch's devices come, all at once or one by one, decides in how many pieces their flows are sent; a proof takes what it takes.
    let line = |line: &str| match (line.split_once(" flow-mods sent)"), line.split_once(" s)")) {
        (Some((before, after)), _) if !before.ends_with(" 0") => {
            format!("{}some flow-mods sent){after}\n", before.trim_end_matches(is_number))
        }
        (_, Some((before, after))) => format!("{}some s){after}\n", before.trim_end_matches(is_number)),
        // ping(8) says how long it took.
        _ if line.contains(" packets transmitted, ") => {
            format!("{}\n", line.split_once(", time ").map_or(line, |(before, _)| before))
        }
        _ => format!("{line}\n"),
    };
    without_times(text).lines().map(|text| line(&some_of(text))).collect()
}

fn text_of(block: &[&str]) -> String {
    block.iter().map(|line| format!("{line}\n")).collect()
}

/// Lines that stand in one of them alone, in short.
fn differing(page: &str, written: &str) -> String {
    let only = |sign: char, of: &str, other: &str| {
        let lines = of.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only('-', page, written) + &only('+', written, page)
}
