# pam_python.so compiles this file again at every login; everything else is in the package, which is byte-compiled once.
from pam_totp.pam_entry import pam_sm_acct_mgmt, pam_sm_authenticate, pam_sm_chauthtok  # noqa: F401 (found by name)
from pam_totp.pam_entry import pam_sm_close_session, pam_sm_open_session, pam_sm_setcred  # noqa: F401 (found by name)
