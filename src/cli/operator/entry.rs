//! `rouse devices add`, `remove` and `entered`: the devices that do not say themselves how they are
//! woken.

use std::io::Read as _;

use anyhow::Context as _;

use super::{Whom, escaped, list, output, print, run as ask, show};
use crate::cli::Exit;
use crate::io::admin::view::{EnteredDevice, EnteredPage, NewDevice};

/// What is done with them.
#[derive(Debug, clap::Subcommand)]
pub(super) enum EntryCommand {
    /// Enter how an agent's device is woken whose app does not say it; holds from its next
    /// registration on.
    Add(AddArgs),
    /// Remove what was entered, or take a registered device out until it registers again.
    Remove(RemoveArgs),
    /// Show what was entered.
    Entered(EnteredArgs),
}

/// Which device, and how it is woken.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// USER, or USER@DOMAIN.
    agent: String,
    /// The push service: apns, apns.dev, fcm, webpush, or the name of a webhook.
    #[arg(long)]
    provider: String,
    /// As the app would write it in pn-param: TEAM.bundle.voip, a project, P256DH.AUTH.
    #[arg(long)]
    param: Option<String>,
    /// The app's token; - reads it from standard input, where no other user of the machine sees it.
    #[arg(long)]
    prid: String,
    /// Only the device with this +sip.instance.
    #[arg(long)]
    instance: Option<String>,
    /// Only a device whose User-Agent has this in it.
    #[arg(long)]
    user_agent: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

/// What to remove.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// Its name, as `rouse devices` or `rouse devices entered` shows it.
    id: String,
    #[command(flatten)]
    whom: Whom,
}

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct EnteredArgs {
    /// Only of agents whose name contains this.
    agent: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

/// Runs one of them.
pub(super) fn run(command: &EntryCommand) -> Exit {
    match command {
        EntryCommand::Add(args) => add(args),
        EntryCommand::Remove(args) => ask(&args.whom, async |client| {
            let path = format!("/api/devices/{}", escaped(&args.id));
            client.delete(&path).await?;
            output::progress("it is gone");
            Ok(())
        }),
        EntryCommand::Entered(args) => ask(&args.whom, async |client| {
            let path = list("/api/entered", &[("agent", args.agent.as_deref())]);
            let page: EnteredPage = client.get(&path).await?;
            print(args.whom.json, &page, show::entered)
        }),
    }
}

fn add(args: &AddArgs) -> Exit {
    ask(&args.whom, async |client| {
        let prid = if args.prid == "-" {
            let mut prid = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut prid);
            read.context("cannot read the token from standard input")?;
            prid.trim().to_owned()
        } else {
            args.prid.clone()
        };
        let device = NewDevice {
            agent: args.agent.clone(),
            provider: args.provider.clone(),
            param: args.param.clone(),
            prid,
            instance: args.instance.clone(),
            user_agent: args.user_agent.clone(),
        };
        let entered: EnteredDevice = client.send_json("/api/devices", &device).await?;
        print(args.whom.json, &entered, |entered| {
            show::entered(&EnteredPage {
                devices: vec![entered.clone()],
            })
        })
    })
}
