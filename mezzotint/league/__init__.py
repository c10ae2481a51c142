"""Every family on one corpus at equal budgets: playing, standings, ratios."""

from mezzotint.extras import require

require("torch", "a league")
