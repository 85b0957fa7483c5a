"""Readers of files that several sources share."""
