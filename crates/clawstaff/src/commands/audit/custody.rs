//! `clawstaff audit hold` and `audit erase`: on the gateway's own host, where the keys are.

use bytes::Bytes;
use clawstaff_api::local::{
    ERASE, EraseAnswer, EraseRequest, HOLDS, Hold, HoldRequest, RETENTION, Retention, Subject,
};
use http::Method;

use crate::{
    client::escape,
    context::Context,
    failure::Failure,
    output::{self, Cell, Format},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum HoldCommand {
    /// Place a hold
    #[command(after_help = "Examples:
  clawstaff audit hold add case-4711 --subject member:uid-1000
  clawstaff audit hold add everything")]
    Add {
        /// Its name: a-z, 0-9 and `-`
        name: String,
        /// Whose content: `claw:NAME` or `member:ID`; everybody's without it
        #[arg(long)]
        subject: Option<Subject>,
    },
    /// Release a hold
    #[command(after_help = "Example:\n  clawstaff audit hold release case-4711")]
    Release {
        /// Its name
        name: String,
    },
    /// List the holds
    #[command(after_help = "Example:\n  clawstaff audit hold list")]
    List,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EraseArgs {
    /// Whose content: `claw:NAME` or `member:ID`
    subject: Subject,
}

pub(super) async fn hold(context: &Context, command: HoldCommand) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let path = |name: &str| format!("{HOLDS}/{}", escape(name));
    match command {
        HoldCommand::Add { name, subject } => {
            let hold: Hold = gateway.put(&path(&name), &HoldRequest { subject }).await?;
            output::note(&format!("{} is held by {}", whom(&hold), hold.name));
            Ok(())
        }
        HoldCommand::Release { name } => {
            gateway.tell(Method::DELETE, &path(&name), Bytes::new()).await?;
            output::note(&format!("released {name}"));
            Ok(())
        }
        HoldCommand::List => {
            let holds: Vec<Hold> = gateway.get(HOLDS).await?;
            context
                .output
                .list(&holds, &["NAME", "SUBJECT", "BY", "AT"], |hold| {
                    vec![
                        Cell::new(&hold.name),
                        Cell::new(whom(hold)),
                        Cell::new(&hold.by),
                        Cell::new(hold.at),
                    ]
                })
        }
    }
}

fn whom(hold: &Hold) -> String {
    hold.subject
        .as_ref()
        .map_or_else(|| "everything".to_owned(), ToString::to_string)
}

#[derive(Debug, clap::Args)]
pub(crate) struct RetentionArgs {
    /// Remove now what is older than it is kept
    #[arg(long)]
    apply: bool,
}

pub(super) async fn retention(context: &Context, args: RetentionArgs) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let retention: Retention = if args.apply {
        gateway.post(RETENTION, &()).await?
    } else {
        gateway.get(RETENTION).await?
    };
    if context.output == Format::Json {
        return output::json(&retention);
    }
    let Retention {
        keep_days,
        first,
        size,
        held,
        removed,
    } = retention;
    if args.apply {
        output::note(&format!("{removed} entries were removed"));
    }
    let kept = keep_days.map_or_else(|| "for ever".to_owned(), |days| format!("for {days} days"));
    let stopped = held.map_or_else(String::new, |hold| format!("; hold {hold} stops it"));
    output::line(&format!(
        "entries are kept {kept}{stopped}; the gateway's log has {size}, of which the first {first} were removed"
    ))
}

pub(super) async fn erase(context: &Context, args: EraseArgs) -> Result<(), Failure> {
    let request = EraseRequest {
        subject: args.subject,
    };
    let answer: EraseAnswer = context.gateway()?.post(ERASE, &request).await?;
    if context.output == Format::Json {
        return output::json(&answer);
    }
    output::note(&match answer {
        EraseAnswer::Erased { keys, record } => {
            format!(
                "erased {}: {keys} keys destroyed, record gateway:{record}",
                request.subject
            )
        }
        EraseAnswer::Waits => format!(
            "{} is erased once a second custodian gives the same command; it is on record that you did",
            request.subject
        ),
    });
    Ok(())
}
