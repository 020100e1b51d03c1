//! `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).

use crate::protocol::MountSeen;

/// All lines. One that means nothing is left out: a later comparison tells of a mount that is gone.
pub(crate) fn parse(text: &str) -> Vec<MountSeen> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<MountSeen> {
    let mut fields = line.split(' ');
    let (id, parent, device) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next()?.to_owned());
    let _root = fields.next()?;
    let (point, options) = (unescape(fields.next()?), fields.next()?.to_owned());
    let propagation: Vec<&str> = fields.by_ref().take_while(|field| *field != "-").collect();
    Some(MountSeen { id, parent, device, point, options, propagation: propagation.join(","), kind: fields.next()?.to_owned() })
}

/// Undoes `\040` and the like.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_with_and_without_propagation() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 ro,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n22 27 0:21 / /proc rw - proc proc rw\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        let first = MountSeen {
            id: 36,
            parent: 35,
            device: "98:0".into(),
            point: "/mnt 2".into(),
            options: "ro,noatime".into(),
            propagation: "master:1,shared:2".into(),
            kind: "ext3".into(),
        };
        assert_eq!(mounts[0], first);
        assert_eq!((mounts[1].propagation.as_str(), mounts[1].kind.as_str()), ("", "proc"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([0-9a-z:/ -]{0,60}\n){0,4}") {
            let _ = parse(&text);
        }
    }
}
