//! System calls that no safe crate has, made by perl, which every Debian has and which is no less a program of the worker's than this one.

use std::process::Command;

use nix::errno::Errno;

use crate::attempt::Outcome;

/// One argument.
pub(crate) enum Arg {
    /// A number.
    Number(i64),
    /// A string, passed by address.
    Text(&'static str),
    /// So many bytes of zeros, passed by address.
    Zeros(usize),
    /// The number 1 as an `int`, passed by address.
    One,
}

/// A number.
pub(crate) fn n(number: i64) -> Arg {
    Arg::Number(number)
}

/// A string.
pub(crate) fn t(text: &'static str) -> Arg {
    Arg::Text(text)
}

/// A buffer of zeros.
pub(crate) fn z(size: usize) -> Arg {
    Arg::Zeros(size)
}

/// A string goes in by its own name, a number as one, a buffer by its size; out comes the errno, or `ok` and what was returned.
const SCRIPT: &str = r#"
my @a = map { /^t(.*)/s ? "$1" : /^z(.*)/ ? "\0" x $1 : /^o/ ? pack("i", 1) : substr($_, 1) + 0 } @ARGV;
my $r = syscall(shift @a, @a);
print $r == -1 ? $! + 0 : "ok $r";
"#;

/// Makes the call.
pub(crate) fn call(number: libc::c_long, args: &[Arg]) -> Outcome {
    let words = args.iter().map(|arg| match arg {
        Arg::Number(n) => format!("n{n}"),
        Arg::Text(t) => format!("t{t}"),
        Arg::Zeros(n) => format!("z{n}"),
        Arg::One => "o".to_owned(),
    });
    match Command::new("/usr/bin/perl").args(["-e", SCRIPT]).arg(format!("n{number}")).args(words).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            match text.parse() {
                Ok(errno) => Outcome::Refused(Errno::from_raw(errno)),
                Err(_) if text.starts_with("ok") => Outcome::Done(text),
                Err(_) => Outcome::Untried("perl did not end well"),
            }
        }
        Err(_) => Outcome::Untried("no perl"),
    }
}
