//! The log answers, proves itself, and does not keep quiet about tampering.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    cli::{Ran, text},
    stage::Stage,
    story::Story,
};

/// "What did support-triage do, why, allowed by which grant?" is one query.
pub(super) async fn answers(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("The log answers: what did support-triage do, why, allowed by which grant?");
    let query = [
        "audit",
        "query",
        "--claw",
        "support-triage",
        "--cause",
        "Ev0SUP001",
    ];
    for line in stage.cli.must(&query, None).await?.lines().take(8) {
        story.note(line);
    }
    let records = stage.cli.json(&query).await?;
    let made = records
        .iter()
        .find(|record| text(record, "action") == "notion:pages.create");
    let grants = made
        .and_then(|record| record.get("grants")?.as_array().map(Vec::len))
        .unwrap_or_default();
    story.observe(
        made.is_some() && grants == 1,
        "the ticket's record names the message that caused it and the grant that allowed it",
    );
    let verified = stage.cli.run(&["audit", "verify"], None).await?;
    story.observe(
        verified.code == 0,
        format!("audit verify: {}", last_line(&verified.out)),
    );
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
}

/// A way of tampering with a copy of the log.
type Tamper = fn(&Path) -> anyhow::Result<()>;

/// On copies of the log: a flipped bit, a missing entry, a rollback. Each is found, and its place named.
pub(super) async fn tampering(story: &mut Story, stage: &Stage) -> anyhow::Result<()> {
    story.chapter("On a copy of the log: a bit flipped, an entry cut out, the log rolled back");
    let log = stage.data.join("gateway/log");
    let checkpoint = fs::read(log.join("checkpoint")).context("the log has no checkpoint")?;
    let held = stage.props.join("held.checkpoint");
    fs::write(&held, checkpoint).context("cannot keep the checkpoint")?;
    let copies: [(&str, Tamper); 3] = [
        ("one bit flipped", flip_a_bit),
        ("one entry cut out", cut_an_entry),
        ("rolled back", roll_back),
    ];
    for (what, tamper) in copies {
        let copy = copy_of(&log, &stage.props.join(what.replace(' ', "-")))?;
        tamper(&copy)?;
        let ran = verify(stage, &copy, &held).await?;
        let mut problems = ran
            .out
            .lines()
            .filter_map(|line| line.trim().strip_prefix("problem"));
        let said = problems
            .next_back()
            .map(str::trim)
            .map(|place| place.replace(&format!("{}/", copy.display()), ""));
        story.observe(
            ran.code == 6 && said.is_some(),
            format!("{what}: {}", said.unwrap_or("not noticed".to_owned())),
        );
    }
    Ok(())
}

async fn verify(stage: &Stage, copy: &Path, held: &Path) -> anyhow::Result<Ran> {
    let (copy, held) = (copy.display().to_string(), held.display().to_string());
    stage
        .cli
        .run(&["audit", "verify", &copy, "--from", &held], None)
        .await
}

fn copy_of(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_of(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy `{}`", entry.path().display()))?;
        }
    }
    Ok(to.to_owned())
}

/// The first segment file: the one that holds the log's first entries.
fn first_segment(log: &Path) -> anyhow::Result<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![log.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.into_iter().next().context("the log has no segment")
}

/// Where the leaves' JSON begins in a segment.
fn leaf_starts(segment: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(segment, br#"{"v":1,"#).collect()
}

fn flip_a_bit(log: &Path) -> anyhow::Result<()> {
    let path = first_segment(log)?;
    let mut bytes = fs::read(&path)?;
    let starts = leaf_starts(&bytes);
    let at = starts.get(starts.len() / 2).context("the log has no entries")? + 20;
    *bytes.get_mut(at).context("the segment is too short")? ^= 1;
    Ok(fs::write(&path, bytes)?)
}

/// Cuts from one leaf to the next, which is exactly one record, and fills up with the zeros of unused space.
fn cut_an_entry(log: &Path) -> anyhow::Result<()> {
    let path = first_segment(log)?;
    let mut bytes = fs::read(&path)?;
    let starts = leaf_starts(&bytes);
    let middle = starts.len() / 2;
    let (from, to) = (
        starts.get(middle).context("too few entries")?,
        starts.get(middle + 1).context("too few entries")?,
    );
    let length = bytes.len();
    bytes.drain(*from..*to);
    bytes.resize(length, 0);
    Ok(fs::write(&path, bytes)?)
}

/// Blanks the second half of the entries and everything derived, as an old backup would put the log back.
fn roll_back(log: &Path) -> anyhow::Result<()> {
    let path = first_segment(log)?;
    let mut bytes = fs::read(&path)?;
    let starts = leaf_starts(&bytes);
    let from = *starts.get(starts.len() / 2).context("too few entries")?;
    // Back to the end of the record before: the bytes between two leaves are the later one's header.
    let (previous, next) = (
        starts.first().context("no entries")?,
        starts.get(1).context("too few entries")?,
    );
    let end_of_first = bytes
        .get(*previous..*next)
        .context("no entries")?
        .iter()
        .rposition(|byte| *byte == b'}')
        .context("no entry")?;
    let header = next - previous - end_of_first - 1;
    bytes
        .get_mut(from.saturating_sub(header)..)
        .context("too few entries")?
        .fill(0);
    fs::write(&path, bytes)?;
    for derived in ["checkpoint", "tile"] {
        let path = log.join(derived);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
