"""What is wrong with MFA on this host, and the command that mends it: one module for each thing that is looked at.

Nothing here is on the login path, and nothing here changes anything.
"""
