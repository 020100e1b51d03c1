//! The few files of `/etc` that libraries ask for.

use std::path::Path;

use rustix::io::Errno;

use crate::init::InitContext;
use crate::step::CallError;

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let plan = &context.plan;
    let who = &plan.credentials;
    let (uid, gid) = who.inside.map_or((who.uid, who.gid), |inside| (inside.uid, inside.gid));
    let home = plan.home.display();
    let name = &plan.hostname;
    let files = [
        ("/etc/passwd", format!("root:x:0:0:root:/:/usr/sbin/nologin\nworker:x:{uid}:{gid}:worker:{home}:/usr/sbin/nologin\n")),
        ("/etc/group", format!("root:x:0:\nworker:x:{gid}:\n")),
        ("/etc/hosts", format!("127.0.0.1 localhost {name}\n")),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
        ("/etc/hostname", format!("{name}\n")),
    ];
    let root = context.new_root()?;
    for (path, text) in files {
        // A policy that binds its own file there has the say.
        if matches!(root.open(Path::new(path)), Err(Errno::NOENT)) {
            root.write_file(Path::new(path), text.as_bytes())?;
        }
    }
    Ok(())
}
