"""The real sshd of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.machine import Machine

DROP_INS = "/etc/ssh/sshd_config.d"
PID_FILE = "/run/sshd.pid"
# Without these a test of many failures measures sshd's own limits (sshd_config(5)); a keyword that the machine's sshd
# does not know is left out.
RELAXED = {"MaxStartups": "2000", "PerSourcePenalties": "no", "PerSourceMaxStartups": "none"}


class Sshd:
    """Starts and stops sshd in a machine. Changed settings count from the next `start`, `reload` or `restart` on."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def drop_in(self, name: str, text: str) -> None:
        """Write sshd_config.d/NAME.conf. The first value of a keyword wins, in the order of the names."""
        self._machine.write(f"{DROP_INS}/{name}.conf", text)

    def remove(self, name: str) -> None:
        """Take a drop-in away."""
        self._machine.run(["rm", "--force", f"{DROP_INS}/{name}.conf"])

    def knows(self, setting: str) -> bool:
        """Whether this sshd accepts a setting such as "PerSourcePenalties=no"."""
        return not self._machine.run(["/usr/sbin/sshd", "-t", "-f", "/dev/null", "-o", setting], check=False).returncode

    def settings(self) -> dict[str, str]:
        """What sshd itself says its settings are, with lower-case keywords."""
        text = self._machine.run(["/usr/sbin/sshd", "-T"]).stdout
        return dict(line.partition(" ")[::2] for line in text.splitlines())

    def start(self, *, relaxed: bool = True) -> None:
        """Start sshd on port 22 of the machine; not `relaxed`: with the distribution's own limits on connections."""
        lines = [f"{key} {value}\n" for key, value in RELAXED.items() if relaxed and self.knows(f"{key}={value}")]
        self.drop_in("90-lab", "".join(lines))
        self._machine.run(["/usr/sbin/sshd"])
        self._wait_for_pid()

    def stop(self) -> None:
        """Stop the listening sshd if it runs; sessions go on, as on any machine."""
        script = f'pid=$(cat {PID_FILE}) || exit 0; kill "$pid"; while kill -0 "$pid"; do sleep 0.01; done'
        self._machine.sh(f"exec 2>&-; {script}")

    def restart(self, *, relaxed: bool = True) -> None:
        """Stop it if it runs, and start it."""
        self.stop()
        self.start(relaxed=relaxed)

    def reload(self) -> None:
        """Have sshd read its settings again (SIGHUP), as `systemctl reload ssh` does."""
        self._machine.sh(f'pid=$(cat {PID_FILE}); rm {PID_FILE}; kill -HUP "$pid"')
        self._wait_for_pid()

    def _wait_for_pid(self) -> None:
        """sshd writes its pid once it listens."""
        self._machine.sh(f"until test -s {PID_FILE}; do sleep 0.01; done")
