"""Pictures for people, and the report."""
