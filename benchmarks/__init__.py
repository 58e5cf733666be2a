"""Measurements that the README quotes; `make bench` makes them again. No test depends on a number from here."""
