"""What is known about a request while it runs and afterwards: its record, metrics, logs, traces."""
