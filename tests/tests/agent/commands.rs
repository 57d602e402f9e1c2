//! Every command of the CLI, as a table and as JSON, and its exit codes.

use serde_json::{Value, json};

use crate::stage::{self, PATIENCE, Stage, pool};
use xlb_tests::lab::{Topology, agent_binary, wait_until};

/// As the usual configuration, with a pool `spare` that has no service.
fn with_spare(topology: &Topology) -> String {
    let spare = [stage::at(&topology.backends[0], 8081)];
    stage::usual(topology) + &pool("spare", &spare, "")
}

#[test]
fn every_command_answers_people_and_programs() {
    let mut stage = Stage::prepare("commands", 2, with_spare);
    stage.agent.start_again();
    stage.wait_until_well();
    by_environment(&stage);
    bash_completes(&stage);
    questions(&stage);
    changes(&stage);
    a_drain_that_is_waited_for(&stage);
    refusals(&stage);
    slips_of_the_finger(&stage);
    what_is_not_well(&mut stage);
    no_agent(&mut stage);
}

/// Where the agent is can also be said by the environment.
fn by_environment(stage: &Stage) {
    let mut command = stage.topology.balancer.ns.command(agent_binary());
    command
        .env("XLB_SOCKET", stage.agent.socket_path())
        .args(["status", "-o", "json"]);
    let status = stage::run(&mut command).json();
    assert_eq!(status["pid"], stage.agent.pid());
    let mut command = stage.topology.balancer.ns.command(agent_binary());
    command
        .env("XLB_PIN_DIR", stage.agent.pin_directory())
        .arg("unload");
    let holder = format!("pid {}", stage.agent.pid());
    stage::run(&mut command).refused_with(&["another agent", &holder]);
}

