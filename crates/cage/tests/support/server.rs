//! Servers of other people as child processes of a test.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

/// Waits until a server writes these words to its standard error, which it is to be given as a pipe.
pub(crate) fn until_it_says(child: &mut Child, words: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains(words)) {
        match lines.next() {
            Some(line) => said.push(line.unwrap()),
            None => panic!("it ended without `{words}`: {said:#?}"),
        }
    }
    // What it says from now on must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
}
