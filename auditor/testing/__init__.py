"""What plug-in authors test with: `pytest --pyargs auditor.testing` (docs/plugins.md)."""
