"""Parts of the sampler's process: its threads, and who holds what they wait for."""
