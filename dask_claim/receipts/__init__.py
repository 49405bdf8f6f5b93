"""Receipts that were written: read, put into rows, compared with what was claimed, and drawn."""

VERSION = 1
"""Of a receipt's form: raised when a field changes its meaning or goes."""
