"""The reference model: loading, tokens, the scoring pass, generation and the null model."""
