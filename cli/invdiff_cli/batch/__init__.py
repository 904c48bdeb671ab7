"""Many scans, unattended."""
