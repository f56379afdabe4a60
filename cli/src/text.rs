//! What was found, for people: files, a table with details, a summary.

use std::fmt::Write;

use crate::report::{Condition, FileFinding, Instance, Item, Report};
use postern_pages::safe::line;

/// How wide a column gets at most.
const WIDEST: usize = 48;
/// The most characters of a name that are shown; a valid one has no more than 253, and its
/// namespace 63.
const LONGEST_NAME: usize = 320;

#[derive(Clone, Copy)]
enum Style {
    Good = 32,
    Bad = 31,
    Doubtful = 33,
    Heading = 1,
    Faint = 2,
}

/// A row of the table, with what stands beneath it.
struct Row {
    kind: String,
    name: String,
    style: Style,
    result: String,
    details: Vec<Detail>,
}

/// A heading, and lines beneath it.
struct Detail {
    heading: String,
    lines: Vec<String>,
}

/// The text of a report. All that comes out of objects is made harmless.
pub fn render(report: &Report, colours: bool) -> String {
    let mut page = Page {
        text: String::new(),
        colours,
    };
    page.files(&report.files);
    let rows = report.instances.iter().map(instance);
    let rows: Vec<Row> = rows.chain(report.objects.iter().map(object)).collect();
    page.table(&rows);
    page.absent(report);
    page.summary(report);
    page.text
}

fn instance(instance: &Instance) -> Row {
    let mut details = Vec::new();
    if !instance.accepted {
        details.push(Detail {
            heading: String::new(),
            lines: message(&instance.message, instance.reason.ends_with("NotGranted")),
        });
    }
    details.extend(
        instance
            .problems
            .iter()
            .map(|problem| problem_detail(problem)),
    );
    if instance.as_if_granted {
        details.push(problem_detail(
            "All else is told as if an admin had applied a grant.",
        ));
    }
    let (style, result) = match (instance.accepted, instance.problems.is_empty()) {
        (true, true) => (Style::Good, "accepted".into()),
        (true, false) => (Style::Bad, "accepted, but something is wrong".into()),
        (false, _) => (Style::Bad, format!("refused: {}", line(&instance.reason))),
    };
    Row {
        kind: "GatewayInstance".into(),
        name: name(&instance.namespace, &instance.name),
        style,
        result,
        details,
    }
}

/// A message as lines. Only the grant at the end of one may take several: no text of a tenant may
/// pose as a line of ours.
fn message(message: &str, ends_in_yaml: bool) -> Vec<String> {
    let yaml = message.rfind("\napiVersion: ").filter(|_| ends_in_yaml);
    let (text, yaml) = message.split_at(yaml.unwrap_or(message.len()));
    let yaml = yaml.lines().filter(|text| !text.is_empty());
    std::iter::once(line(text))
        .chain(yaml.map(|text| format!("  {}", line(text))))
        .collect()
}

fn problem_detail(problem: &str) -> Detail {
    Detail {
        heading: String::new(),
        lines: vec![line(problem)],
    }
}

fn object(item: &Item) -> Row {
    let mut details: Vec<Detail> = item
        .problems
        .iter()
        .map(|text| problem_detail(text))
        .collect();
    let told = item.conditions.iter().filter(|condition| condition.wrong);
    details.extend(
        told.filter(|condition| !is_repeated(condition, item))
            .map(|condition| {
                let about = match condition.about.is_empty() {
                    true => String::new(),
                    false => format!("{}: ", line(&condition.about)),
                };
                Detail {
                    heading: format!(
                        "{about}{}={} {}",
                        line(&condition.kind),
                        line(&condition.status),
                        line(&condition.reason)
                    ),
                    lines: one_a_field(&condition.message),
                }
            }),
    );
    let note = match item.note.is_empty() {
        true => String::new(),
        false => format!(" ({})", line(&item.note)),
    };
    let (style, result) = match (item.ours, item.is_wrong()) {
        (_, true) => (Style::Bad, "wrong"),
        (true, false) => (Style::Good, "ok"),
        (false, false) => (Style::Faint, "not ours"),
    };
    Row {
        kind: line(&item.kind),
        name: name(&item.namespace, &item.name),
        style,
        result: format!("{result}{note}"),
        details,
    }
}

/// Whether another wrong condition says the same: that nothing is served follows from why it is
/// not, and rules that answer 500 are told of by `PartiallyInvalid`.
fn is_repeated(condition: &Condition, item: &Item) -> bool {
    let mut others = item
        .conditions
        .iter()
        .filter(|other| other.wrong && *other != condition);
    let whole = condition.about.is_empty();
    match &*condition.kind {
        "Programmed" => others.any(|other| whole || other.about == condition.about),
        "Accepted" if condition.status == "True" => {
            others.any(|other| other.kind == "PartiallyInvalid" && other.about == condition.about)
        }
        _ => false,
    }
}

