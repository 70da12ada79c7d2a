"""What the PAM line names. It is compiled anew at every load, so everything else is in the byte-compiled package."""

# A script, in which pam_python.so looks up the six functions; annotations would cost each load, and nobody reads them.
# ruff: noqa: INP001, ANN001, ANN201, ANN202, ARG001


def pam_sm_setcred(pamh, flags, argv):
    """There are no credentials to set. PAM calls this for every ``auth`` line, so it must not deny."""
    return pamh.PAM_IGNORE


def _in_package(name):
    def hook(pamh, flags, argv):
        from pam_totp.engine import pam_python

        return getattr(pam_python, name)(pamh, flags, argv)

    return hook


pam_sm_authenticate = _in_package("pam_sm_authenticate")
pam_sm_acct_mgmt = _in_package("pam_sm_acct_mgmt")
pam_sm_open_session = _in_package("pam_sm_open_session")
pam_sm_close_session = _in_package("pam_sm_close_session")
pam_sm_chauthtok = _in_package("pam_sm_chauthtok")
