"""What `audit gate` does: judge a report by a policy, accepted findings and checked mitigations."""
