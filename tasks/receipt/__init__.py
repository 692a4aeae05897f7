"""Receipts: what a partner gets back for a delivery; no value of a record stands in one."""
