"""`./run vagrant`: the Vagrantfile of this checkout, run by the real vagrant, and real logins into the box it makes."""
