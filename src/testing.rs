//! What tests need of the machine they run on.

use std::sync::OnceLock;

/// Sees to it that ssh-keygen is here: as root it is installed, with a word about it.
pub fn ssh_keygen() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let installed = crate::lab::provide(&[("ssh-keygen", "openssh-client")], &mut |line| eprintln!("{line}"));
        installed.expect("this test needs ssh-keygen: apt-get install openssh-client");
    });
}
