"""One library function for each verb of the command line."""
