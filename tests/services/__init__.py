"""Services other than sshd, each with its real program."""
