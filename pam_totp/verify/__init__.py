"""The verify service: other programs (a RADIUS server, a web portal) ask whether a code is right, over HTTP.

The answer is a login's, from ``login.attempt``; what is here is the door: who may ask, and what they are told.
"""
