"""Writing with a causal network and its drafter: session, modes, draft trees."""
