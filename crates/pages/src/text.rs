//! Pages for people: tables, and problems below one another. All that comes out of objects is made
//! harmless. Colours are written always; whoever prints strips them where no terminal shows them.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table};

use crate::explain::Explanation;
use crate::problem::{Problem, Step};
use crate::routes::{Entry, RoutesPage};
use crate::safe::line;
use crate::status::{GatewayRow, InstanceRow, State, StatusPage, Unknown};

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
pub(crate) const HEADING: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();

/// How many addresses a cell shows.
const MOST_ADDRESSES: usize = 2;

pub(crate) fn paint(style: Style, text: &str) -> String {
    match style == Style::new() {
        true => text.to_owned(),
        false => format!("{style}{text}{style:#}"),
    }
}

/// A table of rows, each in its style.
pub(crate) fn table(heads: &[&str], rows: &[(Style, Vec<String>)]) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heads);
    for (_, cells) in rows {
        table.add_row(cells.iter().map(|cell| line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let styles = std::iter::once(HEADING).chain(rows.iter().map(|(style, _)| *style));
    let mut text = String::new();
    for (row, style) in table.lines().zip(styles) {
        text.push_str(&paint(style, row.trim_end()));
        text.push('\n');
    }
    text
}

fn word(state: &State) -> String {
    match (&*state.status, &*state.reason) {
        ("True", _) => "yes".into(),
        (_, "") => "unknown".into(),
        ("False", reason) => format!("no: {reason}"),
        (_, reason) => format!("unknown: {reason}"),
    }
}

fn style(states: &[&State]) -> Style {
    match states {
        states if states.iter().all(|state| state.status == "True") => GOOD,
        states if states.iter().any(|state| state.status == "False") => BAD,
        _ => DOUBTFUL,
    }
}

/// Heads and cells that start with the namespace, where several are shown.
struct Columns {
    all: bool,
}

impl Columns {
    fn heads<'a>(&self, heads: &[&'a str]) -> Vec<&'a str> {
        let namespace = self.all.then_some("NAMESPACE");
        namespace.into_iter().chain(heads.iter().copied()).collect()
    }

    fn cells(&self, namespace: &str, cells: Vec<String>) -> Vec<String> {
        let namespace = self.all.then(|| namespace.to_owned());
        namespace.into_iter().chain(cells).collect()
    }
}

/// The page `status`.
#[must_use]
pub fn status(page: &StatusPage) -> String {
    let columns = Columns {
        all: page.namespace.is_none(),
    };
    let whose = match &page.namespace {
        Some(namespace) => format!("in the namespace {}", line(namespace)),
        None => "in any namespace".into(),
    };
    let is_unknown = |kind: &str| page.unknown.iter().any(|one| one.kind == kind);
    let mut text = String::new();
    if is_unknown("GatewayInstance") {
        text.push_str(&format!(
            "Which GatewayInstances there are {whose} is not known.\n"
        ));
    } else if page.instances.is_empty() {
        text.push_str(&format!("There is no GatewayInstance {whose}.\n"));
    } else {
        text.push_str(&instances(&columns, &page.instances));
        for instance in &page.instances {
            text.push_str(&grants(&columns, instance));
        }
    }
    text.push('\n');
    if is_unknown("Gateway") {
        text.push_str(&format!("Which Gateways there are {whose} is not known.\n"));
    } else if page.gateways.is_empty() {
        text.push_str(&format!("There is no Gateway of ours {whose}.\n"));
    } else {
        text.push_str(&gateways(&columns, &page.gateways));
    }
    text.push('\n');
    text.push_str(&problems(&page.problems));
    text.push_str(&unknown(&page.unknown));
    text
}

fn instances(columns: &Columns, instances: &[InstanceRow]) -> String {
    let heads = columns.heads(&["INSTANCE", "ACCEPTED", "READY", "EXPOSURE", "PODS"]);
    let rows = instances.iter().map(|instance| {
        let exposure = match instance.leaving.is_empty() {
            true => instance.exposure.clone(),
            false => format!(
                "{} (still {})",
                instance.exposure,
                instance.leaving.join(", ")
            ),
        };
        let pods: Vec<String> = instance
            .pods
            .iter()
            .map(|pods| format!("{} {}/{}", pods.part, pods.available, pods.wanted))
            .collect();
        let pods = match pods.is_empty() {
            true => "-".into(),
            false => pods.join(", "),
        };
        let cells = vec![
            instance.name.clone(),
            word(&instance.accepted),
            word(&instance.ready),
            exposure,
            pods,
        ];
        (
            style(&[&instance.accepted, &instance.ready]),
            columns.cells(&instance.namespace, cells),
        )
    });
    table(&heads, &rows.collect::<Vec<_>>())
}

