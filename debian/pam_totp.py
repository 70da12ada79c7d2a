"""What the PAM line names. It is compiled anew at every login, so everything else is in the byte-compiled package."""

# ruff: noqa: INP001, F401 - a script, in which pam_python.so looks up the six functions
from pam_totp.pam_entry import (
    pam_sm_acct_mgmt,
    pam_sm_authenticate,
    pam_sm_chauthtok,
    pam_sm_close_session,
    pam_sm_open_session,
    pam_sm_setcred,
)
