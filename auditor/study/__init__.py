"""The claims of 2509.23886 tested on a model of the user's: one file a claim, and what they
share.
"""