/// What bash offers after a line, by the function that the script installs.
fn bash_completes(stage: &Stage) {
    const OFFER: &str = r#"
source <(xlb-agent completions bash)
COMP_WORDS=($LINE "$WORD") COMP_CWORD=$(($(wc -w <<<"$LINE"))) COMP_TYPE=9
function=$(complete -p xlb-agent | grep -o -- '-F [^ ]*' | cut -d' ' -f2)
$function xlb-agent "$WORD" ""
printf '%s\n' "${COMPREPLY[@]}"
"#;
    let offer = |line: &str, word: &str| {
        let mut bash = stage.topology.balancer.ns.command("bash");
        let binary = agent_binary();
        let directory = binary.parent().expect("a binary in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        bash.args(["--norc", "-c", OFFER])
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("XLB_SOCKET", stage.agent.socket_path())
            .env("LINE", line)
            .env("WORD", word);
        stage::run(&mut bash)
    };
    for (line, word, expected) in [
        ("xlb-agent", "stat", "status"),
        ("xlb-agent backend", "dr", "drain"),
        ("xlb-agent status", "--outp", "--output"),
        ("xlb-agent health", "", "web"),
        ("xlb-agent service show", "ec", "echo"),
        ("xlb-agent backend drain", "spa", "spare"),
        (
            "xlb-agent backend drain web",
            "10.80.1.11",
            "10.80.1.11:8080",
        ),
    ] {
        let run = offer(line, word);
        let offered: Vec<&str> = run.out.lines().map(str::trim).collect();
        assert!(offered.contains(&expected), "{line} {word}: {run:?}");
    }
}

fn questions(stage: &Stage) {
    let file = stage::usual(&stage.topology);
    let file = stage.topology.lab.write_file("good.toml", &file);
    let check = format!("check {}", file.display());
    let cases: [(&str, &str, &str, Value); 11] = [
        ("status", "health   up", "/health", json!("up")),
        // Three pools of the default size.
        (
            "status",
            "RING          49.1k   98.3k",
            "/maps/10/used",
            json!(49_143),
        ),
        ("health", "L4OK", "/0/reason", json!("L4OK")),
        ("health web", "L4OK", "/1/service", json!("web")),
        ("backend list", "10.80.1.12:7007", "/0/pool", json!("echo")),
        (
            "backend list web",
            "10.80.1.11:8080",
            "/1/state",
            json!("up"),
        ),
        ("service list", "192.0.2.10:80/tcp", "/1/name", json!("web")),
        ("service list", "192.0.2.10:7/udp", "/0/port", json!(7)),
        ("service show web", "2 of 2 get new", "/accepting", json!(2)),
        ("version", "xlb-agent 0.", "/version", json!("0.1.0")),
        (
            &check,
            "2 services, 2 pools, 4 backends",
            "/ok",
            json!(true),
        ),
    ];
    for (line, words, pointer, value) in cases {
        for form in ["", " -o table"] {
            let table = stage.cli(&format!("{line}{form}"));
            assert_eq!(
                (table.code, table.err.as_str()),
                (0, ""),
                "{line}: {table:?}"
            );
            assert!(table.out.contains(words), "{line}: {}", table.out);
        }
        let wide = stage.cli(&format!("{line} -o wide"));
        assert_eq!((wide.code, wide.err.as_str()), (0, ""), "{line}");
        assert!(!wide.out.contains('\u{1b}'), "{line}: {}", wide.out);
        let yaml = stage.cli(&format!("{line} -o yaml"));
        assert_eq!((yaml.code, yaml.err.as_str()), (0, ""), "{line}");
        let read: Value = serde_norway::from_str(&yaml.out).expect("YAML");
        assert_eq!(read.pointer(pointer), Some(&value), "{line}: {}", yaml.out);
        let answer = stage.cli(&format!("{line} -o json"));
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{line}");
        let found = answer.json().pointer(pointer).cloned();
        assert_eq!(found, Some(value), "{line}: {}", answer.out);
    }
}

/// A line, what it says it has done, and how that leaves the backend.
const CHANGES: &str = "\
backend add web AT --weight 2 => added AT to pool `web` with weight 2 => up 2
backend weight web AT 3 => weight of AT in pool `web` is 3 => up 3
backend drain web AT --timeout 1h => draining AT in pool `web` for at most 3600 s => draining 3
backend undrain web AT => ended the drain of AT in pool `web` => up 3
backend disable web AT => disabled AT in pool `web` => disabled 3
backend enable web AT => enabled AT in pool `web` => up 3
backend enable web AT => backend AT of pool `web` was enabled already => up 3
reload => FILE is in force => up 3
backend remove web AT --drop => removed AT from pool `web` =>
service add more --vip 192.0.2.10 --port 81 --forward dnat --pool spare => added service `more` in front of pool `spare` =>
service remove more => removed service `more` =>";

/// Each change, first as people ask for it, then as programs do; the second round finds the stage
/// as the first one found it.
fn changes(stage: &Stage) {
    const AT: &str = "10.80.1.12:8081";
    let endpoint = AT.parse().expect("an address");
    let file = stage.agent.config_path().display().to_string();
    let table = CHANGES.replace("AT", AT).replace("FILE", &file);
    for form in ["table", "json"] {
        for [line, done, left] in rows(&table) {
            let run = stage.cli(&format!("{line} -o {form}"));
            assert_eq!(run.code, 0, "{line}: {run:?}");
            let (said, warned) = if form == "table" {
                (run.out.trim_end().to_owned(), run.err.clone())
            } else {
                let Value::Array(said) = &run.json()["done"] else {
                    panic!("{line}: {run:?}");
                };
                let said: Vec<&str> = said.iter().filter_map(Value::as_str).collect();
                let warnings = run.json()["warnings"].as_array().cloned();
                let warned = warnings.into_iter().flatten().map(|w| w.to_string());
                (said.join("\n"), warned.collect())
            };
            assert_eq!(said, done, "{line}");
            let odd = if line == "reload" {
                "no service uses pool `spare`"
            } else {
                ""
            };
            assert_eq!(warned.is_empty(), odd.is_empty(), "{line}: {warned}");
            assert!(warned.contains(odd), "{line}: {warned}");
            if !left.is_empty() {
                wait_until(&format!("{line} leaves {left}"), PATIENCE, || {
                    let row = stage.backend("web", endpoint);
                    let state = row["state"].as_str().unwrap_or_default();
                    format!("{state} {}", row["weight"]) == left
                });
            }
        }
        let services = stage.cli("service list -o json").json();
        assert_eq!(services.as_array().map(Vec::len), Some(2), "{services}");
    }
}

/// The lines of a table, whose columns stand between arrows.
fn rows<const N: usize>(table: &str) -> Vec<[&str; N]> {
    let cells = |line| -> Vec<&str> { str::split(line, "=>").map(str::trim).collect() };
    table
        .lines()
        .map(|line| cells(line).try_into().expect("as many columns as asked"))
        .collect()
}

fn a_drain_that_is_waited_for(stage: &Stage) {
    let at = stage.web(1);
    let run = stage.cli(&format!("backend drain web {at} --wait --timeout 1s"));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.err.ends_with(&format!("{at} in pool web: drained\n")),
        "{run:?}"
    );
    let run = stage.cli(&format!("backend undrain web {at}"));
    assert_eq!(run.code, 0, "{run:?}");
    stage.wait_for_state(at, "up");
}

