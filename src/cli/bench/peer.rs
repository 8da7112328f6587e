//! PyTorch in a process of its own, to be measured in turn with Martlet: a form's name in, its milliseconds out.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The script that it runs, so that one binary carries it along.
const SCRIPT: &str = include_str!("../../../benches/peer.py");

pub struct Peer {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its version and device, as it says them.
    pub description: String,
}

impl Peer {
    /// Starts PyTorch with a network and minibatches of `examples`; `None` where it is not there or knows no such network.
    pub fn start(network: &str, examples: usize, device: &str) -> Option<Self> {
        let mut process = Command::new("python3")
            .args(["-c", SCRIPT, network, &examples.to_string(), device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (questions, answers) = (process.stdin.take()?, BufReader::new(process.stdout.take()?));
        let mut peer = Self {
            process,
            questions,
            answers,
            description: String::new(),
        };
        peer.description = peer.ask("describe")?;
        Some(peer)
    }

    fn ask(&mut self, question: &str) -> Option<String> {
        writeln!(self.questions, "{question}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        let answer = answer.trim().to_string();
        (!answer.is_empty()).then_some(answer)
    }

    /// Milliseconds of one run of a form; `None` where it has no such form.
    pub fn time(&mut self, form: &str) -> Option<f64> {
        self.ask(form)?.parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whether it is gone already does not matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
