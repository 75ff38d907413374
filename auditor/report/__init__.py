"""What people and programs read: one folder or file a report, and what they share."""