/// The problems of a message, each on a line: every one starts with its field.
fn one_a_field(message: &str) -> Vec<String> {
    let message = line(message);
    let mut parts = message.split("; spec.");
    let first = parts.next().map(ToOwned::to_owned);
    let others = parts.map(|part| format!("spec.{part}"));
    first.into_iter().chain(others).collect()
}

/// A name, such that it cannot pose as two columns: files may hold names that no API server takes.
fn name(namespace: &str, name: &str) -> String {
    let text = match namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}/{name}"),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-./".contains(c);
    let mut shown: String = line(&text).chars().take(LONGEST_NAME).collect();
    if text.chars().count() > LONGEST_NAME {
        shown.push('…');
    }
    match text.chars().all(is_plain) {
        true => shown,
        false => format!("\"{shown}\""),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

struct Page {
    text: String,
    colours: bool,
}

impl Page {
    fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn paint(&self, style: Style, text: &str) -> String {
        match self.colours {
            true => format!("\u{1b}[{}m{text}\u{1b}[0m", style as u8),
            false => text.into(),
        }
    }

    fn files(&mut self, files: &[FileFinding]) {
        let mut any = false;
        for file in files.iter().filter(|file| file.severity != "note") {
            let style = match file.severity {
                "error" => Style::Bad,
                _ => Style::Doubtful,
            };
            let mut text = line(&file.path);
            // Writing to a String cannot fail.
            if let Some(number) = file.line {
                let _ = write!(text, ":{number}");
            }
            let _ = write!(text, ": {}: ", self.paint(style, file.severity));
            for part in file
                .object
                .iter()
                .chain([&file.field])
                .filter(|part| !part.is_empty())
            {
                let _ = write!(text, "{}: ", line(part));
            }
            text.push_str(&line(&file.message));
            if !file.advice.is_empty() {
                let _ = write!(text, "; {}", line(&file.advice));
            }
            self.say(&text);
            any = true;
        }
        if any {
            self.say("");
        }
    }

    fn table(&mut self, rows: &[Row]) {
        if rows.is_empty() {
            self.say("There is nothing for Postern in these files.");
            self.say("");
            return;
        }
        let width = |least: &str, of: fn(&Row) -> &String| {
            let longest = rows
                .iter()
                .map(|row| of(row).chars().count())
                .max()
                .unwrap_or(0);
            longest.min(WIDEST).max(least.len())
        };
        let (kinds, names) = (
            width("KIND", |row| &row.kind),
            width("NAME", |row| &row.name),
        );
        let heading = format!("{:kinds$}  {:names$}  RESULT", "KIND", "NAME");
        let heading = self.paint(Style::Heading, &heading);
        self.say(&heading);
        for row in rows {
            let result = self.paint(row.style, &row.result);
            self.say(&format!(
                "{:kinds$}  {:names$}  {result}",
                row.kind, row.name
            ));
            for Detail { heading, lines } in &row.details {
                let mut indent = "    ";
                if !heading.is_empty() {
                    let heading = self.paint(row.style, heading);
                    self.say(&format!("{indent}{heading}"));
                    indent = "      ";
                }
                for text in lines {
                    self.say(&format!("{indent}{text}"));
                }
            }
        }
        self.say("");
    }

    fn absent(&mut self, report: &Report) {
        if report.absent.is_empty() {
            return;
        }
        let heading = self.paint(Style::Heading, "Named, but not in these files:");
        self.say(&heading);
        for absent in &report.absent {
            let by: Vec<String> = absent.named_by.iter().map(|by| line(by)).collect();
            self.say(&format!(
                "    {} {} (by {})",
                line(&absent.kind),
                name(&absent.namespace, &absent.name),
                by.join(", ")
            ));
        }
        self.say("If it is on the cluster, name a file of it too (-f).");
        self.say("");
    }

    fn summary(&mut self, report: &Report) {
        let wrong = report
            .instances
            .iter()
            .filter(|instance| instance.is_wrong())
            .count()
            + report.objects.iter().filter(|item| item.is_wrong()).count();
        let all = report.instances.len() + report.objects.len();
        let of = |severity| {
            report
                .files
                .iter()
                .filter(|file| file.severity == severity)
                .count()
        };
        let (errors, warnings) = (of("error"), of("warning"));
        let mut text = match wrong {
            0 => format!("{}, none of them wrong", count(all, "object", "objects")),
            _ => format!("{}, {wrong} of them wrong", count(all, "object", "objects")),
        };
        if errors + warnings > 0 {
            let _ = write!(
                text,
                "; {} and {} in files",
                count(errors, "error", "errors"),
                count(warnings, "warning", "warnings")
            );
        }
        text.push('.');
        if errors > 0 {
            text.push_str(" Files with errors are not taken, so what they hold is missing here.");
        }
        let text = self.paint(if report.ok { Style::Good } else { Style::Bad }, &text);
        self.say(&text);
        let known = "Not known from files: whether an Envoy serves it (Programmed, Ready).";
        let known = self.paint(Style::Faint, known);
        self.say(&known);
    }
}
