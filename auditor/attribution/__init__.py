"""Where a trait enters the network: attribution to layers, students of single layers, and where
weights moved.
"""
