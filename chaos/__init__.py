"""Chaos on real parts: two machines with a network, disks and clocks of their own, faults in all of them, and a verdict."""
