//! The ends of things that cages print: bounded, whatever they printed.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

const LINES: usize = 20;
const LINES_BYTES: usize = 2 << 10;

/// The last `most` bytes of `log.1` and `log` in `dir`, in this order.
pub(crate) fn of_log(dir: &Path, most: u64) -> io::Result<Vec<u8>> {
    let new = of_file(&dir.join("log"), most)?;
    let rest = most.saturating_sub(new.len() as u64);
    let mut all = if rest > 0 {
        of_file(&dir.join("log.1"), rest)?
    } else {
        Vec::new()
    };
    all.extend(new);
    Ok(all)
}

fn of_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of an output, as text.
pub(crate) fn lines(output: &[u8]) -> String {
    let start = output.len().saturating_sub(LINES_BYTES);
    let text = String::from_utf8_lossy(output.get(start..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(LINES)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_runs_over_both_files_and_stops_at_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_log(dir.path(), 10).unwrap(), b"");
        std::fs::write(dir.path().join("log.1"), "older\n").unwrap();
        std::fs::write(dir.path().join("log"), "new\n").unwrap();
        assert_eq!(of_log(dir.path(), 100).unwrap(), b"older\nnew\n");
        assert_eq!(of_log(dir.path(), 6).unwrap(), b"r\nnew\n");
        assert_eq!(of_log(dir.path(), 2).unwrap(), b"w\n");
    }

    #[test]
    fn last_lines_are_few_and_short() {
        let many = "line\n".repeat(1000);
        assert_eq!(lines(many.as_bytes()).lines().count(), LINES);
        assert!(lines(&vec![b'x'; 1 << 20]).len() <= LINES_BYTES);
        assert!(lines(&[0xff, b'a']).ends_with('a'));
    }
}
