"""One login attempt: the facts, the policy, the questions, the outcome and its line in the log.

Below it nothing knows that there are logins.
"""
