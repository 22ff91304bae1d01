//! Compares Rouse with Kamailio on the same work, in turn, on this machine.

mod account;
mod load;
mod message;
mod net;
mod push;
mod scenario;
mod server;
mod soak;
mod table;
mod tally;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use scenario::{ALL, Effort, Scenario, Size};
use server::{Kind, Places};
use table::Results;

const USAGE: &str =
    "load --rouse PROGRAM --kamailio FILE.cfg [--only NAME,NAME] [--server rouse|kamailio]
     [--rounds N] [--warm N] [--heavy N] [--quick] [--out FILE.json] [--table FILE.md]

Runs each scenario on both servers in turn (A B A B ...), and prints the medians of the rounds that
are no warm-up, and their ratio. A ratio below 1 is in Rouse's favour. What takes long is done --heavy
times, without warm-up. --table writes between the lines `<!-- table -->` and `<!-- end -->`.";

struct Options {
    places: Places,
    only: Vec<String>,
    servers: Vec<Kind>,
    rounds: usize,
    warm: usize,
    heavy: usize,
    size: Size,
    out: Option<PathBuf>,
    table: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = options()?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    fs::create_dir_all(&options.places.work)?;
    for (what, file) in [
        ("the gateway", &options.places.rouse),
        ("Kamailio's configuration", &options.places.kamailio),
    ] {
        if !file.exists() {
            bail!("{what} is not there: {}", file.display());
        }
    }
    if options.servers.contains(&Kind::Kamailio) {
        for program in ["kamailio", "sqlite3"] {
            let found = std::process::Command::new(program)
                .arg("--version")
                .output();
            found.with_context(|| format!("{program} is missing; `make bench` installs it"))?;
        }
    }
    eprintln!("files and logs: {}", options.places.work.display());
    server::certificate(&options.places.work)?;
    let mut results = Results::default();
    let begun = Instant::now();
    for scenario in chosen(&options)? {
        let (rounds, warm) = match scenario.effort {
            Effort::Rounds => (options.rounds, options.warm),
            Effort::Heavy => (options.heavy, 0),
            Effort::Alone => (1, 0),
        };
        for round in 0..rounds + warm {
            for kind in &options.servers {
                let is_warm = round < warm;
                let name = (scenario.name, kind.name());
                let minutes = begun.elapsed().as_secs_f64() / 60.0;
                let what = if is_warm { "warm-up" } else { "round" };
                eprintln!(
                    "== {minutes:4.1} min: {} on {}, {what} {} of {}",
                    name.0,
                    name.1,
                    round + 1,
                    rounds + warm
                );
                match (scenario.run)(&options.places, *kind, options.size) {
                    Ok(figures) => {
                        for (key, value) in &figures {
                            eprintln!("   {key} {value:.3}");
                        }
                        if !is_warm {
                            results.add(*kind, figures);
                        }
                    }
                    Err(error) => {
                        eprintln!("   failed: {error:#}");
                        results.failed(scenario.name, *kind, &format!("{error:#}"));
                    }
                }
            }
        }
    }
    if let Some(out) = &options.out {
        fs::write(out, format!("{:#}\n", results.json()))?;
    }
    let table = results.markdown();
    println!("{table}");
    if let Some(file) = &options.table {
        table::write_into(file, &table)?;
    }
    if results.has_failures() {
        bail!("some rounds gave no figure: see above, and the logs in the folder named first");
    }
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<&'static Scenario>> {
    let unknown = options
        .only
        .iter()
        .find(|name| !ALL.iter().any(|scenario| scenario.name == **name));
    if let Some(name) = unknown {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario {name}; there are {}", names.join(", "));
    }
    let is_wanted = |scenario: &&Scenario| {
        (options.only.is_empty() && scenario.effort != Effort::Alone)
            || options.only.iter().any(|name| name == scenario.name)
    };
    Ok(ALL.iter().filter(is_wanted).collect())
}

fn options() -> Result<Options> {
    let mut places = Places {
        rouse: PathBuf::new(),
        kamailio: PathBuf::new(),
        work: std::env::temp_dir().join(format!("rouse-bench-{}", std::process::id())),
    };
    let mut options = Options {
        places: Places {
            rouse: PathBuf::new(),
            kamailio: PathBuf::new(),
            work: PathBuf::new(),
        },
        only: Vec::new(),
        servers: vec![Kind::Rouse, Kind::Kamailio],
        rounds: 3,
        warm: 2,
        heavy: 3,
        size: Size::Full,
        out: None,
        table: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{name} needs a value\n\n{USAGE}"))
        };
        match name.as_str() {
            "--rouse" => places.rouse = value()?.into(),
            "--kamailio" => places.kamailio = value()?.into(),
            "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
            "--server" => {
                options.servers = match value()?.as_str() {
                    "rouse" => vec![Kind::Rouse],
                    "kamailio" => vec![Kind::Kamailio],
                    other => bail!("no server {other}\n\n{USAGE}"),
                }
            }
            "--rounds" => options.rounds = value()?.parse()?,
            "--warm" => options.warm = value()?.parse()?,
            "--heavy" => options.heavy = value()?.parse()?,
            "--quick" => options.size = Size::Quick,
            "--out" => options.out = Some(value()?.into()),
            "--table" => options.table = Some(value()?.into()),
            _ => bail!("{USAGE}"),
        }
    }
    if places.rouse.as_os_str().is_empty() || places.kamailio.as_os_str().is_empty() {
        bail!("{USAGE}");
    }
    options.places = places;
    Ok(options)
}
