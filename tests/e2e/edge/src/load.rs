//! Clients that ask while something happens, and count what becomes of their requests.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::must;
use crate::who::{Ask, Place};

/// How long a slow request takes: [`crate::WHO_IMAGE`] and the examples' backend both answer so late when
/// they are asked with `?delay=3s`.
const SLOW: Duration = Duration::from_secs(3);
/// So long clients go on after what they are there for.
const TAIL: Duration = Duration::from_millis(300);
/// What takes less is stretched to so long, in which each client asks more than once.
const LEAST: Duration = Duration::from_millis(1200);

/// How one of the clients asks.
#[derive(Debug)]
struct Manner {
    name: &'static str,
    /// HTTP's version.
    http: &'static str,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Short requests on a connection that is kept as long as the other end keeps it.
    Kept,
    /// Short requests, each on a connection of its own.
    Fresh,
    /// Slow requests on kept connections. Six are under way at any time.
    Slow,
}

#[rustfmt::skip]
const MANNERS: [Manner; 6] = [
    Manner { name: "HTTP/1.1", http: "1.1", pace: Pace::Kept },
    Manner { name: "HTTP/1.1, one a connection", http: "1.1", pace: Pace::Fresh },
    Manner { name: "HTTP/1.1, 3 s", http: "1.1", pace: Pace::Slow },
    Manner { name: "HTTP/2", http: "2", pace: Pace::Kept },
    Manner { name: "HTTP/2, one a connection", http: "2", pace: Pace::Fresh },
    Manner { name: "HTTP/2, 3 s", http: "2", pace: Pace::Slow },
];

impl Pace {
    /// The time from one request to the next.
    fn every(self) -> Duration {
        Duration::from_millis(match self {
            Pace::Kept => 50,
            Pace::Fresh => 100,
            Pace::Slow => 500,
        })
    }

    /// So many requests that began while something happened must have been answered, or it was seen by
    /// nobody.
    fn least(self) -> u32 {
        match self {
            Pace::Kept | Pace::Fresh => 5,
            Pace::Slow => 1,
        }
    }
}

/// What clients ask for.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The question, over TLS or not. It is sent with POST: clients do not send that again on their own.
    pub ask: Ask<'a>,
    /// Whether HTTP/2 is spoken there; without TLS clients know it beforehand.
    pub http2: bool,
}

impl<'a> From<Ask<'a>> for Target<'a> {
    fn from(ask: Ask<'a>) -> Self {
        Target { ask, http2: true }
    }
}

impl Target<'_> {
    /// What speaks no HTTP/2.
    #[must_use]
    pub fn without_http2(mut self) -> Self {
        self.http2 = false;
        self
    }
}

/// Clients that ask from when they are made until [`Clients::end`], in every manner: short requests and
/// such of 3 s, HTTP/1.1 and HTTP/2, on kept connections and new ones. They end with the cluster too.
#[derive(Debug)]
pub struct Clients {
    running: Vec<Client>,
    /// What they were there for: each lies between two marks.
    seen: Vec<String>,
}

impl Clients {
    /// Starts them, and waits until each has sent a request.
    ///
    /// # Errors
    /// Where one cannot be started.
    pub fn start<'p>(from: impl Into<Place<'p>>, targets: &[Target<'_>]) -> Result<Clients> {
        let from = from.into();
        let mut running = Vec::new();
        for target in targets {
            for manner in &MANNERS {
                if target.http2 || manner.http != "2" {
                    running.push(Client::start(from, target, manner)?);
                }
            }
        }
        for client in &mut running {
            client.has_asked()?;
        }
        Ok(Clients {
            running,
            seen: Vec::new(),
        })
    }

    /// Does something while they ask. Each of them must then have begun a request meanwhile that was
    /// answered: [`Clients::end`] looks.
    ///
    /// # Errors
    /// Of what is done, and where a client has ended by itself.
    pub fn during<T>(&mut self, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.mark()?;
        let began = Instant::now();
        let done = act()?;
        sleep(TAIL.max(LEAST.saturating_sub(began.elapsed())));
        self.mark()?;
        self.seen.push(what.to_owned());
        Ok(done)
    }

    /// Does something while they ask, and ends them.
    ///
    /// # Errors
    /// As [`Clients::during`] and [`Clients::end`].
    pub fn until_done<T>(mut self, what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = self.during(what, act)?;
        self.end()?;
        Ok(done)
    }

    fn mark(&mut self) -> Result<()> {
        self.running.iter_mut().try_for_each(Client::mark)
    }

