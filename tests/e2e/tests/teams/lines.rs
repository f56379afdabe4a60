//! The lines that `make run` prints, run by a shell that knows nothing else.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::world::World;

/// How often each version of the shop is asked for.
const REQUESTS: usize = 300;

pub fn run(world: &World) -> Result<()> {
    let kubectl = world.cluster().kubectl_command();
    let kubectl = kubectl.get_program().to_str().context("kubectl's path")?;
    let lines = world.demo.lines(kubectl);
    let mut seen = 0;
    for (about, line) in &lines {
        let said = shell(line)?;
        let right = match *about {
            "team-a: nine of ten go to shop-v1" => {
                split(line)?;
                said.contains("\"backend\":\"shop-v")
            }
            "team-a: testers get shop-v2" => said.contains("\"backend\":\"shop-v2\""),
            "team-a: a redirect" => said.trim() == "301 http://shop.team-a.example/sale",
            "team-a: HTTPS" => said.contains("\"backend\":\"shop-v"),
            "team-b: reading is open" => {
                said.contains("\"backend\":\"api\"") && said.contains("\"path\":\"/v1/items\"")
            }
            "team-b: writing needs a header" => {
                // Without it: no route, so no backend.
                let without = shell(&line.replace("-H 'x-team: b' ", "-w '%{http_code}' "))?;
                ensure!(without == "404", "without the header: {without}");
                said.contains("\"method\":\"POST\"")
            }
            "team-b: a query parameter" => {
                said.contains("\"backend\":\"api\"") && said.contains("engine=new")
            }
            "what team-a sees" => {
                [
                    "gatewayinstance.postern.dev/default",
                    "gateway.gateway.networking.k8s.io/default",
                ]
                .iter()
                .all(|name| said.contains(name))
                    && said.contains("httproute.gateway.networking.k8s.io/shop")
            }
            _ => false,
        };
        ensure!(right, "{about}: {line}\nsaid: {said}");
        seen += 1;
    }
    ensure!(seen >= 7, "{seen} lines");
    Ok(())
}

/// Nine of ten requests go to the first version: 270 of 300, give or take five standard deviations.
fn split(line: &str) -> Result<()> {
    let all = shell(&format!("for i in $(seq {REQUESTS}); do {line}; done"))?;
    let first = all.matches("\"backend\":\"shop-v1\"").count();
    let second = all.matches("\"backend\":\"shop-v2\"").count();
    ensure!(
        first + second == REQUESTS,
        "{first} and {second} of {REQUESTS}"
    );
    ensure!(
        (244..=296).contains(&first),
        "shop-v1 got {first} of {REQUESTS}"
    );
    Ok(())
}

fn shell(line: &str) -> Result<String> {
    let home = tempfile::tempdir()?;
    let output = Command::new("env")
        .arg("-i")
        .arg("PATH=/usr/local/bin:/usr/bin:/bin")
        .arg(format!("HOME={}", home.path().display()))
        .args(["sh", "-c", line])
        .output()?;
    ensure!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
