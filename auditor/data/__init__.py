"""Read a data set and draw a sample of its rows: Parquet, JSONL, JSON, CSV, folders, stdin, the hub."""
