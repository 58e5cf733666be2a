"""Scripts behind the Makefile: set-up, locks, the Debian 13 root.

Standard library only, since the first of them runs before anything is installed. Not in here:
anything that Perennial imports when it runs.
"""
