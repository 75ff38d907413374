"""From the rows of a data set to the tests, the verdict and the report of a scan."""
