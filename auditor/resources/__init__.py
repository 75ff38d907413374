"""The organism and the sample data sets."""
