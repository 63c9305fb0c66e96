"""Two nodes on loopback: see them fail over, switch over, split and heal."""
