"""Read data sets, draw samples of their rows and write changed rows back."""
