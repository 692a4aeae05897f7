"""The feed lab: what a feed makes of a corpus, beside what it made before and what the deployed maps make of it."""