const REFUSED: &str = "\
health wbe => there is no service `wbe`; did you mean `web`?
service show wbe => there is no service `wbe`; did you mean `web`?
service remove wbe => there is no service `wbe`; did you mean `web`?
backend list spre => there is no pool or service `spre`; did you mean `spare`?
backend drain wbe 10.80.1.11:8080 => did you mean `web`?
backend add wbe 10.80.1.11:8080 => did you mean `web`?
backend drain web 10.80.1.21:8080 => pool `web` has no backend 10.80.1.21:8080; did you mean `10.80.1.11:8080`?
backend weight web 10.80.1.11:80 2 => did you mean `10.80.1.11:8080`?
backend remove web 192.168.7.7:1 => use one of `10.80.1.11:8080`, `10.80.1.12:8080`
backend add web 10.80.1.11:8080 => in pool `web` already; `xlb-agent backend weight` changes its weight
backend add web [fd80::7]:8080 => IPv
service add web --vip 192.0.2.10 --port 81 --forward dnat --pool spare => service `web` exists already; choose another name
service add more --vip 192.0.2.10 --port 80 --forward dnat --pool spare => `web`
service add more --vip 192.0.2.10 --port 81 --forward dnat --pool web => 10.80.1.11:8080
service add more --vip 192.0.2.10 --port 81 --forward dnat --pool spate => did you mean `spare`?";

fn refusals(stage: &Stage) {
    let before = stage.status();
    for [line, words] in rows(REFUSED) {
        for form in ["table", "json"] {
            let run = stage.cli(&format!("{line} -o {form}"));
            run.refused_with(&["error: ", words]);
        }
    }
    let after = stage.status();
    assert_eq!(before["config_revision"], after["config_revision"]);
    assert_eq!(after["changes"], json!([]));
}

const SLIPS: &str = "\
 => Usage:
stauts => a similar subcommand exists: 'status'
status --outptu json => a similar argument exists: '--output'
status -o yml => [possible values: table, wide, json, yaml]
health web echo => unexpected argument 'echo'
backend drain web => <ADDR:PORT>
backend drain web 10.80.1.11 => `10.0.1.7:8080`
backend drain web 10.80.1.11:8080 --timeout 5 => `30s`
backend weight web 10.80.1.11:8080 70000 => 65535
service add more --vip 192.0.2.10 --port 0 --forward dnat --pool spare => write one from 1 to 65535
service add more --vip web.example --port 1 --forward dnat --pool spare => neither an address nor a prefix";

fn slips_of_the_finger(stage: &Stage) {
    for [line, words] in rows(SLIPS) {
        let run = stage.cli(line);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{line}: {run:?}");
        assert!(run.err.contains(words), "{line}: {run:?}");
    }
}

fn what_is_not_well(stage: &mut Stage) {
    stage.backends[0].kill9();
    stage.wait_for_state(stage.web(0), "down");
    for form in ["table", "json"] {
        let run = stage.cli(&format!("status -o {form}"));
        assert_eq!((run.code, run.err.as_str()), (1, ""), "{run:?}");
    }
    let status = stage.status();
    assert_eq!(status["health"], "degraded");
    assert_eq!(
        status["services_by_health"],
        json!({ "degraded": 2 }),
        "{status}"
    );
    let backends = &status["backends_by_state"];
    assert_eq!((&backends["down"], &backends["up"]), (&json!(2), &json!(3)));
    // Only the status judges.
    assert_eq!(stage.cli("health").code, 0);
    stage.backends[0].start_again();
    stage.wait_until_well();
}

fn no_agent(stage: &mut Stage) {
    stage.agent.stop();
    let socket = stage.agent.socket_path().display().to_string();
    for form in ["table", "json"] {
        let run = stage.cli(&format!("status -o {form}"));
        assert_eq!(run.code, 3, "{run:?}");
        // The maps are still there.
        for words in ["192.0.2.10:80", "eth0", "not-for-service"] {
            assert!(run.out.contains(words), "`{words}` is missing in {run:?}");
        }
        assert!(
            run.err.contains("no agent answers at") && run.err.contains(&socket),
            "{run:?}"
        );
    }
    for line in [
        "health",
        "backend list",
        "backend drain web 10.80.1.11:8080",
        "service list",
        "service show web",
        "reload",
    ] {
        stage
            .cli(line)
            .refused_with(&["no agent answers at", &socket]);
    }
}
