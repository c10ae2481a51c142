"""D3PM: discrete Markov chains and their transition matrices."""
