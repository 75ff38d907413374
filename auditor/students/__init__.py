"""Students and teachers: training on a data set, and reading out what the training did."""
