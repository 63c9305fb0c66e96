"""Probes: each small module asks one question about the world and yields one piece of evidence."""
