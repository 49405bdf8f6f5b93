"""Receipts that were written: read, put into rows, compared with what was claimed, and drawn."""
