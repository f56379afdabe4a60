//! `kubectl postern`, `oc postern`: for the people who write Postern's objects.
//!
//! ```text
//! files ───> Snapshot ──> check (consent, translate, encode) ──> Report ──> text, JSON, YAML
//! cluster ─> Facts ─────> pages (crate `postern-pages`) ──────────────────> text, JSON, YAML
//! ```

mod absent;
mod check;
mod cluster;
mod files;
mod report;

mod text;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use cluster::Access;
use postern_pages::{Asked, Target, safe};
use serde::Serialize;

/// Something is wrong with the objects.
const WRONG: u8 = 1;
/// The command was not understood, or could not be carried out.
const FAILED: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  nothing is wrong
  1  something is wrong with the objects, or with a file that holds them
  2  the command line is wrong, a path cannot be read, or the cluster does not answer";

/// Helps the people who write Postern's objects.
#[derive(Parser)]
#[command(
    name = "kubectl-postern",
    bin_name = "kubectl postern",
    version,
    arg_required_else_help = false
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says what Postern would say of objects in files, without a cluster.
    ///
    /// The files are read by the code that runs on a cluster: each object gets the conditions that
    /// it would have there. What objects name must be in the files too, so name several paths, for
    /// example the team's and the admins'. Whether an Envoy serves a Gateway (the condition
    /// Programmed) cannot be known from files.
    #[command(after_help = EXIT_CODES)]
    Check {
        /// A file, or a directory whose .yaml, .yml and .json files are read; may be given several
        /// times.
        #[arg(short, long, required = true, num_args = 1.., value_name = "PATH")]
        filename: Vec<PathBuf>,
        /// How to write what was found.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
        /// Whether to use colours; auto is on a terminal only.
        #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
        color: Color,
        /// Take endpoints on 127.0.0.0/8 and ::1 as good, as `serve --from` does.
        #[arg(long)]
        local: bool,
    },
    /// Says how a namespace's gateways are: instances, Gateways, addresses, grants, use, problems.
    ///
    /// Each problem is told with its cause and the next step. The rights that a namespace's owners
    /// have anyway are enough; what they may not read is told as unknown.
    #[command(after_help = EXIT_CODES)]
    Status {
        #[command(flatten)]
        access: Access,
        /// All namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Says who serves which host and path, in the order in which Envoy looks, and why others do not.
    ///
    /// What is told is computed from the routes as they are written now, by the code of the control
    /// plane.
    #[command(after_help = EXIT_CODES)]
    Routes {
        /// A host, or a host and a path (shop.example/cart): only what a request for it may meet.
        #[arg(value_name = "HOST[/PATH]")]
        asked: Option<String>,
        #[command(flatten)]
        access: Access,
        #[command(flatten)]
        form: Form,
    },
    /// Says what stands between an object and Envoy: what it depends on, what Envoys are sent for it,
    /// whether they acknowledged it, and what stops it.
    #[command(after_help = EXIT_CODES)]
    Explain {
        /// The object: gatewayinstance, gateway, httproute or service, a slash, and its name.
        #[arg(value_name = "KIND/NAME")]
        object: String,
        #[command(flatten)]
        access: Access,
        #[command(flatten)]
        form: Form,
    },
}

/// How to write what was found.
#[derive(clap::Args)]
struct Form {
    /// How to write what was found.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Whether to use colours; auto is on a terminal only.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    color: Color,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// A table for people.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version.
        Err(error) if !error.use_stderr() => {
            return match write(&error.render().to_string()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&format!("{error:#}")),
            };
        }
        Err(error) => return failed(&in_one_line(&error.render().to_string())),
    };
    match run(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(WRONG),
        Err(error) => failed(&chain(&error)),
    }
}

/// An error and what caused it; what a cause repeats is said once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn failed(why: &str) -> ExitCode {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "error: {}", safe::line(why));
    ExitCode::from(FAILED)
}

/// Says whether nothing is wrong.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Check {
            filename,
            output,
            color,
            local,
        } => {
            let loaded = files::load(&filename)?;
            let report = check::check(&loaded, local);
            let text = text::render(&report, color.is_on());
            write(&Form { output, color }.told(&report, text)?)?;
            Ok(report.ok)
        }
        Command::Status {
            access,
            all_namespaces,
            form,
        } => {
            let page = postern_pages::status(&access.ask(all_namespaces)?);
            form.write(&page, postern_pages::text::status(&page))?;
            Ok(page.ok)
        }
        Command::Routes {
            asked,
            access,
            form,
        } => {
            let asked = asked.map(|text| Asked::parse(&text)).transpose();
            let asked = asked.map_err(anyhow::Error::msg)?;
            let page = postern_pages::routes(&access.ask(false)?, asked);
            form.write(&page, postern_pages::text::routes(&page))?;
            Ok(page.ok)
        }
        Command::Explain {
            object,
            access,
            form,
        } => {
            let target = Target::parse(&object).map_err(anyhow::Error::msg)?;
            let page = postern_pages::explain(&access.ask(false)?, &target);
            let page = page.map_err(anyhow::Error::msg)?;
            form.write(&page, postern_pages::text::explain(&page))?;
            Ok(page.ok)
        }
    }
}

impl Form {
    /// A page as it was asked for; `text` is what people get.
    fn told(&self, page: &impl Serialize, text: String) -> anyhow::Result<String> {
        Ok(match self.output {
            Output::Text => text,
            Output::Json => {
                let json = serde_json::to_string_pretty(page).context("cannot write JSON")?;
                format!("{}\n", safe::document(&json))
            }
            Output::Yaml => {
                let yaml = serde_saphyr::to_string(page).context("cannot write YAML")?;
                safe::document(&yaml)
            }
        })
    }

    /// Writes a page whose text is coloured, with the colours or without.
    fn write(&self, page: &impl Serialize, text: String) -> anyhow::Result<()> {
        let choice = match self.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        let text = self.told(page, text)?;
        let mut out = AutoStream::new(io::stdout(), choice).lock();
        done(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }
}

/// Writes to the standard output. Whoever reads it may have read enough (`| head`).
fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    done(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn done(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to the standard output"),
    }
}

/// What the parser of the command line says, without its advice.
fn in_one_line(text: &str) -> String {
    let said: Vec<&str> = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect();
    let said = said.join(" ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    format!("{said}; see `kubectl postern --help`")
}

impl Color {
    fn is_on(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
                io::stdout().is_terminal()
                    && set("NO_COLOR").is_none()
                    && set("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}
