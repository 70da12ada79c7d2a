"""Set-ups that are unusual and right: nothing is found."""

from __future__ import annotations

from dataclasses import dataclass

from tests.doctor.broken import DROP_IN, PAM, config, match, ours, published, setting

EXAMPLES = "/usr/share/doc/pam-totp/examples"


@dataclass(frozen=True)
class Healthy:
    """`script` changes what `base` is; `needs` is a keyword that this sshd has to know."""

    name: str
    script: str
    base: str = "key"
    needs: str = ""
    real: bool = False


ROWS = (
    Healthy("the key variant", "", "pinned", real=True),
    Healthy("the password variant", "", "password"),
    Healthy("the combined variant", "", "combined"),
    Healthy(
        "pam_python as the engine",
        ours("auth required pam_python.so pam_totp.py first_factor=publickey"),
        real=True,
    ),
    Healthy(
        "the example files, copied by hand",
        f"rm {DROP_IN}; cp {EXAMPLES}/sshd_config.d/00-pam-totp-key-and-code.conf /etc/ssh/sshd_config.d/; "
        f"cp {EXAMPLES}/pam.d/sshd-key-and-code {PAM}",
    ),
    Healthy("a host of a fleet", published("good"), "fleet"),
    Healthy("robots", "pam-totp setup --robot alice@192.0.2.0/24 --robot root@192.0.2.9 --yes >/dev/null", "pinned"),
    Healthy(
        "a later file that says the contrary",
        "printf 'KbdInteractiveAuthentication no\\nAuthenticationMethods publickey\\n' "
        ">/etc/ssh/sshd_config.d/90-local.conf",
    ),
    Healthy(
        "everything in sshd_config itself, above Include",
        f"cat {DROP_IN} /etc/ssh/sshd_config >/etc/ssh/new; mv /etc/ssh/new /etc/ssh/sshd_config; rm {DROP_IN}",
    ),
    Healthy(
        "an Include in an included file",
        f"mkdir /etc/ssh/more; mv {DROP_IN} /etc/ssh/more/; echo Include /etc/ssh/more/*.conf >{DROP_IN}",
    ),
    Healthy("keywords with = and in capitals", f"sed -i 's/^UsePAM yes/USEPAM=yes/' {DROP_IN}"),
    Healthy("other ports and addresses", setting("Port", "2222") + "; " + setting("ListenAddress", "127.0.0.1")),
    Healthy("a Match block without a say in it", match("User alice", "X11Forwarding no")),
    Healthy(
        "a Match block that says it again",
        match("Address 192.0.2.0/24,2001:db8::/32", "AuthenticationMethods publickey,keyboard-interactive:pam"),
    ),
    Healthy(
        "sftp in a chroot",
        "groupadd sftp; usermod -aG sftp alice; "
        + match("Group sftp", "ChrootDirectory /srv", "ForceCommand internal-sftp", "AllowTcpForwarding no"),
    ),
    Healthy("a Match block for a group without members", "groupadd none; " + match("Group none", "X11Forwarding no")),
    Healthy(
        "several ways, each with PAM",
        setting("AuthenticationMethods", "publickey,keyboard-interactive:pam gssapi-with-mic,keyboard-interactive:pam")
        + "; "
        + setting("GSSAPIAuthentication", "yes"),
    ),
    Healthy(
        "GSSAPI is on, and no list has it",
        setting("GSSAPIAuthentication", "yes"),
    ),
    Healthy(
        "root has keys, and may not log in",
        setting("PermitRootLogin", "no")
        + "; install -d -m 700 /root/.ssh; cp /home/alice/.ssh/authorized_keys /root/.ssh/",
    ),
    Healthy(
        "users of another name service",
        "sed -i 's/^passwd:.*/passwd: files extrausers/; s/^shadow:.*/shadow: files extrausers/' /etc/nsswitch.conf; "
        "mkdir -p /var/lib/extrausers; sed -n 's/^alice:/carol:/p' /etc/passwd >/var/lib/extrausers/passwd",
    ),
    Healthy("no sshd runs: systemd starts one for each connection", ""),
    Healthy("sshd runs, and was reloaded", "/usr/sbin/sshd; until test -s /run/sshd.pid; do sleep 0.01; done"),
    Healthy(
        "a second sshd that is as strict",
        f"cp {DROP_IN} /etc/ssh/other; printf 'Port 2222\\nPidFile none\\n' >>/etc/ssh/other; "
        "/usr/sbin/sshd -f /etc/ssh/other",
    ),
    Healthy(
        "another host in a chroot has an sshd of its own",
        "mkdir -p /srv/other; mount --rbind / /srv/other; printf 'Port 2223\\nPidFile none\\n' >/etc/ssh/weak; "
        "mkdir -p /run/sshd; chroot /srv/other /usr/sbin/sshd -f /etc/ssh/weak",
    ),
    Healthy(
        "a PAM service of another name",
        f"mv {PAM} /etc/pam.d/ssh-codes; " + setting("PAMServiceName", "ssh-codes"),
        needs="PAMServiceName",
    ),
    Healthy(
        "pam-auth-update has put it into common-auth",
        f"sed -i '/^auth required pam_totp/d' {PAM}; pam-auth-update --enable pam-totp",
        "password",
    ),
    Healthy("requisite", ours("auth requisite pam_totp.so first_factor=publickey")),
    Healthy(
        "required, written out",
        ours("auth [success=ok new_authtok_reqd=ok ignore=ignore default=bad] pam_totp.so first_factor=publickey"),
    ),
    Healthy("a line that goes on", ours("AUTH required \\\\\\\\\\n  pam_totp.so first_factor=publickey")),
    Healthy(
        "the module by its full name",
        "module=$(ls /usr/lib/*/security/pam_totp.so); "
        f'sed -i "s|^auth required pam_totp.so|auth required $module|" {PAM}',
    ),
    Healthy(
        "pam_faillock around the password",
        "sed -i 's/^@include common-auth/auth required pam_faillock.so preauth\\n"
        "auth [success=1 default=bad] pam_unix.so\\n"
        f"auth [default=die] pam_faillock.so authfail\\nauth sufficient pam_faillock.so authsucc/' {PAM}; "
        f"sed -i 's/^auth sufficient pam_faillock/auth required pam_faillock/' {PAM}",
        "password",
    ),
    Healthy(
        "the password in a substack", f"sed -i 's/^@include common-auth/auth substack common-auth/' {PAM}", "password"
    ),
    Healthy(
        "a jump that stays before it",
        "sed -i '/^@include common-auth/i auth [success=1 default=ignore] pam_access.so\\nauth optional pam_warn.so' "
        f"{PAM}",
        "password",
    ),
    Healthy(
        "su and sudo ask as well",
        "sed -i '/^@include common-auth/a auth required pam_totp.so' /etc/pam.d/su /etc/pam.d/sudo",
    ),
    Healthy("whoever is not enrolled is refused", config('unenrolled = "deny"')),
    Healthy(
        "rules with networks, groups and services",
        config('[[rule]]\nnetworks = ["192.0.2.0/24"]\ngroups = ["alice"]\nservices = ["sshd"]\nmfa = "skip"'),
    ),
)
