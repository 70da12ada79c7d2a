"""The user portal: signing in with a code, enrolment, recovery codes, and one's own logins. Plain HTML, no scripts."""
