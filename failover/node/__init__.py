"""The node loop: the one place that joins the core and the ports."""
