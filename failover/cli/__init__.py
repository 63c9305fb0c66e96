"""The kine-failover command."""
