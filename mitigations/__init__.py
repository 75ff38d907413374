"""Defences: one file each."""
