"""Every family on one corpus at equal budgets: playing, standings, ratios."""
