"""The HTTP interface: one application on the local socket and, where it is configured, over TCP."""
