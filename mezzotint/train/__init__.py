"""Training: one loop for every objective, with exact resume, live progress and records."""
