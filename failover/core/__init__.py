"""The pure protocol: no I/O, no clock, no await, no randomness."""
