"""First mapping and feed files from a sample, with their guesses marked; no value of the sample is written or shown."""
