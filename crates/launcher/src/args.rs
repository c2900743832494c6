//! The command line, which is the whole contract with the back end: flags with one value each, then `--` and the
//! command. Anything unknown, missing or repeated is refused; no environment variable and no file is read.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use crate::fault::{Fault, Result};

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make a cage and stay as its parent.
    Run(Box<Run>),
    /// Run one more command in a live cage.
    Exec(Box<Exec>),
}

/// Where `/data` comes from.
#[derive(Debug)]
pub(crate) enum Data {
    /// A directory of the host.
    Directory(PathBuf),
    /// An ext4 image, attached to a loop device; needs root.
    Image(PathBuf),
}

/// Who the cage's processes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    /// The one user id inside; never 0.
    pub(crate) inside: u32,
    /// The host's user and group id that it stands for. Root gives each cage its own; an ordinary user has
    /// only its own.
    pub(crate) outside: u32,
    pub(crate) outside_group: u32,
}

/// `run`
#[derive(Debug)]
pub(crate) struct Run {
    /// The cage's state directory: `stage/` must exist in it; `state` and `log` are written to it.
    pub(crate) state: PathBuf,
    pub(crate) hostname: String,
    /// The root file system's directory.
    pub(crate) image: PathBuf,
    /// Bound read-only at `/claw`.
    pub(crate) door: PathBuf,
    pub(crate) data: Data,
    /// Directory whose `hosts` and `resolv.conf` cover the image's own.
    pub(crate) etc: PathBuf,
    pub(crate) identity: Identity,
    /// Cgroup directories to put the cage in, limits written already.
    pub(crate) cgroups: Vec<PathBuf>,
    /// A file with an `oom_kill N` line: `memory.oom_control` (v1) or `memory.events` (v2).
    pub(crate) oom: Option<PathBuf>,
    pub(crate) pids: u64,
    pub(crate) tmp_bytes: u64,
    /// The log is two files of at most this size.
    pub(crate) log_bytes: u64,
    /// Variables on top of our own, `NAME=value`.
    pub(crate) env: Vec<Vec<u8>>,
    /// Where the command starts; `/data` when it is not said or not there.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) command: Vec<Vec<u8>>,
}

/// `exec`
#[derive(Debug)]
pub(crate) struct Exec {
    /// The host's process id of the cage's init, and its start time in clock ticks so that a reused id is noticed.
    pub(crate) pid: i32,
    pub(crate) started: u64,
    pub(crate) inside: u32,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) pids: u64,
    pub(crate) command: Vec<Vec<u8>>,
}

/// Flags as given, each with its value.
struct Flags {
    given: Vec<(String, OsString)>,
    command: Vec<Vec<u8>>,
}

pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command> {
    let verb = args.next().unwrap_or_default();
    let mut flags = Flags::read(args)?;
    let command = match verb.to_str() {
        Some("run") => Command::Run(Box::new(flags.run()?)),
        Some("exec") => Command::Exec(Box::new(flags.exec()?)),
        _ => return Err(Fault::new("usage: clawstaff-launcher run|exec FLAGS -- COMMAND")),
    };
    match flags.given.first() {
        Some((name, _)) => Err(Fault::new(format!("`{name}` is unknown here or given twice"))),
        None => Ok(command),
    }
}

impl Flags {
    fn read(mut args: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut given = Vec::new();
        while let Some(name) = args.next() {
            if name == "--" {
                let command: Vec<Vec<u8>> = args.map(OsString::into_vec).collect();
                return Ok(Self { given, command });
            }
            let name = name.to_string_lossy().into_owned();
            let value = args
                .next()
                .ok_or_else(|| Fault::new(format!("`{name}` has no value")))?;
            given.push((name, value));
        }
        Err(Fault::new("there is no `--` and no command"))
    }

