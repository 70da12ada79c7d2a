"""Real logins without a real machine.

`sources` takes the machine's own Debian archives, `roots` makes a base root of each suite from them with mmdebstrap,
and `package` builds the .deb and installs it in a layer on top; `cache` keeps all of these. `machine` puts namespaces
and a throw-away overlay around a root: `boot.sh` lays out the file systems, `init.py` is pid 1 and keeps the log
(`syslog` takes it apart). It takes a tenth of a second, and when the machine is left nothing of it remains: no mount,
no process, no file. Only `lo` is up in it, so every login is an offline one.

In a machine, `sshd` is the real server, `ssh` the real client on a terminal, `pam` runs pamtester, `setup` does what an
administrator does, and `code` computes codes with oathtool; `verify`, `vpn` and `sso` are what else people log in to.
`demo`, `demo_doors` and `bench` are `./run demo`, `./run demo doors` and `./run bench`; the fixtures for tests are in
`tests/conftest.py`.
"""