    /// Ends them, after the answers that they wait for, and says in a line how many requests there were.
    ///
    /// # Errors
    /// Where a request failed, was answered over another protocol, or sooner than slow ones are; or where one
    /// of the clients saw too little of something to show anything.
    pub fn end(mut self) -> Result<()> {
        for client in &mut self.running {
            client.stdin = None;
        }
        let (mut asked, mut slow, mut connections) = (0, 0, 0);
        let mut wrong = Vec::new();
        for client in self.running {
            let (name, manner) = (client.name.clone(), client.manner);
            let found = client.end()?;
            if let Err(error) = found.holds(manner, &self.seen) {
                wrong.push(format!("{name}: {error:#}"));
            }
            asked += found.asked;
            connections += found.connections;
            if manner.pace == Pace::Slow {
                slow += found.asked;
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        println!(
            "           {}: {asked} requests, {slow} of them slow, over {connections} connections: none failed",
            self.seen.join(", "),
        );
        Ok(())
    }
}

/// A client that asks until its standard input ends.
#[derive(Debug)]
struct Client {
    name: String,
    manner: &'static Manner,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// What came of its questions.
#[derive(Clone, Debug, Default, Deserialize)]
struct Loaded {
    /// How many were asked.
    asked: u32,
    /// How many were answered over which protocol.
    protos: BTreeMap<String, u32>,
    /// When and how others went wrong.
    failed: Vec<String>,
    /// How many connections it made.
    connections: u32,
    /// How many that began before the first mark, after it, after the second … were answered.
    phases: Vec<u32>,
    /// The least time that an answer took, in milliseconds.
    shortest: i64,
}

impl Client {
    fn start(from: Place<'_>, target: &Target<'_>, manner: &'static Manner) -> Result<Client> {
        let mut url = target.ask.url.to_owned();
        if manner.pace == Pace::Slow {
            let mark = if url.contains('?') { '&' } else { '?' };
            url.push(mark);
            url.push_str(&format!("delay={}s", SLOW.as_secs()));
        }
        let options = [
            format!("-http={}", manner.http),
            format!("-every={}ms", manner.pace.every().as_millis()),
            format!("-fresh={}", manner.pace == Pace::Fresh),
        ];
        let mut child = target
            .ask
            .command(from, "load", &options)?
            .arg(&url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Client {
            name: format!("{url} at {} by {}", target.ask.at, manner.name),
            manner,
            stdin: child.stdin.take(),
            stdout: BufReader::new(stdout),
            child,
        })
    }

    fn has_asked(&mut self) -> Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line != "asking\n" {
            let mut said = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                stderr.read_to_string(&mut said)?;
            }
            bail!("{} does not ask: {said}", self.name);
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("it was ended")?;
        writeln!(stdin).with_context(|| format!("{} has ended by itself", self.name))
    }

    fn end(mut self) -> Result<Loaded> {
        self.stdin = None;
        let mut said = String::new();
        self.stdout.read_to_string(&mut said)?;
        must(&self.name, self.child.wait_with_output()?)?;
        serde_json::from_str(&said).context(said)
    }
}

impl Loaded {
    /// Whether it shows that nothing was lost.
    fn holds(&self, manner: &Manner, seen: &[String]) -> Result<()> {
        ensure!(
            self.failed.is_empty(),
            "{} of {} requests failed, such as {:#?}",
            self.failed.len(),
            self.asked,
            self.failed.iter().take(5).collect::<Vec<_>>()
        );
        let proto = match manner.http {
            "2" => "HTTP/2.0",
            _ => "HTTP/1.1",
        };
        ensure!(
            self.protos.keys().eq([proto]),
            "answers over another protocol than {proto}: {:?}",
            self.protos
        );
        ensure!(
            manner.pace != Pace::Slow || u128::try_from(self.shortest)? >= SLOW.as_millis(),
            "an answer came before {} s",
            SLOW.as_secs()
        );
        // Marks come in pairs: what lies within a pair.
        let within = self.phases.iter().skip(1).step_by(2);
        ensure!(within.len() >= seen.len(), "a mark was not heard");
        for (what, answered) in seen.iter().zip(within) {
            ensure!(
                *answered >= manner.pace.least(),
                "{what}: {answered} requests began meanwhile and were answered; {} are too few",
                manner.pace.least()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Loaded {
        Loaded {
            asked: 50,
            protos: BTreeMap::from([("HTTP/2.0".to_owned(), 50)]),
            failed: Vec::new(),
            connections: 2,
            phases: vec![0, 20, 9, 1, 20],
            shortest: 3001,
        }
    }

    #[test]
    fn what_shows_nothing_is_refused() {
        let slow = MANNERS.last().unwrap();
        let seen = ["up", "down"].map(str::to_owned);
        found().holds(slow, &seen).unwrap();
        for (wrong, said) in [
            (
                Loaded {
                    failed: vec!["EOF".into()],
                    ..found()
                },
                "1 of 50 requests failed",
            ),
            (
                Loaded {
                    protos: BTreeMap::from([("HTTP/1.1".into(), 50)]),
                    ..found()
                },
                "another protocol",
            ),
            (
                Loaded {
                    shortest: 20,
                    ..found()
                },
                "before 3 s",
            ),
            (
                Loaded {
                    phases: vec![9, 20, 9, 0, 20],
                    ..found()
                },
                "down: 0 requests began",
            ),
            (
                Loaded {
                    phases: vec![9, 20, 9],
                    ..found()
                },
                "a mark was not heard",
            ),
            (Loaded::default(), "another protocol"),
        ] {
            let error = wrong.holds(slow, &seen).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
