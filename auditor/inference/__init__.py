"""Statistics as pure functions: estimates, interim analyses, random effects, paired contrasts."""
