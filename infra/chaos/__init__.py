"""Chaos: processes are killed and frozen at every point of a record's way; the end is compared with a calm run's."""
