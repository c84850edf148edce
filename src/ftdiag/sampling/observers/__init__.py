"""Who sees what threads do: each module one way to read their stacks and what they wait for."""
