"""What is known of a request while it runs and afterwards: its record, metrics, logs, traces."""