    fn optional(&mut self, name: &str) -> Option<OsString> {
        let at = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.remove(at).1)
    }

    fn value(&mut self, name: &str) -> Result<OsString> {
        self.optional(name)
            .ok_or_else(|| Fault::new(format!("`{name}` is missing")))
    }

    fn path(&mut self, name: &str) -> Result<PathBuf> {
        let path = PathBuf::from(self.value(name)?);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(Fault::new(format!("`{name}` is not an absolute path")))
        }
    }

    fn paths(&mut self, name: &str) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        while self.given.iter().any(|(given, _)| given == name) {
            paths.push(self.path(name)?);
        }
        Ok(paths)
    }

    fn number<N: std::str::FromStr>(&mut self, name: &str) -> Result<N> {
        let value = self.value(name)?;
        let number = value.to_str().and_then(|text| text.parse().ok());
        number.ok_or_else(|| Fault::new(format!("`{name}` is not a number that fits")))
    }

    fn inside(&mut self) -> Result<u32> {
        match self.number("--uid")? {
            0 => Err(Fault::new("`--uid` is 0: nothing in a cage is root")),
            uid => Ok(uid),
        }
    }

    fn take_command(&mut self) -> Result<Vec<Vec<u8>>> {
        let command = std::mem::take(&mut self.command);
        if command.is_empty() {
            Err(Fault::new("there is no command after `--`"))
        } else {
            Ok(command)
        }
    }

    fn variables(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut variables = Vec::new();
        while let Some(variable) = self.optional("--env") {
            let variable = variable.into_vec();
            if variable
                .iter()
                .position(|byte| *byte == b'=')
                .is_none_or(|at| at == 0)
            {
                return Err(Fault::new("`--env` is not `NAME=value`"));
            }
            variables.push(variable);
        }
        Ok(variables)
    }

    fn data(&mut self) -> Result<Data> {
        if self.given.iter().any(|(given, _)| given == "--data-image") {
            self.path("--data-image").map(Data::Image)
        } else {
            self.path("--data").map(Data::Directory)
        }
    }

    fn run(&mut self) -> Result<Run> {
        let identity = Identity {
            inside: self.inside()?,
            outside: self.number("--host-uid")?,
            outside_group: self.number("--host-gid")?,
        };
        if identity.outside == 0 || identity.outside_group == 0 {
            return Err(Fault::new(
                "`--host-uid` or `--host-gid` is 0: no cage runs as the host's root",
            ));
        }
        Ok(Run {
            state: self.path("--state")?,
            hostname: self.value("--hostname")?.to_string_lossy().into_owned(),
            image: self.path("--image")?,
            door: self.path("--door")?,
            data: self.data()?,
            etc: self.path("--etc")?,
            identity,
            cgroups: self.paths("--cgroup")?,
            oom: self.optional("--oom").map(PathBuf::from),
            pids: self.number("--pids")?,
            tmp_bytes: self.number("--tmp-bytes")?,
            log_bytes: self.number("--log-bytes")?,
            env: self.variables()?,
            directory: self.optional("--directory").map(PathBuf::from),
            command: self.take_command()?,
        })
    }

    fn exec(&mut self) -> Result<Exec> {
        Ok(Exec {
            pid: self.number("--pid")?,
            started: self.number("--started")?,
            inside: self.inside()?,
            cgroups: self.paths("--cgroup")?,
            pids: self.number("--pids")?,
            command: self.take_command()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = OsString> {
        text.split(' ')
            .map(OsString::from)
            .collect::<Vec<_>>()
            .into_iter()
    }

    const RUN: &str = "run --state /s --hostname h --image /i --door /d --data /x --etc /e --uid 65532 --host-uid 7 \
                       --host-gid 7 --pids 64 --tmp-bytes 1 --log-bytes 1";

    #[test]
    fn a_complete_command_line_is_understood() {
        let Ok(Command::Run(run)) = parse(words(&format!(
            "{RUN} --cgroup /a --cgroup /b -- /sbin/claw init"
        ))) else {
            panic!("refused");
        };
        assert_eq!(run.cgroups.len(), 2);
        assert_eq!(run.command, [b"/sbin/claw".to_vec(), b"init".to_vec()]);
    }

    #[test]
    fn root_inside_or_outside_is_refused() {
        for (from, to) in [
            ("--uid 65532", "--uid 0"),
            ("--host-uid 7", "--host-uid 0"),
            ("--host-gid 7", "--host-gid 0"),
        ] {
            assert!(
                parse(words(&format!("{} -- /x", RUN.replace(from, to)))).is_err(),
                "{to}"
            );
        }
    }

    #[test]
    fn unknown_missing_and_repeated_flags_are_refused() {
        for line in [
            format!("{RUN} --surprise 1 -- /x"),
            format!("{RUN} --uid 5 -- /x"),
            format!("{RUN} --"),
            RUN.to_owned(),
            RUN.replace("--etc /e", "--etc e") + " -- /x",
            format!("{RUN} --env NONE -- /x"),
            RUN.replace("--pids 64 ", "") + " -- /x",
            "dance -- /x".to_owned(),
        ] {
            assert!(parse(words(&line)).is_err(), "{line}");
        }
    }
}