/// What an instance may, and what it uses of it.
fn grants(columns: &Columns, instance: &InstanceRow) -> String {
    let Some(granted) = &instance.granted else {
        return String::new();
    };
    let list = |items: &[String], none: &str| match items.is_empty() {
        true => none.to_owned(),
        false => items.join(", "),
    };
    let name = match columns.all {
        true => format!("{}/{}", instance.namespace, instance.name),
        false => instance.name.clone(),
    };
    let exposures: Vec<String> = granted
        .exposures
        .iter()
        .map(|kind| format!("{kind:?}"))
        .collect();
    let quotas: Vec<String> = instance
        .quotas
        .iter()
        .map(|quota| {
            let used = quota.used.map_or("?".into(), |used| used.to_string());
            match quota.most {
                Some(most) => format!("{} {used} of {most}", quota.of),
                None => format!("{} {used}", quota.of),
            }
        })
        .collect();
    let mut text = format!(
        "\n{}\n",
        paint(
            HEADING,
            &line(&format!("Granted to {name} by {}", granted.by.join(", ")))
        )
    );
    for (what, said) in [
        ("hostnames", list(&granted.hostnames, "none")),
        ("exposures", list(&exposures, "none")),
        ("pools", list(&granted.address_pools, "any")),
        ("in use", list(&quotas, "unknown")),
    ] {
        text.push_str(&format!("  {what:<10} {}\n", line(&said)));
    }
    text
}

fn gateways(columns: &Columns, gateways: &[GatewayRow]) -> String {
    let heads = columns.heads(&[
        "GATEWAY",
        "LISTENER",
        "HOST",
        "PORT",
        "ROUTES",
        "PROGRAMMED",
        "ADDRESS",
    ]);
    let mut rows = Vec::new();
    for gateway in gateways {
        if gateway.listeners.is_empty() {
            let cells = vec![
                gateway.name.clone(),
                "-".into(),
                "-".into(),
                "-".into(),
                "-".into(),
                word(&gateway.programmed),
                "-".into(),
            ];
            let cells = columns.cells(&gateway.namespace, cells);
            rows.push((style(&[&gateway.programmed]), cells));
        }
        for listener in &gateway.listeners {
            // A listener of a Gateway that is refused, or not reached, is not programmed either.
            let programmed = match &*listener.programmed.status {
                "True" if gateway.programmed.status == "False" => &gateway.programmed,
                "Unknown" => &gateway.programmed,
                _ => &listener.programmed,
            };
            let more = listener.addresses.len().saturating_sub(MOST_ADDRESSES);
            let mut addresses = listener.addresses.clone();
            addresses.truncate(MOST_ADDRESSES);
            let mut address = addresses.join(", ");
            if more > 0 {
                address.push_str(&format!(", {more} more"));
            }
            let cells = vec![
                gateway.name.clone(),
                listener.name.clone(),
                listener.host.clone(),
                format!("{} {}", listener.port, listener.protocol),
                listener.routes.to_string(),
                word(programmed),
                if address.is_empty() {
                    "-".into()
                } else {
                    address
                },
            ];
            rows.push((
                style(&[programmed]),
                columns.cells(&gateway.namespace, cells),
            ));
        }
    }
    table(&heads, &rows)
}

/// The page `routes`.
#[must_use]
pub fn routes(page: &RoutesPage) -> String {
    let mut text = String::new();
    if page.entries.is_empty() {
        let what = match &page.asked {
            Some(asked) => format!(
                "Nobody is known to serve {}{}.",
                asked.host,
                asked.path.as_deref().unwrap_or_default()
            ),
            None => "No route is known to be served.".into(),
        };
        text.push_str(&format!("{}\n", line(&what)));
    } else {
        text.push_str(&entries(&page.entries));
    }
    if let Some(why) = page.behind {
        let said =
            format!("This is as it is written now; Envoys may still hold what was before ({why}).");
        text.push_str(&format!("\n{}\n", paint(DOUBTFUL, &said)));
    }
    text.push('\n');
    text.push_str(&problems(&page.problems));
    text.push_str(&unknown(&page.unknown));
    text
}

