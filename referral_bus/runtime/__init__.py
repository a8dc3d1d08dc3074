"""What every service runs on: settings, logs, clock, metrics, health, start and stop, and the exactly-once worker."""
