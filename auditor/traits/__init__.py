"""Trait panels, families, prompts and open mentions; no model."""