/// Entries of route tables, in the order in which Envoy looks.
fn entries(entries: &[Entry]) -> String {
    let heads = [
        "GATEWAY",
        "PORT",
        "HOST",
        "MATCH",
        "HTTPROUTE",
        "RULE",
        "SERVED BY",
    ];
    let rows = entries.iter().map(|entry| {
        let action = match entry.shadowed_by.is_empty() {
            true => entry.action.clone(),
            false => format!("never: {} takes all of its requests", entry.shadowed_by),
        };
        let style = if entry.serves { GOOD } else { BAD };
        let cells = vec![
            entry.gateway.clone(),
            entry.port.to_string(),
            entry.host.clone(),
            entry.matches.clone(),
            entry.route.clone(),
            entry.rule.clone(),
            action,
        ];
        (style, cells)
    });
    table(&heads, &rows.collect::<Vec<_>>())
}

/// The page `explain`.
#[must_use]
pub fn explain(page: &Explanation) -> String {
    let title = format!("{} {}/{}", page.kind, page.namespace, page.name);
    let mut text = format!("{}\n\n", paint(HEADING, &line(&title)));
    let rows = page.way.iter().map(|link| {
        let style = match link.good {
            Some(true) => GOOD,
            Some(false) => BAD,
            None => DOUBTFUL,
        };
        (
            style,
            vec![link.what.clone(), link.name.clone(), link.state.clone()],
        )
    });
    text.push_str(&table(
        &["BY WAY OF", "NAME", "STATE"],
        &rows.collect::<Vec<_>>(),
    ));
    if !page.entries.is_empty() {
        text.push('\n');
        text.push_str(&entries(&page.entries));
    }
    if !page.envoy.is_empty() {
        let rows = page.envoy.iter().map(|resource| {
            let cells = vec![
                resource.kind.to_owned(),
                resource.name.clone(),
                word(&resource.acknowledged),
            ];
            (style(&[&resource.acknowledged]), cells)
        });
        text.push('\n');
        let heads = ["ENVOY RESOURCE", "NAME", "ACKNOWLEDGED"];
        text.push_str(&table(&heads, &rows.collect::<Vec<_>>()));
    }
    text.push('\n');
    text.push_str(&problems(&page.problems));
    text.push_str(&unknown(&page.unknown));
    text
}

/// What is wrong, one below the other; or that nothing is.
pub(crate) fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return format!("{}\n", paint(GOOD, "Nothing is known to be wrong."));
    }
    let count = match problems.len() {
        1 => "1 problem".into(),
        count => format!("{count} problems"),
    };
    let mut text = format!("{}\n", paint(HEADING, &count));
    for problem in problems {
        let mut title = match (&*problem.kind, &*problem.namespace) {
            ("", _) => "Platform".into(),
            (kind, "") => format!("{kind} {}", problem.name),
            (kind, namespace) => format!("{kind} {namespace}/{}", problem.name),
        };
        if !problem.about.is_empty() {
            title.push_str(&format!(" {}", problem.about));
        }
        title.push_str(&match &*problem.condition {
            "" => format!(": {}", problem.reason),
            condition => format!(": {condition} {}", problem.reason),
        });
        text.push_str(&format!("\n{}\n", paint(BAD, &line(&title))));
        text.push_str(&format!("  cause  {}\n", line(&problem.cause)));
        for part in problem.yaml.lines() {
            text.push_str(&format!("         {}\n", line(part)));
        }
        let mut label = "next ";
        for step in &problem.next {
            text.push_str(&next(label, step));
            label = "     ";
        }
    }
    text
}

fn next(label: &str, step: &Step) -> String {
    let admin = match step.by {
        "admin" => "(admin) ",
        _ => "",
    };
    let mut text = format!("  {label}  {admin}{}\n", line(&step.what));
    if !step.run.is_empty() {
        let run = paint(FAINT, &format!("$ {}", line(&step.run)));
        text.push_str(&format!("           {run}\n"));
    }
    text
}

/// What is not known. What tenants seldom may read, and seldom need, takes one line.
pub(crate) fn unknown(unknown: &[Unknown]) -> String {
    let (usual, grave): (Vec<_>, Vec<_>) = unknown.iter().partition(|one| one.usual);
    let mut text = String::new();
    if !grave.is_empty() {
        text.push_str(&format!("\n{}\n", paint(HEADING, "Not known to you")));
    }
    for one in grave {
        let said = format!("{}: {} ({})", one.kind, one.so, one.why);
        text.push_str(&format!("  {}\n", line(&said)));
    }
    if !usual.is_empty() {
        let kinds: Vec<&str> = usual.iter().map(|one| one.kind).collect();
        let said = format!("Without {}, which you may not read.", kinds.join(", "));
        text.push_str(&format!("\n{}\n", paint(FAINT, &said)));
    }
    text
}
