"""Which columns a pass reads anew, and which it takes from the store."""
